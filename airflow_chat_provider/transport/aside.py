"""Work that would hold up an event loop, done in a thread beside it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_chat_provider._per_loop import PerLoop
from airflow_chat_provider.core.answer.record import safe_dump
from airflow_chat_provider.core.json_text.writing import small

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply

_T = TypeVar("_T")
_AT_ONCE = 3  # each thread takes its share of the interpreter from the loop's own
_LARGE = 1 << 16  # bytes or characters; less is worked on in a few milliseconds


class _Helpers:
    """A loop's threads for large answers. They end with the loop, and a process that ends does not wait for them."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        self._under_way = 0

    def take(self, job: Callable[[], None]) -> bool:
        """Have a job done as soon as a thread is free; False if no thread can be started. Call ``done`` after it."""
        if self._threads < _AT_ONCE and self._under_way >= self._threads:
            with contextlib.suppress(RuntimeError):  # the process may start no more threads
                # Not one for each job: starting a thread waits until it has had its first turn.
                threading.Thread(target=_help, args=(self._jobs,), name="large answers", daemon=True).start()
                self._threads += 1
        if not self._threads:
            return False
        self._under_way += 1
        self._jobs.put(job)
        return True

    def done(self) -> None:
        self._under_way -= 1

    def __del__(self) -> None:
        for _ in range(self._threads):
            self._jobs.put(None)


def _help(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # it holds the loop, which could not be collected otherwise


_helpers = PerLoop(_Helpers)


async def aside(call: Callable[..., _T], *args: Any) -> _T:
    """``call(*args)`` in one of the loop's three threads for this.

    ``asyncio.to_thread`` will not do: all of its few threads may be waiting for a name server.
    """
    loop, helpers = asyncio.get_running_loop(), _helpers()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        helpers.done()
        if done.done():  # whoever waited was cancelled
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def job() -> None:
        result, error = None, None
        try:
            result = call(*args)
        except BaseException as raised:  # noqa: BLE001 - raised again where it is awaited
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    return await done if helpers.take(job) else call(*args)


async def by_size(size: int, call: Callable[..., _T], *args: Any) -> _T:
    """``call(*args)``, in a thread if ``size`` (bytes or characters) is so large that it may take 20 ms or more."""
    return await aside(call, *args) if size > _LARGE else call(*args)


async def asafe_dump(reply: Reply) -> tuple[Reply, str]:
    """``record.safe_dump`` for a loop: a reply as XCom can keep it, and as text. A large one is made in a thread."""
    if small(reply.body):
        return safe_dump(reply)
    return await aside(safe_dump, reply)
