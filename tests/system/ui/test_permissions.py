"""The pages show what Airflow shows their user, and say so where it shows nothing."""

import re

from playwright.sync_api import expect

from tests.system.ui.answers import SECRET


def test_who_may_not_see_the_dag_is_told_so_and_sees_nothing_of_it(visit):
    page = visit("stranger").conversation("hidden_chat", "ask")
    expect(page.get_by_text(re.compile("You may not see")).first).to_be_visible()
    for text in (SECRET, "What is ask?", "secret"):
        assert text not in page.content()


def test_who_may_see_the_dag_sees_it(viewer):
    expect(viewer.conversation("hidden_chat", "ask").locator("article.is-reply")).to_contain_text(SECRET)


def test_the_usage_page_leaves_out_what_its_user_may_not_see(visit):
    stranger, viewer = visit("stranger"), visit("viewer")
    expect(viewer.open("/chat/usage").locator("main")).to_contain_text("hidden_chat")
    page = stranger.open("/chat/usage")
    expect(page.locator("main")).to_contain_text("example_chat_chained")
    assert "hidden_chat" not in page.content()


def test_a_session_that_has_ended_is_said_with_the_way_to_sign_in(visit):
    for path in ("conversation?dag_id=ui_answers&run_id=x&task_id=rich", "usage"):
        page = visit(None).open(f"/chat/{path}")
        expect(page.get_by_text("Sign in to Airflow again.").first).to_be_visible()
        expect(page.get_by_role("link", name="Go to Airflow").first).to_be_visible()


def test_a_session_that_ends_while_the_page_is_open_is_said(viewer):
    page = viewer.conversation("ui_answers", "rich")
    viewer.context.clear_cookies()
    page.get_by_role("button", name="Reload").click()
    expect(page.get_by_text("Sign in to Airflow again.").first).to_be_visible()


def test_a_session_that_has_run_out_is_said(visit, site):
    visitor = visit(None)
    visitor.context.add_cookies([{"name": "_token", "value": "not.a.token", "url": site.host_url}])
    page = visitor.conversation("ui_answers", "rich")
    expect(page.get_by_text("Sign in to Airflow again.").first).to_be_visible()


def test_the_link_leads_to_where_one_signs_in(visit):
    visitor = visit(None)
    page = visitor.conversation("ui_answers", "rich")
    page.get_by_role("link", name="Go to Airflow").first.click()
    page.wait_for_url(re.compile("login"), wait_until="commit")


def test_a_page_writes_nothing_and_asks_for_no_body_it_does_not_show(viewer):
    viewer.page.on("request", lambda request: viewer.faults.append(request.method) if request.method != "GET" else None)
    viewer.open("/chat/usage")
    assert not any("/xcomEntries/body" in address or "/xcomEntries/messages" in address for address in viewer.asked)
