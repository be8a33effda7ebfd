"""A person in front of a browser, and whatever must not happen in our pages meanwhile."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Frame, Locator, Page, Request, expect

from tests.support.airflow_process import Run
from tests.support.airflow_site import AirflowSite

CHROMIUM = "/usr/bin/chromium"
WAIT = 40_000
"""Milliseconds for anything to appear, on a machine that is busy."""
TELL = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""
_MISSING = "Failed to load resource"  # an XCom that is not there is a 404, which the browser notes

expect.set_options(timeout=WAIT)


class Visitor:
    """`faults` has what must not happen."""

    def __init__(self, context: BrowserContext, site: AirflowSite, runs: dict[str, Run], user: str | None) -> None:
        self.context, self.site, self.runs = context, site, runs
        self.url = site.url
        self.faults: list[str] = []
        self.asked: list[str] = []
        """The addresses that our pages have asked for."""
        if user:
            context.add_cookies([site.cookie(user)])  # type: ignore[list-item]
        context.set_default_timeout(WAIT)
        context.add_init_script(TELL)
        context.on("request", self._on_request)
        context.on("console", self._on_console)
        context.on("dialog", self._on_dialog)
        context.on("weberror", lambda error: self.faults.append(f"exception: {error.error}"))
        self.page: Page = context.new_page()

    def conversation(self, dag_id: str, task_id: str, map_index: int | None = None, **more: str) -> Page:
        """Open the Conversation page of a task by its address, and wait until it has read everything."""
        query = {"dag_id": dag_id, "run_id": self.runs[dag_id].run_id, "task_id": task_id}
        query |= {} if map_index is None else {"map_index": str(map_index)}
        return self.open(f"/chat/conversation?{urlencode(query | more)}")

    def open(self, path: str) -> Page:
        """Open an address below Airflow's."""
        self.page.goto(f"{self.url}{path}")
        return self.settled()

    def settled(self) -> Page:
        """Wait until nothing is being read."""
        self.page.wait_for_load_state("networkidle")
        expect(self.page.locator(".loading")).to_have_count(0)
        return self.page

    def frame(self) -> Any:
        """Our page inside Airflow's UI."""
        return self.page.frame_locator("iframe[src*='chat/']")

    def _on_request(self, request: Request) -> None:
        if not _is_ours(_frame_of(request)):
            return
        self.asked.append(request.url)
        origin = urlsplit(self.url)
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and (parts.scheme, parts.netloc) != (origin.scheme, origin.netloc):
            self.faults.append(f"request to another origin: {request.url}")

    def _on_console(self, message: ConsoleMessage) -> None:
        ours = "/chat/" in message.location.get("url", "") or "policy violated" in message.text
        if message.type == "error" and ours and _MISSING not in message.text:
            self.faults.append(f"error: {message.text}")

    def _on_dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def _frame_of(request: Request) -> Frame | None:
    try:
        return request.frame
    except Exception:  # noqa: BLE001 - a request of a page that is being left has none
        return None


def _is_ours(frame: Frame | None) -> bool:
    return frame is not None and "/chat/" in frame.url


def text_of(locator: Locator) -> str:
    """What can be read there."""
    return locator.inner_text()
