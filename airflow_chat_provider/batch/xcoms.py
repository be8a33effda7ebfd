"""The XComs of a batch: ``progress`` while it runs; that, ``usage`` and the manifest when it has ended."""

from __future__ import annotations

import contextvars
import logging
import threading
from typing import Any

from airflow_chat_provider.airflow_api.compat import threads_reach_airflow

_PATIENCE = 5.0  # seconds that the end of a batch waits for a push under way

log = logging.getLogger(__name__)


class XComs:
    """Pushes by a task instance.

    ``progress`` is pushed in a thread of its own, so that a slow Airflow holds up no row. If several manifests come
    while one is pushed, only the last of them follows. What goes wrong with that is told once, at DEBUG: nothing
    depends on it.
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti
        self._next: dict[str, Any] | None = None
        self._wake = threading.Event()
        self._pushing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._over = False
        self._told = False

    def show(self, manifest: dict[str, Any]) -> None:
        """The batch is this far. Returns at once."""
        if not threads_reach_airflow():
            return
        self._next = manifest
        self._wake.set()
        if self._thread is None:
            context = contextvars.copy_context()
            self._thread = threading.Thread(target=lambda: context.run(self._renew), name="chat-progress", daemon=True)
            self._thread.start()

    def leave(self, manifest: dict[str, Any], *, failed: bool) -> None:
        """The batch has ended. If it failed, an error says more than that Airflow takes no XCom, which is logged."""
        self._over = True
        self._wake.set()
        free = self._pushing.acquire(timeout=_PATIENCE)
        try:
            if failed:
                self._try("usage", manifest["usage"])
                self._try("return_value", manifest)
            else:
                self._ti.xcom_push(key="usage", value=manifest["usage"])
            self._show(manifest, "ended")
        finally:
            if free:
                self._pushing.release()

    def _renew(self) -> None:
        while not self._over:
            self._wake.wait()
            self._wake.clear()
            with self._pushing:
                manifest, self._next = self._next, None
                if manifest is not None and not self._over:
                    self._show(manifest, "running")

    def _show(self, manifest: dict[str, Any], state: str) -> None:
        try:
            self._ti.xcom_push(key="progress", value={**manifest, "state": state})
        except Exception as error:  # noqa: BLE001 - see above
            if not self._told:
                self._told = True
                log.debug("Airflow could not store the XCom 'progress' (%s)", type(error).__name__)

    def _try(self, key: str, value: Any) -> None:
        try:
            self._ti.xcom_push(key=key, value=value)
        except Exception as error:  # noqa: BLE001 - see above
            log.warning("Airflow could not store the XCom %r (%s)", key, type(error).__name__)
