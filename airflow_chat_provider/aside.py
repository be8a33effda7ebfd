"""Work that would hold up an event loop, done beside it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_chat_provider.core.record import safe_dump
from airflow_chat_provider.core.writing import small
from airflow_chat_provider.loops import PerLoop

if TYPE_CHECKING:
    from airflow_chat_provider.core.response import Reply

_T = TypeVar("_T")
_AT_ONCE = 3  # each takes its share of the time from the loop's own thread
_LARGE = 1 << 16
_turns = PerLoop(lambda: asyncio.Semaphore(_AT_ONCE))


async def aside(call: Callable[..., _T], *args: Any) -> _T:
    """``call(*args)`` in a thread of its own, of which a loop has three at most; the others wait.

    Not ``asyncio.to_thread``: its few threads may all be waiting for a name server.
    """
    loop, turns = asyncio.get_running_loop(), _turns()
    await turns.acquire()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        turns.release()  # not when whoever waits is cancelled: the thread works on
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def work() -> None:
        result, error = None, None
        try:
            result = call(*args)
        except BaseException as raised:  # noqa: BLE001 - raised again where it is awaited
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    try:
        threading.Thread(target=work, name="aside", daemon=True).start()
    except RuntimeError:  # no thread is to be had: better late than never
        turns.release()
        return call(*args)
    return await done


async def by_size(size: int, call: Callable[..., _T], *args: Any) -> _T:
    """``call(*args)``, beside the loop where it is about many bytes: on it they might take 20 ms or more."""
    return await aside(call, *args) if size > _LARGE else call(*args)


async def asafe_dump(reply: Reply) -> tuple[Reply, str]:
    """``record.safe_dump`` for a loop: a reply as XCom can keep it, and as text; a large one beside the loop."""
    if small(reply.body):
        return safe_dump(reply)
    return await aside(safe_dump, reply)
