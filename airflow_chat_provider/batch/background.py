"""A coroutine on a loop in a thread of its own, so that signals find the main thread waiting and nothing else."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine
from typing import Any

from airflow_chat_provider.airflow_api.compat import AirflowException

_GRACE = 4.0  # seconds; whoever ends a task kills it after five


class Background:
    """``run`` waits for the end of a coroutine; ``cancel`` may be called from a signal handler."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._cancelled = False

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Raises what ``main`` raises. An exception in the waiting thread (a timeout of Airflow's) cancels it."""
        context = contextvars.copy_context()
        threading.Thread(target=lambda: context.run(self._drive, main), name="chat-batch", daemon=True).start()
        try:
            self._ended.wait()  # not Thread.join(), which takes the thread for ended once a signal has raised in it
        except BaseException:
            self.cancel()
            self._ended.wait(_GRACE)
            raise
        if isinstance(self._error, asyncio.CancelledError):
            raise AirflowException("The batch was stopped; run the task again, it goes on from here")
        if self._error is not None:
            raise self._error

    def _drive(self, main: Coroutine[Any, Any, None]) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._task = self._loop.create_task(main)
                if self._cancelled:  # before there was anything to cancel
                    self._task.cancel()
                self._loop.run_until_complete(self._task)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        finally:
            self._ended.set()

    def cancel(self) -> None:
        """End it soon; it keeps what it has."""
        self._cancelled = True
        if self._loop is not None and self._task is not None:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:  # the loop has ended
                return
