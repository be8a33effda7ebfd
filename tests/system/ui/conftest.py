"""A whole Airflow, which has run the examples and `cases.py`, and a browser that looks at it. Run by `make test-ui`.

Each test ends with a look at what must never happen in our pages: a dialog, a request to another origin, a violation of
the Content-Security-Policy, an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_chat_provider.testing import ChatServer, replies
from tests.support.airflow_process import Run
from tests.support.airflow_site import AirflowSite
from tests.system.ui.answers import answer_for
from tests.system.ui.xcoms import XComs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.system.ui.visitor import Visitor

HERE = Path(__file__).parent
EXAMPLES = ("quickstart", "chained", "mapped", "deferred", "tool_round", "typed_answers", "bulk_reviews", "invoices")
CASES = ("ui_answers", "ui_failures", "ui_untrusted", "ui_broken", "hidden_chat", "reviews")
FAIL = {"ui_failures"}
RUN_SECONDS = 400.0
PROMPT_MARKUP = "<b onmouseover=alert(1)>{{ 7 * 7 }}</b> **not bold** <script>alert(2)</script>"

if find_spec("playwright") is None:  # it is in the environment of the newest Airflow
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("ui")


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[ChatServer]:
    """Another origin, to which hostile answers lead. Nothing may be asked of it."""
    with ChatServer(default=replies.ok()) as server:
        yield server


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, elsewhere: ChatServer) -> Iterator[AirflowSite]:
    answer = answer_for(f"http://127.0.0.1:{elsewhere.port}")
    nowhere = '{"conn_type": "chat", "host": "http://127.0.0.1:1/v1", "password": "sk-nowhere"}'
    with (
        ChatServer(default=answer) as model,
        AirflowSite(
            tmp_path_factory.mktemp("site"),
            model.url,
            dags=(HERE / "cases.py").read_text("utf-8"),
            environment={"AIRFLOW_CONN_CHAT_NOWHERE": nowhere},
        ) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def runs(site: AirflowSite) -> dict[str, Run]:
    """One run of each DAG, by the DAG's id; all of them have ended."""
    names = [f"example_chat_{name}" for name in EXAMPLES] + list(CASES)
    conf = {"ui_untrusted": {"markup": PROMPT_MARKUP}}
    runs = {name: site.trigger(name, conf.get(name)) for name in names}
    states = {name: run.wait_state(RUN_SECONDS) for name, run in runs.items()}
    assert states == {name: "failed" if name in FAIL else "success" for name in names}, site.logs[-20_000:]
    return runs


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    from tests.system.ui.visitor import CHROMIUM

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser, site: AirflowSite, runs: dict[str, Run]) -> Iterator[Callable[..., Visitor]]:
    """Open a browser as a user: ``visit("viewer")``; keywords are those of Playwright's ``new_context``."""
    from tests.system.ui.visitor import Visitor

    opened: list[Visitor] = []

    def open_browser(user: str | None = "viewer", **options: Any) -> Visitor:
        visitor = Visitor(browser.new_context(**{"locale": "en-GB"} | options), site, runs, user)
        opened.append(visitor)
        return visitor

    yield open_browser
    faults = [fault for visitor in opened for fault in visitor.faults]
    for visitor in opened:
        visitor.context.close()
    assert faults == []


@pytest.fixture
def broken(site: AirflowSite, runs: dict[str, Run]) -> XComs:
    """The XComs of the mapped task in `ui_broken`, to be broken by a test."""
    return XComs(site, runs["ui_broken"], "ask")


@pytest.fixture
def viewer(visit: Callable[..., Visitor]) -> Visitor:
    """One who may read everything, and write nothing."""
    return visit("viewer")
