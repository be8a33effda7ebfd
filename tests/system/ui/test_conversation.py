"""The Conversation page of each kind of task, in runs of a real Airflow."""

import json
import re

from playwright.sync_api import expect

from tests.system.ui.answers import ASKED_AGAIN


def fact(page, name):
    return page.locator(".fact", has=page.locator("dt", has_text=re.compile(f"^{name}$"))).locator("dd").first


def open_fold(page, summary):
    fold = page.locator("details", has=page.locator("summary", has_text=summary)).last
    fold.locator("summary").first.click()
    return fold


def test_a_conversation_has_its_messages_its_reply_and_what_it_took(viewer):
    page = viewer.conversation("ui_answers", "rich")
    messages = page.locator("article.message")
    expect(messages).to_have_count(3)
    assert [messages.nth(at).locator("h3").inner_text().split()[0] for at in range(3)] == ["System", "User", "Reply"]
    expect(messages.nth(2)).to_have_class(re.compile("is-reply"))
    expected = {"Model": "rich", "HTTP status": "200", "Finish reason": "stop", "Tokens in": r"\d", "Tokens out": r"\d"}
    expected |= {"Calls": r"1\s*1 attempt", "Duration": r"\d", "Request id": "req-rich", "Cost": "unknown"}
    for name, value in expected.items():
        expect(fact(page, name)).to_have_text(re.compile(value))
    expect(page).to_have_title(re.compile("rich"))


def test_markdown_is_shown_as_what_it_means(viewer):
    reply = viewer.conversation("ui_answers", "rich").locator("article.is-reply")
    for inside, text in (("strong", "bold"), ("em", "slanted"), ("ol li", "first"), ("table td", "kettle")):
        expect(reply.locator(inside).first).to_have_text(text)
    expect(reply.get_by_role("heading", name="A heading")).to_be_visible()
    link = reply.locator("a[href='https://example.com/page']")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    # Highlighted: the keyword is in an element of its own.
    expect(reply.locator("pre span", has_text=re.compile("^def$")).first).to_be_visible()
    expect(reply.locator("pre span", has_text=re.compile("^null$")).first).to_be_visible()


def test_the_raw_body_is_one_click_away(viewer):
    page = viewer.conversation("ui_answers", "rich")
    fold = open_fold(page, "Raw body")
    expect(fold).to_contain_text('"finish_reason"')
    with page.expect_download() as download:
        fold.get_by_role("button", name="Download").click()
    body = json.loads(download.value.path().read_text("utf-8"))
    assert body["model"] == "rich"


def test_the_call_can_be_copied_as_curl_without_the_key(viewer):
    page = viewer.conversation("ui_answers", "rich")
    fold = open_fold(page, "Copy as curl")
    expect(fold).to_contain_text("API_KEY")
    expect(fold).to_contain_text("What is rich?")
    assert "sk-test-ui" not in page.content()


def test_reasoning_is_folded(viewer):
    page = viewer.conversation("ui_answers", "reasoning")
    fold = page.locator("details.reasoning")
    expect(fold).to_have_js_property("open", False)
    fold.locator("summary").click()
    expect(fold).to_contain_text("First I think.")


def test_an_answer_that_was_asked_for_again_says_what_was_wrong(viewer):
    page = viewer.conversation("ui_answers", "asked_again")
    expect(fact(page, "Calls")).to_contain_text("2")
    expect(page.get_by_text("did not fit and was asked for again")).to_be_visible()
    expect(page.locator(".rejected li")).to_have_count(1)
    expect(page.locator("article.is-reply")).to_contain_text("good")
    assert ASKED_AGAIN not in page.locator(".rejected").inner_text()


def test_an_answer_that_was_cut_off_is_marked(viewer):
    expect(fact(viewer.conversation("ui_answers", "cut_off"), "Finish reason").locator(".tone-warning")).to_have_text(
        "length"
    )


def test_other_choices_are_shown(viewer):
    page = viewer.conversation("ui_answers", "several")
    expect(page.locator("article.is-reply")).to_contain_text("The first choice.")
    expect(page.get_by_label("Other choices")).to_contain_text("The second choice.")


def test_a_stream_looks_as_any_other_answer(viewer):
    expect(viewer.conversation("ui_answers", "streamed").locator("article.is-reply")).to_contain_text("came in pieces")


def test_earlier_tries_are_reachable_with_what_their_logs_say(viewer):
    page = viewer.conversation("ui_answers", "second_try")
    expect(page.locator("article.is-reply")).to_contain_text("Loaded now.")
    open_fold(page, re.compile(r"tries"))
    tries = page.locator("ol.tries > li")
    expect(tries.first).to_contain_text("failed")
    expect(tries.last).to_contain_text("success")
    tries.first.locator("summary").click()
    expect(tries.first).to_contain_text("503")


