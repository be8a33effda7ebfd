"""An event loop beside the main thread, which only waits, and so can take signals."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine
from typing import Any

from airflow_chat_provider.airflow_api.compat import exceptions

_GRACE = 4.0  # seconds; Airflow kills a task five seconds after it has asked it to end


class Background:
    """A coroutine on an event loop in a thread of its own: the main thread only waits, and so it can take signals.

    ``run`` waits until the coroutine has ended; ``cancel`` may be called from a signal handler.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self.cancelled = False

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run ``main`` and raise what it raises. An exception in the waiting thread (Airflow's timeout) cancels it."""
        context = contextvars.copy_context()
        threading.Thread(target=lambda: context.run(self._drive, main), name="chat-batch", daemon=True).start()
        try:
            # Not Thread.join(): after a signal handler has raised in it, it takes the thread for dead.
            self._ended.wait()
        except BaseException:
            self.cancel()
            self._ended.wait(_GRACE)
            raise
        if isinstance(self._error, asyncio.CancelledError):
            raise exceptions.AirflowException("Run the task again: the batch was stopped, and continues from here")
        if self._error is not None:
            raise self._error

    def _drive(self, main: Coroutine[Any, Any, None]) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._task = self._loop.create_task(main)
                if self.cancelled:  # cancel() came before there was a task to cancel
                    self._task.cancel()
                self._loop.run_until_complete(self._task)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        finally:
            self._ended.set()

    def cancel(self) -> None:
        """End the coroutine soon. What it has so far is kept."""
        self.cancelled = True
        if self._loop is not None and self._task is not None:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:  # the loop has ended
                return
