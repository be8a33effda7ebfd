"""How soon the pages of Airflow's UI can be read: `.ci/postgres .venv/bin/python benchmarks/pages.py`.

A real API server, whose database `pages_fill.py` has filled with 10,000 task instances, and Chromium, headless. Each
sample is a new browser context, so nothing is in its cache. Without `.ci/postgres` the database is SQLite, in which
Airflow 3.3 reads all task instances for each value of an XCom.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pages_fill import CONVERSATION, MESSAGES, TASK_INSTANCES  # noqa: E402 - beside this file

from tests.support.airflow_site import AirflowSite  # noqa: E402

STATIC = ROOT / "airflow_chat_provider" / "plugin" / "static"
FILL = Path(__file__).with_name("pages_fill.py")
CHROMIUM = "/usr/bin/chromium"
MINUTES = 15


class Site(AirflowSite):
    """An API server alone, with a full database: nothing runs here."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, "http://127.0.0.1:9/v1")
        shutil.rmtree(home / "dags" / "examples")
        self._commands = {"api-server": ("api-server",)}

    def wait_ready(self) -> None:
        """Let Airflow read the DAGs, and fill in their runs, when the server is there."""
        super().wait_ready()
        self._run(str(FILL), "dags")
        self._run("-m", "airflow", "dags", "reserialize")
        self._run(str(FILL))

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [sys.executable, *command], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5, help="how many samples of each, of which the median is shown")
    options.add_argument("--no-rest", action="store_true", help="do not wait until the usage page has read everything")
    chosen = options.parse_args()
    database = os.environ.pop("AIRFLOW_CHAT_TEST_DATABASE", None)
    if database:
        os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = database
    with tempfile.TemporaryDirectory(prefix="airflow-chat-pages-") as folder, Site(Path(folder)) as site:
        print(f"Filled the database with {TASK_INSTANCES + 1:,} task instances", file=sys.stderr, flush=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            name = "PostgreSQL" if database else "SQLite"
            report(browser, site, chosen.rounds, rest=not chosen.no_rest, database=name)
            browser.close()


def report(browser: Browser, site: Site, rounds: int, *, rest: bool, database: str) -> None:
    """Print a table of what was measured."""
    conversation = f"/chat/conversation?{urlencode(CONVERSATION)}"
    rows = {
        f"a conversation of {MESSAGES} messages can be read": sample(browser, site, conversation, is_read, rounds),
        "the usage page has its first plots and table": sample(browser, site, "/chat/usage", has_plots, rounds),
    }
    if rest:
        rows[f"the usage page has read all {TASK_INSTANCES + 1:,}"] = sample(browser, site, "/chat/usage", has_all, 1)
    print(f"| {database} | seconds, median | least | most |\n| --- | ---: | ---: | ---: |")
    for name, seconds in rows.items():
        print(f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | {max(seconds):.2f} |")
    files = {file.name: len(gzip.compress(file.read_bytes(), 9)) for file in sorted(STATIC.iterdir())}
    print(f"\nThe pages' files are {sum(files.values()) / 1000:,.0f} kB in gzip: {files}")


def sample(browser: Browser, site: Site, path: str, seen: Callable[[Page], None], rounds: int) -> list[float]:
    """Seconds from the request of the page until ``seen``; the first look, at a server that is cold, is left out."""
    found = []
    for _ in range(rounds + (rounds > 1)):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.add_cookies([site.cookie("viewer")])  # type: ignore[list-item]
        page = context.new_page()
        page.set_default_timeout(MINUTES * 60_000)
        begun = time.perf_counter()
        page.goto(site.url + path)
        seen(page)
        found.append(time.perf_counter() - begun)
        context.close()
    return found[1:] or found


def is_read(page: Page) -> None:
    """The reply stands there, and the messages before it."""
    page.locator("article.is-reply table").wait_for()
    assert page.locator("article.message").count() == MESSAGES


def has_plots(page: Page) -> None:
    """There are plots with data, and lines in the table."""
    page.locator("canvas").first.wait_for()
    page.locator("section.usage-table tbody tr").first.wait_for()


def has_all(page: Page) -> None:
    """Nothing is left to read."""
    page.get_by_role("region", name="What was read").get_by_role("paragraph").filter(has_text="All ").wait_for()


if __name__ == "__main__":
    main()
