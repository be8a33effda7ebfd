"""The pages where Airflow is served below a path: a second API server on the same database."""

import os
import socket
import subprocess
import sys

import httpx
import pytest
from playwright.sync_api import expect

from tests.support.airflow_process import STEP, until

PREFIX = "/team/airflow"


@pytest.fixture(scope="module")
def below(site, tmp_path_factory):
    """Its address, with the path."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}{PREFIX}"
    environment = site.environment | {"AIRFLOW__API__PORT": str(port), "AIRFLOW__API__BASE_URL": url}
    output = tmp_path_factory.mktemp("below") / "api-server.out"
    with output.open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "airflow", "api-server"],
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            until(lambda: answers(f"{url}/api/v2/version"), "the second API server does not answer")
            yield url
        finally:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, 9)
                server.wait(STEP)


def answers(url):
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def visitor(visit, below):
    visitor = visit("viewer")
    visitor.url = below
    return visitor


def test_a_conversation_is_read_below_the_path(visitor, below):
    page = visitor.conversation("ui_answers", "rich")
    expect(page.locator("article.is-reply")).to_be_visible()
    assert all(address.startswith(f"{below}/") for address in visitor.asked)
    href = page.get_by_role("navigation").get_by_role("link").first.evaluate("link => link.href")
    assert href == f"{below}/dags/ui_answers"


def test_usage_is_read_below_the_path(visitor, below):
    page = visitor.open("/chat/usage")
    expect(page.locator("main")).to_contain_text("ui_answers")
    assert all(address.startswith(f"{below}/") for address in visitor.asked)


def test_airflows_own_navigation_leads_there(visitor, below):
    page = visitor.page
    page.goto(f"{below}/")
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Chat usage").click()
    expect(visitor.frame().locator("h1")).to_have_text("Chat usage")


def test_the_extra_link_leads_there(visitor, below):
    page = visitor.page
    page.goto(f"{below}/dags/ui_answers/runs/{visitor.runs['ui_answers'].run_id}/tasks/rich/details")
    address = page.locator("a[href*='chat/conversation?']").evaluate("link => link.href")
    assert address.startswith(f"{below}/chat/conversation?")
