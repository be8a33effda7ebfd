"""`abort` stops a synchronous call whatever it is doing, and then nothing more is sent."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.errors import RateLimited, TransportError
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, End, replies
from airflow_chat_provider.transport.client import Client
from tests.support import faults
from tests.support.calling import REQUEST, create, mute_port, transport_error
from tests.support.certs import Certificates, make_certificates
from tests.support.proxy import ForwardProxy

Connect = Callable[..., str]


@pytest.fixture(params=["http", "https", "https by proxy"])
def far(request: pytest.FixtureRequest, connect: Connect, certificates: Certificates) -> Iterator[ChatServer]:
    """The server of `chat_default`, by each way to it."""
    tls = certificates.server_tls if "https" in request.param else None
    with ExitStack() as stack:
        server = stack.enter_context(ChatServer(tls=tls))
        extra = {"verify": str(certificates.ca)}
        if "proxy" in request.param:
            extra["proxy"] = stack.enter_context(ForwardProxy()).url
        connect(server.url, extra=extra)
        yield server


@pytest.fixture
def call() -> Iterator[Callable[[ChatCompletionHook], Future[Reply]]]:
    """`create` on a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda hook: pool.submit(create, hook)


HANGS = {
    "before the answer": faults.hang(),
    "while it drips": faults.drip(),
    "in its headers": faults.drip_headers(),
    "in the middle of a body": faults.half_body(b'{"choices":', end=End.HANG),
}


@pytest.mark.parametrize("name", HANGS)
def test_an_abort_ends_the_wait_for_an_answer(far: ChatServer, call: Any, name: str) -> None:
    far.script(HANGS[name])
    hook = ChatCompletionHook()
    under_way = call(hook)
    assert far.wait_requests()
    hook.abort()
    error = under_way.exception(30)
    assert isinstance(error, TransportError)
    assert error.sent
    assert far.wait_closed()
    assert len(far.requests) == 1


def test_an_abort_ends_the_wait_between_attempts(chat: ChatServer, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, sleep = threading.Event(), Client.sleep

    def noted(client: Client, seconds: float) -> None:
        waiting.set()
        sleep(client, seconds)

    monkeypatch.setattr(Client, "sleep", noted)
    chat.script(replies.error(429, "slow down", headers={"retry-after": "600"}))
    hook = ChatCompletionHook()
    under_way = call(hook)
    assert waiting.wait(120)
    hook.abort()
    assert isinstance(under_way.exception(30), RateLimited), "what the last attempt came to"
    assert len(chat.requests) == 1


def test_an_abort_ends_all_calls_of_all_threads(chat: ChatServer) -> None:
    chat.script(*[faults.hang()] * 8)
    hook = ChatCompletionHook()
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(hook.create, REQUEST) for _ in range(8)]
        assert chat.wait_requests(8)
        hook.abort()
        assert all(isinstance(call.exception(30), TransportError) for call in calls)
    assert chat.wait_closed(count=8)
    assert len(chat.requests) == 8


def test_an_abort_in_a_signal_handler_ends_the_call_that_it_interrupts(chat: ChatServer) -> None:
    chat.script(faults.hang())
    hook = ChatCompletionHook()
    before = signal.signal(signal.SIGUSR1, lambda *_: hook.abort())

    def kill() -> None:
        assert chat.wait_requests()
        os.kill(os.getpid(), signal.SIGUSR1)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert transport_error(create, hook).sent
    finally:
        killer.join()
        signal.signal(signal.SIGUSR1, before)
    assert chat.wait_closed()


def test_an_abort_during_the_tls_handshake_ends_it_and_nothing_is_sent(connect: Connect, call: Any) -> None:
    with mute_port() as listener:
        connect(f"https://127.0.0.1:{listener.getsockname()[1]}/v1", extra={"connect_timeout": 300})
        hook = ChatCompletionHook()
        under_way = call(hook)
        taken, _ = listener.accept()
        with taken:
            assert taken.recv(100_000)[0] == 22, "a TLS handshake"
            hook.abort()
            error = under_way.exception(30)
            assert taken.recv(100_000) == b""
    assert isinstance(error, TransportError)
    assert not error.sent
    assert not hook.session.client._backend.streams


def test_nothing_is_sent_after_an_abort(far: ChatServer) -> None:
    hook = ChatCompletionHook()
    hook.create(REQUEST)
    hook.abort()
    error = transport_error(create, hook)
    assert not error.sent
    assert len(far.requests) == 1


def test_an_abort_before_the_connection_was_read_holds(chat: ChatServer) -> None:
    hook = ChatCompletionHook()
    hook.abort()
    assert not transport_error(create, hook).sent
    assert chat.requests == []


@pytest.mark.parametrize("moment", ["resolving", "connected"])
def test_an_abort_while_connecting_lets_nothing_out(
    far: ChatServer, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    hook = ChatCompletionHook()
    name = {"resolving": "_resolve", "connected": "watch"}[moment]
    step = getattr(hook.session.client._backend, name)

    def aborted(*arguments: Any) -> Any:
        hook.abort()
        return step(*arguments)

    monkeypatch.setattr(hook.session.client._backend, name, aborted)
    assert not transport_error(create, hook).sent
    assert far.requests == []


def test_a_hook_without_a_call_can_be_aborted_and_closed() -> None:
    hook = ChatCompletionHook("nowhere")
    hook.abort()
    hook.close()


def test_a_failed_handshake_leaves_nothing_to_abort(connect: Connect, tmp_path: Path) -> None:
    strange = make_certificates(tmp_path)
    with ChatServer(tls=strange.server_tls) as server:
        connect(server.url, extra={"max_attempts": 1})
        hook = ChatCompletionHook()
        assert not transport_error(create, hook).sent
        assert not hook.session.client._backend.streams
        assert server.wait_all_closed()
