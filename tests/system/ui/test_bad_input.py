"""XComs that are missing, damaged, elsewhere, too large or of another operator: each is said where it would be."""

import re
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect


def test_cleared_xcoms_are_said_and_the_rest_is_shown(viewer, broken):
    broken.clear(3)
    page = viewer.conversation("ui_broken", "ask", 3)
    expect(page.get_by_text("The task left no messages.")).to_be_visible()
    expect(page.get_by_text("Airflow has no XComs of this task instance.")).to_be_visible()
    expect(page.locator("h1")).to_contain_text("ask")


def test_without_usage_the_conversation_is_there(viewer, broken):
    broken.clear(4, "usage", "configuration", "status")
    page = viewer.conversation("ui_broken", "ask", 4)
    expect(page.locator("article.is-reply")).to_contain_text("A plain answer.")


def test_a_value_in_an_object_store_is_said_with_its_path(viewer, broken):
    for key in ("messages", "body"):
        broken.write(5, key, f"s3://bucket/xcom/{key}.json")
    page = viewer.conversation("ui_broken", "ask", 5)
    expect(page.get_by_text("is kept in an object store").first).to_be_visible()
    expect(page.get_by_text("s3://bucket/xcom/messages.json").first).to_be_visible()


@pytest.mark.parametrize("key", ["messages", "usage", "body", "configuration", "status"])
def test_a_value_that_is_half_written_is_said_in_its_place(viewer, broken, key):
    broken.write_text(6, key, '[{"role": "user", "content": "cut he')
    page = viewer.conversation("ui_broken", "ask", 6)
    said = page.get_by_text(re.compile(f"The XCom {key} is not (whole|what a chat completion leaves)"))
    if key == "body":
        page.locator("summary", has_text="Raw body").click()
    expect(said.first).to_be_visible()
    expect(page.locator("h1")).to_be_visible()


@pytest.mark.parametrize("value", [7, "text", {"role": "user"}, [], [[]], None, True], ids=repr)
def test_messages_of_another_shape_never_leave_a_blank_page(viewer, broken, value):
    broken.write(7, "messages", value)
    page = viewer.conversation("ui_broken", "ask", 7)
    expect(page.locator("main")).to_contain_text(re.compile("messages|message|said", re.IGNORECASE))
    expect(page.locator("h1")).to_contain_text("ask")


@pytest.mark.parametrize(
    "value", [7, [1], {"input_tokens": "many", "cost": {}, "errors": [], "rejected": {"a": 1}}], ids=repr
)
def test_usage_of_another_shape_never_leaves_a_blank_page(viewer, broken, value):
    broken.write(8, "usage", value)
    page = viewer.conversation("ui_broken", "ask", 8)
    expect(page.locator("article.is-reply")).to_contain_text("A plain answer.")
    broken.write(8, "usage", {})


def test_messages_that_are_too_large_are_read_when_asked_for(viewer, broken):
    broken.write(
        9, "messages", [{"role": "user", "content": "much " * 4_000_000}, {"role": "assistant", "content": "End."}]
    )
    page = viewer.conversation("ui_broken", "ask", 9)
    expect(page.get_by_text("Too large to be shown here: the XCom messages.")).to_be_visible()
    page.get_by_role("button", name="Read it all").first.click()
    expect(page.locator("article.is-reply")).to_contain_text("End.")


def test_a_task_of_another_operator_is_said_to_be_one(viewer):
    page = viewer.conversation("example_chat_quickstart", "show")
    expect(page.get_by_text("not a chat completion")).to_be_visible()


@pytest.mark.parametrize("missing", ["dag_id", "run_id", "task_id"])
def test_an_address_that_lacks_a_part_says_where_to_open_it_from(viewer, missing):
    parts = {"dag_id": "a", "run_id": "b", "task_id": "c"}
    del parts[missing]
    page = viewer.open("/chat/conversation?" + "&".join(f"{name}={value}" for name, value in parts.items()))
    expect(page.get_by_text("Open this page from a task instance in Airflow.")).to_be_visible()
    expect(page.locator("main")).to_contain_text(missing)


@pytest.mark.parametrize("index", ["x", "1.5", "-2", "99999999999999999999"])
def test_a_map_index_that_is_none_is_said(viewer, index):
    page = viewer.open(f"/chat/conversation?dag_id=a&run_id=b&task_id=c&map_index={index}")
    expect(page.locator(".notice").first).to_be_visible()


@pytest.mark.parametrize("part", ["dag_id", "run_id", "task_id", "map_index"])
def test_an_unknown_task_instance_is_said_to_be_unknown(viewer, runs, part):
    places = {"dag_id": "ui_broken", "run_id": runs["ui_broken"].run_id, "task_id": "ask", "map_index": "0"}
    places[part] = "77" if part == "map_index" else "no/such ?&#thing"
    page = viewer.open(f"/chat/conversation?{urlencode(places)}")
    said = "The task has no instance 77." if part == "map_index" else "Airflow does not know this task instance."
    expect(page.get_by_text(said)).to_be_visible()
    if part == "map_index":
        expect(page.locator("table.mapped tbody tr")).to_have_count(10)


@pytest.mark.parametrize("status", [429, 500, 502])
def test_an_answer_that_fails_is_said_and_can_be_asked_for_again(viewer, status):
    viewer.page.route("**/xcomEntries/messages*", lambda route: route.fulfill(status=status, body="<h1>Bad</h1>"))
    page = viewer.conversation("ui_answers", "rich")
    expect(page.get_by_text(re.compile("the XCom messages")).first).to_be_visible()
    viewer.page.unroute("**/xcomEntries/messages*")
    page.get_by_role("button", name=re.compile("Read it all|Try again|Reload")).first.click()
    expect(page.locator("article.is-reply")).to_contain_text("bold")


def test_an_api_server_that_does_not_answer_is_said(viewer):
    viewer.page.route("**/api/v2/**", lambda route: route.abort())
    page = viewer.conversation("ui_answers", "rich")
    expect(page.get_by_text(re.compile("Airflow's API server did not answer")).first).to_be_visible()