def test_without_messages_the_question_and_the_answer_come_from_elsewhere(viewer):
    page = viewer.conversation("ui_answers", "without_messages")
    expect(page.get_by_text("The task left no messages.")).to_be_visible()
    expect(page.get_by_label("Messages")).to_contain_text("What is without_messages?")
    expect(page.get_by_label("Messages")).to_contain_text("Not in the list of messages.")


def test_a_branch_says_what_was_chosen(viewer):
    for dag_id, task_id in (("ui_answers", "branch"), ("example_chat_typed_answers", "decide")):
        expect(viewer.conversation(dag_id, task_id).locator(".picked")).to_contain_text("refund")


def test_a_chained_conversation_has_what_came_before(viewer):
    page = viewer.conversation("example_chat_chained", "summarise")
    expect(page.locator("article.message")).to_have_count(7)
    expect(page.locator("article.is-reply")).to_have_count(1)


def test_tool_calls_and_their_results_find_each_other(viewer):
    page = viewer.conversation("example_chat_tool_round", "answer")
    call = page.locator(".call")
    expect(call).to_contain_text("stock_of")
    expect(call).to_contain_text("product")
    call.get_by_role("link", name=re.compile("answered in message")).click()
    expect(page.locator("article.role-tool")).to_be_focused()
    expect(page.locator("article.role-tool")).to_contain_text("in_stock")


def test_mapped_instances_lead_to_each_other(viewer):
    page = viewer.conversation("example_chat_mapped", "rate", 0)
    expect(page.locator("article.role-user")).to_contain_text("Works as described.")
    open_fold(page, "Other instances")
    page.locator("table.mapped a").nth(1).click()
    viewer.settled()
    expect(page.locator("article.role-user")).to_contain_text("Arrived broken, twice.")


def test_a_mapped_task_without_an_index_lists_its_instances(viewer):
    page = viewer.conversation("example_chat_mapped", "rate")
    expect(page.locator("table.mapped tbody tr")).to_have_count(3)


def test_a_deferred_call_looks_as_one_in_a_worker(viewer):
    page = viewer.conversation("example_chat_deferred", "shorten")
    expect(page.locator("article.message")).to_have_count(4)
    expect(fact(page, "HTTP status")).to_have_text("200")


def test_attachments_are_named(viewer):
    page = viewer.conversation("example_chat_invoices", "read", 0)
    expect(page.locator("article.role-user")).to_contain_text("invoice-1041.png")


def test_a_refused_call_says_what_came_and_what_can_be_done(viewer):
    page = viewer.conversation("ui_failures", "wrong_key")
    why = page.get_by_label("Why the task failed")
    expect(why).to_contain_text("key")
    expect(why).to_contain_text("Incorrect API key provided")
    expect(fact(page, "HTTP status")).to_have_text("401")
    expect(page.locator("article.role-user")).to_contain_text("What is wrong_key?")


def test_a_rate_limit_is_named(viewer):
    expect(viewer.conversation("ui_failures", "limited").get_by_label("Why the task failed")).to_contain_text("429")


def test_a_server_that_cannot_be_reached_is_named(viewer):
    why = viewer.conversation("ui_failures", "unreachable").get_by_label("Why the task failed")
    expect(why).to_contain_text(re.compile("127.0.0.1:1|refused"))


def test_a_request_that_was_never_sent_says_its_mistake(viewer):
    why = viewer.conversation("ui_failures", "invalid").get_by_label("Why the task failed")
    expect(why).to_contain_text("temperature")


def test_a_body_that_is_not_json_is_shown_as_it_came(viewer):
    why = viewer.conversation("ui_failures", "not_a_completion").get_by_label("Why the task failed")
    expect(why).to_contain_text("<html>Sign in</html>")


def test_a_batch_has_its_counts_and_the_first_failures_of_each_kind(viewer):
    page = viewer.conversation("ui_failures", "batch")
    batch = page.get_by_label("The batch")
    expect(fact(page, "Rows")).to_have_text("12")
    expect(fact(page, "Answered")).to_have_text("4")
    expect(fact(page, "Failed")).to_have_text("4")
    expect(fact(page, "Without a line yet")).to_have_text("4")
    expect(batch).to_contain_text("StatusError 400")
    expect(batch.locator(".first-failures").first.locator("li")).to_have_count(3)
    expect(batch).to_contain_text("The row has <b>bad</b> words")


def test_a_batch_without_failures_has_its_counts(viewer):
    page = viewer.conversation("example_chat_bulk_reviews", "classify")
    expect(fact(page, "Failed")).to_have_text("0")
    expect(page.get_by_role("progressbar", name="Rows that are done")).to_be_visible()
