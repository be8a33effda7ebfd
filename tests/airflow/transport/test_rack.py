"""Asynchronous calls of one loop share their sockets, and leave none behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from dataclasses import replace
from typing import Any

import pytest

from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, End, faults, replies
from airflow_chat_provider.transport import pools
from airflow_chat_provider.transport.pools import Rack
from tests.support.calling import REQUEST, async_session


async def ask(
    *, times: int = 1, done: asyncio.Event | None = None, hold: asyncio.Event | None = None, **limits: Any
) -> None:
    """Calls one after the other by one client, which stays open until ``hold`` is set."""
    hook = ChatCompletionHook(**limits)
    session = await async_session(hook)
    try:
        for _ in range(times):
            reply = await session.send(dict(REQUEST))
            assert reply.error is None
        if done is not None:
            done.set()
        if hold is not None:
            await hold.wait()
    finally:
        await session.aclose()


def connections(chat: ChatServer) -> list[int]:
    return [request.connection_id for request in chat.requests]


def test_calls_one_after_the_other_use_one_connection(chat: ChatServer) -> None:
    asyncio.run(ask(times=3))
    assert connections(chat) == [1, 1, 1]


def test_a_client_takes_over_the_connection_that_another_has_left(chat: ChatServer) -> None:
    async def both() -> None:
        done, hold = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(ask(done=done, hold=hold))
        await done.wait()
        await ask()
        hold.set()
        await first

    asyncio.run(both())
    assert connections(chat) == [1, 1]


def test_calls_at_once_have_a_connection_each(chat: ChatServer) -> None:
    async def many() -> None:
        await asyncio.gather(*(ask() for _ in range(50)))

    chat.script(*[replies.delay(0.3, replies.ok())] * 50)
    asyncio.run(many())
    assert len(set(connections(chat))) == 50


def test_the_last_client_closes_what_is_idle(chat: ChatServer) -> None:
    asyncio.run(ask(times=2))
    assert chat.wait_all_closed()


def test_another_connection_of_airflows_shares_nothing(chat: ChatServer, connect: Callable[..., str]) -> None:
    connect(chat.url, conn_id="other", extra={"verify": False})

    async def both() -> None:
        done, hold = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(ask(done=done, hold=hold))
        await done.wait()
        await ask(chat_conn_id="other")
        hold.set()
        await first

    asyncio.run(both())
    assert connections(chat) == [1, 2]


def test_a_connection_that_the_server_has_ended_is_not_used_again(chat: ChatServer) -> None:
    chat.script(replace(replies.ok(), end=End.CLOSE))

    async def twice() -> None:
        hook = ChatCompletionHook(max_attempts=1)
        session = await async_session(hook)
        assert (await session.send(dict(REQUEST))).error is None
        assert await asyncio.to_thread(chat.wait_all_closed)
        assert (await session.send(dict(REQUEST))).error is None
        await session.aclose()

    asyncio.run(twice())
    assert connections(chat) == [1, 2]


def test_a_call_that_failed_leaves_a_transport_that_works(chat: ChatServer) -> None:
    chat.script(faults.hang(), faults.reset(), faults.half_body(b"{"))

    async def all_of_them() -> None:
        hook = ChatCompletionHook(timeout=0.2, max_attempts=1)
        session = await async_session(hook)
        for _ in range(3):
            assert (await session.send(dict(REQUEST))).error is not None
        assert (await session.send(dict(REQUEST))).error is None
        await session.aclose()

    asyncio.run(all_of_them())
    assert len(chat.requests) == 4


def test_idle_connections_are_closed_while_others_work(chat: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "KEEPALIVE", 0.0)

    async def busy() -> None:
        hook = ChatCompletionHook()
        session = await async_session(hook)
        await asyncio.gather(*(session.send(dict(REQUEST)) for _ in range(5)))
        rack = Rack.join(hook.settings)
        await rack.give(rack.take())
        assert await asyncio.to_thread(chat.wait_all_closed, but=1)
        await rack.leave()
        await session.aclose()

    asyncio.run(busy())


def test_each_event_loop_has_its_own(chat: ChatServer) -> None:
    for _ in range(2):
        asyncio.run(ask())
    assert connections(chat) == [1, 2]


class CancelledAt:
    """A coroutine that is cancelled where it waits for the so manieth time."""

    def __init__(self, moment: int, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.left = moment
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._coroutine.__await__()
        error: BaseException | None = None
        while True:
            try:
                waits_for = next(steps) if error is None else steps.throw(error)
            except StopIteration as done:
                return done.value
            task = asyncio.current_task()
            if self.left == 0 and task is not None:
                task.cancel()
            self.left -= 1
            error = None
            try:
                yield waits_for
            except BaseException as raised:  # noqa: BLE001 - for the coroutine
                error = raised


@pytest.mark.parametrize("reply", [replies.ok(), replies.stream("some words")], ids=["body", "stream"])
@pytest.mark.parametrize("before", [0, 1], ids=["new connection", "used connection"])
def test_a_call_that_is_cancelled_leaves_no_connection_wherever_it_was(
    chat: ChatServer, reply: replies.Reply, before: int
) -> None:
    chat.default = reply

    async def is_cancelled_at(moment: int) -> bool:
        hook = ChatCompletionHook()
        session = await async_session(hook)
        for _ in range(before):
            await session.send(dict(REQUEST))

        async def call() -> None:
            await cancelled

        cancelled = CancelledAt(moment, session.send(dict(REQUEST)))
        await asyncio.gather(asyncio.create_task(call()), return_exceptions=True)
        await session.aclose()
        return cancelled.left < 0

    async def at_every_moment() -> int:
        moment = 0
        while await is_cancelled_at(moment):
            moment += 1
        assert await asyncio.to_thread(chat.wait_all_closed)
        return moment

    assert asyncio.run(at_every_moment()) > 1  # httpcore2 waits less often than httpcore
