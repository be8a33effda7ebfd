"""How a person gets to the pages from Airflow's own UI."""

import re
from importlib.metadata import version

import pytest
from playwright.sync_api import expect

LINK = "a[href*='chat/conversation?']"
TAB = "a[href$='plugin/chat-conversation']"
AIRFLOW = tuple(map(int, version("apache-airflow-core").split(".")[:2]))


def task_page(visitor, dag_id, task_id):
    """Where Airflow's UI has the details of a task instance, with its extra links."""
    run = visitor.runs[dag_id]
    visitor.page.goto(f"{visitor.url}/dags/{dag_id}/runs/{run.run_id}/tasks/{task_id}/details")
    return visitor.page


@pytest.mark.parametrize(("dag_id", "task_id"), [("ui_answers", "rich"), ("example_chat_deferred", "draft")])
def test_the_extra_link_of_a_task_leads_to_its_conversation(viewer, dag_id, task_id):
    page = task_page(viewer, dag_id, task_id)
    link = page.locator(LINK)
    expect(link).to_have_text("Conversation")
    if link.get_attribute("target") == "_blank":
        with viewer.context.expect_page() as opened:
            link.click()
        viewer.page = opened.value
    else:
        link.click()
    viewer.settled()
    expect(viewer.page).to_have_url(re.compile(f"/chat/conversation.*{task_id}"))
    expect(viewer.page.locator("article.is-reply")).to_be_visible()


def test_a_task_of_another_operator_has_no_such_link(viewer):
    page = task_page(viewer, "example_chat_quickstart", "show")
    expect(page.get_by_role("heading").first).to_be_visible()
    expect(page.get_by_text("show").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.locator(LINK)).to_have_count(0)


@pytest.mark.skipif(AIRFLOW < (3, 4), reason="before 3.4 the tab would be on everybody's tasks")
def test_the_tab_of_a_task_shows_its_conversation_inside_airflow(viewer):
    page = task_page(viewer, "ui_answers", "rich")
    page.locator(TAB).click()
    expect(viewer.frame().locator("article.is-reply")).to_be_visible()


@pytest.mark.skipif(AIRFLOW < (3, 4), reason="before 3.4 the tab would be on everybody's tasks")
def test_a_task_of_another_operator_has_no_such_tab(viewer):
    page = task_page(viewer, "example_chat_quickstart", "show")
    page.wait_for_load_state("networkidle")
    expect(page.locator(TAB)).to_have_count(0)


def test_the_navigation_leads_to_the_usage_page_and_a_row_to_its_conversation(viewer):
    page = viewer.page
    page.goto(viewer.url)
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Chat usage").or_(page.get_by_role("link", name="Chat usage")).first.click()
    frame = viewer.frame()
    expect(frame.locator("h1")).to_be_visible()
    frame.get_by_role("group", name="One line for each of").get_by_role("button", name="Task instances").click()
    frame.locator("a[href*='conversation?'][href*='ui_answers']").first.click()
    expect(frame.locator("article.message").first).to_be_visible()
