"""The clocks of a call: one for connecting, one for an attempt, one for everything; and its end by cancellation."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_chat_provider.errors import RateLimited, TransportTimeout
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, End, Reply, replies
from airflow_chat_provider.transport.http_library import httpcore
from airflow_chat_provider.transport.sync_network import Backend, Clock
from tests.support import faults
from tests.support.calling import (
    AT_ONCE,
    REQUEST,
    Create,
    acreate,
    both,
    create,
    deaf_port,
    failure,
    outcome,
    transport_error,
)

Connect = Callable[..., str]
BODY = replies.ok().body
DRIPS: dict[str, Reply] = {
    "a byte at a time": faults.drip(),
    "headers a byte at a time": faults.drip_headers(),
    "nothing": faults.hang(),
    "chunks with pauses": replies.chunked([b" "] * 1000, pause=0.05),
    "half a body": faults.half_body(BODY, end=End.HANG),
}


@both
@pytest.mark.parametrize("name", DRIPS)
def test_timeout_is_wall_clock_whatever_drips(chat: ChatServer, create: Create, name: str) -> None:
    chat.script(DRIPS[name])
    error = transport_error(create, ChatCompletionHook(timeout=0.3, max_attempts=1))
    assert isinstance(error, TransportTimeout)
    assert "Raise timeout" in error.message
    assert error.sent
    assert chat.wait_closed()


def test_a_timeout_reads_the_same_for_both_clients(chat: ChatServer) -> None:
    chat.script(*[faults.hang()] * 2, *[faults.half_body(BODY, end=End.HANG)] * 2)
    hook = ChatCompletionHook(timeout=0.2, max_attempts=1)
    for _ in "before the answer", "in the middle of it":
        assert outcome(create, hook) == outcome(acreate, hook)


@both
def test_deadline_ends_the_attempt_under_way(chat: ChatServer, create: Create) -> None:
    chat.script(replies.error(500, "oops", headers=AT_ONCE), faults.hang())
    error = transport_error(create, ChatCompletionHook(deadline=0.4))
    assert isinstance(error, TransportTimeout)
    assert "Raise deadline" in error.message
    assert len(chat.requests) == 2
    assert chat.wait_closed()


@both
def test_a_retry_after_beyond_the_deadline_is_left_to_the_caller(chat: ChatServer, create: Create) -> None:
    chat.script(replies.error(429, "slow down", headers={"retry-after": "3600"}))
    error = failure(create, ChatCompletionHook(deadline=5))
    assert isinstance(error, RateLimited)
    assert error.retry_after == 3600
    assert len(chat.requests) == 1


def test_timeout_holds_for_a_server_that_reads_slowly(connect: Connect) -> None:
    """Each send() of a socket may take the whole timeout; the request as a whole may not."""
    done, all_sips_taken = threading.Event(), threading.Event()

    def sip(listener: socket.socket) -> None:
        """Fast enough for each send(), and for ten times as long as the client waits."""
        taken, _ = listener.accept()
        with taken:
            for _ in range(150):
                if done.wait(0.02):
                    return
                taken.recv(1 << 17)
        all_sips_taken.set()

    large = {**REQUEST, "messages": [{"role": "user", "content": "x" * (32 << 20)}]}
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(sip, listener)
        connect(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        with pytest.raises(TransportTimeout):
            create(ChatCompletionHook(timeout=0.3, max_attempts=1), large)
        assert not all_sips_taken.is_set()
        done.set()


@both
@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"connect_timeout": 0.2}, "0.2 s (connect_timeout)"),
        ({"timeout": 0.2}, "0.2 s (timeout)"),
    ],
    ids=["connect_timeout", "timeout"],
)
def test_a_host_that_does_not_answer_is_a_timeout_before_anything_is_sent(
    connect: Connect, create: Create, limits: dict[str, Any], named: str
) -> None:
    with deaf_port() as port:
        connect(f"http://127.0.0.1:{port}/v1", extra={"max_attempts": 1, **limits})
        error = transport_error(create, ChatCompletionHook())
    assert isinstance(error, TransportTimeout)
    assert not error.sent
    assert f"no connection within {named}" in error.message


def test_once_the_wall_clock_has_run_out_nothing_is_begun(server: ChatServer) -> None:
    with Clock(0), pytest.raises(httpcore.ConnectTimeout):
        Backend().connect_tcp("127.0.0.1", server.port)


def test_cancelling_acreate_closes_the_socket(chat: ChatServer) -> None:
    chat.script(faults.hang(), faults.drip())

    async def cancelled() -> None:
        for count in 1, 2:
            task = asyncio.create_task(ChatCompletionHook().acreate(REQUEST))
            assert await asyncio.to_thread(chat.wait_requests, count)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())
    assert chat.wait_closed(count=2)
    assert len(chat.requests) == 2, "a cancelled call is not sent again"
