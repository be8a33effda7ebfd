"""The Chat usage page over the runs of a real Airflow."""

import csv
import io
import re

import pytest
from playwright.sync_api import expect

TABLE = "section.usage-table"


@pytest.fixture
def usage(viewer):
    page = viewer.open("/chat/usage")
    expect(page.get_by_role("region", name="What was read")).to_contain_text(re.compile(r"All \d+ task instances read"))
    return page


def by(page, name):
    page.get_by_role("group", name="One line for each of").get_by_role("button", name=name, exact=True).click()


def lines(page):
    return page.locator(f"{TABLE} tbody tr")


def column(page, title):
    """The texts of a column, from top to bottom."""
    titles = page.locator(f"{TABLE} thead th").all_inner_texts()
    at = next(number for number, text in enumerate(titles) if text.strip(" ↓↑\n") == title)
    return page.locator(f"{TABLE} tbody tr > :nth-child({at + 1})").all_inner_texts()


def test_it_has_totals_plots_and_a_line_for_each_dag(usage, runs):
    expect(usage.get_by_label("Totals of what was read")).to_contain_text("Tokens in")
    expect(usage.locator("canvas").first).to_be_visible()
    names = {name.strip() for name in usage.locator(f"{TABLE} tbody th").all_inner_texts()}
    assert names >= set(runs)


def test_failures_are_counted_by_kind(usage):
    usage.get_by_role("button", name="ui_failures").click()
    failures = usage.locator(".total", has_text="Failures")
    for kind in ("StatusError 401", "StatusError 400"):
        expect(usage.locator("main")).to_contain_text(kind)
    expect(failures.locator(".total-value")).to_have_text(re.compile(r"\d"))


def test_tasks_that_sent_nothing_are_listed_when_asked_for(usage):
    usage.get_by_text("List the others").click()
    expect(usage.get_by_role("link", name=re.compile("invalid")).first).to_be_visible()


def test_a_filter_leaves_what_fits_and_is_in_the_address(usage):
    usage.locator("label", has_text=re.compile("^DAG")).locator("select").select_option("example_chat_chained")
    expect(lines(usage)).to_have_count(1)
    by(usage, "Tasks")
    expect(lines(usage)).to_have_count(3)
    assert "example_chat_chained" in usage.url
    usage.reload()
    expect(lines(usage)).to_have_count(3)
    usage.go_back()
    usage.get_by_role("button", name="Clear filters").click()
    expect(lines(usage).nth(1)).to_be_visible()


def test_a_range_before_the_runs_has_nothing(viewer):
    page = viewer.open("/chat/usage?range=custom&from=2020-01-01T00:00:00.000Z&to=2020-01-02T00:00:00.000Z")
    expect(page.locator("main")).to_contain_text("There is nothing in this range.")


def test_the_table_sorts_by_each_column_and_says_so(usage):
    by(usage, "Tasks")
    head = usage.locator(f"{TABLE} thead th", has_text="Tokens out")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")

    def numbers():
        return [int(re.sub(r"\D", "", text) or -1) for text in column(usage, "Tokens out")]

    assert (found := numbers()) == sorted(found, reverse=True)
    head.get_by_role("button").press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    known = [number for number in numbers() if number >= 0]
    assert known == sorted(known)


def test_finding_a_text_leaves_its_lines(usage):
    by(usage, "Tasks")
    usage.get_by_placeholder("Find").fill("wrong_key")
    expect(lines(usage)).to_have_count(1)
    usage.get_by_placeholder("Find").fill("no such text")
    expect(usage.get_by_text("Nothing has this text.")).to_be_visible()


def test_the_lines_can_be_saved_as_csv(usage):
    by(usage, "Task instances")
    with usage.expect_download() as download:
        usage.get_by_role("button", name="Download CSV").click()
    text = download.value.path().read_text("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert download.value.suggested_filename.endswith(".csv")
    row = next(row for row in rows if row.get("task_id") == "rich" or "rich" in row.values())
    assert "9" in row.values()  # tokens in
    # A spreadsheet must not take a cell for a formula.
    assert not any(value[:1] in tuple("=+@") for row in rows for value in row.values() if value)


def test_a_line_leads_to_its_conversation(usage, viewer):
    by(usage, "Task instances")
    usage.get_by_placeholder("Find").fill("rich")
    lines(usage).locator("a").first.click()
    viewer.settled()
    expect(viewer.page.locator("article.is-reply")).to_contain_text("bold")


def test_a_model_of_a_server_is_shown_as_the_text_it_is(viewer, broken):
    name = "<img src=x onerror=alert(1)> \u202egnp.exe"
    broken.write(0, "usage", {"requests": 1, "input_tokens": 5, "model": name, "errors": {"<b>kind</b>": 2}})
    page = viewer.open("/chat/usage?by=model")
    expect(page.locator("main")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("main img").count() == 0
    assert "\u202e" not in page.locator(TABLE).inner_text()


def test_no_body_and_no_message_is_read(usage, viewer):
    assert any("/xcomEntries/usage" in address for address in viewer.asked)
    keys = {match[1] for address in viewer.asked if (match := re.search(r"/xcomEntries/(\w+)", address))}
    assert keys == {"usage"}


def test_a_value_that_cannot_be_read_is_left_out_and_counted(viewer):
    viewer.page.route("**/ui_answers/**/xcomEntries/usage*", lambda route: route.fulfill(status=500, body="no"))
    page = viewer.open("/chat/usage")
    expect(page.get_by_role("region", name="What was read")).to_contain_text(re.compile("not read"))
    expect(page.locator(TABLE)).to_contain_text("example_chat_chained")


def test_an_api_server_that_does_not_answer_is_said(viewer):
    viewer.page.route("**/api/v2/**", lambda route: route.abort())
    page = viewer.open("/chat/usage")
    expect(page.get_by_text(re.compile("did not answer")).first).to_be_visible()
