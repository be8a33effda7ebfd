"""What becomes of a call when the server, or the network, does not do what it should."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_chat_provider.errors import (
    ProtocolError,
)
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, Reply, replies
from airflow_chat_provider.transport.async_network import last_failure
from airflow_chat_provider.transport.http_library import httpcore, httpx
from airflow_chat_provider.transport.sync_network import words_of
from tests.support import faults
from tests.support.behaviours import BODY, FAULTS, GOOD, ODD, json_text
from tests.support.calling import (
    AT_ONCE,
    KEY,
    Create,
    acreate,
    both,
    create,
    failure,
    free_port,
    outcome,
)

MIB = 1 << 20


@pytest.fixture
def hook(chat: ChatServer) -> ChatCompletionHook:
    """One attempt; what retries do has tests of its own."""
    return ChatCompletionHook(max_attempts=1)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_the_same_typed_error_for_both_clients(
    chat: ChatServer, hook: ChatCompletionHook, name: str
) -> None:
    reply, kind, words = FAULTS[name]
    chat.script(reply, reply)
    first, second = outcome(create, hook), outcome(acreate, hook)
    assert first == second
    assert first["error"] == kind.__name__
    assert words in first["message"]
    assert first["status"] == (None if "connection broke" in first["message"] else reply.status)
    assert len(chat.requests) == 2, "nothing is sent a second time"
    assert KEY not in str(first)


@both
@pytest.mark.parametrize("name", GOOD)
def test_a_completion_is_read_however_it_is_framed(
    chat: ChatServer, hook: ChatCompletionHook, create: Create, name: str
) -> None:
    chat.script(GOOD[name])
    reply = create(hook)
    assert (reply.status, reply.text, reply.attempts, reply.tokens) == (200, "Hello", 1, 11)


@both
def test_nul_surrogates_nan_and_huge_numbers_are_read(
    chat: ChatServer, hook: ChatCompletionHook, create: Create
) -> None:
    chat.script(json_text(ODD))
    reply = create(hook)
    assert reply.text == "a\x00b\ud800c"
    assert reply.body["usage"]["total_tokens"] == "1" + "0" * 5000, "Python refuses to read it as a number"
    assert reply.tokens is None


@both
def test_the_body_of_a_failure_is_kept(chat: ChatServer, hook: ChatCompletionHook, create: Create) -> None:
    chat.script(faults.half_body(BODY), replies.text(404, "<h1>Not here</h1>", "text/html"))
    cut, missing = failure(create, hook), failure(create, hook)
    assert (cut.status, cut.body) == (200, replies.completion())
    assert (missing.status, missing.body) == (404, "<h1>Not here</h1>")


@both
def test_a_rate_limit_is_waited_for(chat: ChatServer, create: Create) -> None:
    chat.script(*[replies.error(429, "slow down", headers=AT_ONCE)] * 2)
    assert create(ChatCompletionHook()).attempts == 3
    assert len(chat.requests) == 3


@both
def test_a_server_that_always_fails_is_asked_max_attempts_times(chat: ChatServer, create: Create) -> None:
    chat.script(*[replies.error(500, "oops", headers=AT_ONCE)] * 9)
    assert failure(create, ChatCompletionHook(max_attempts=4)).status == 500
    assert len(chat.requests) == 4


@both
def test_a_broken_connection_is_tried_again(chat: ChatServer, create: Create) -> None:
    chat.script(faults.reset())
    assert create(ChatCompletionHook()).attempts == 2


@both
@pytest.mark.parametrize("reply", [replies.error(401, "bad key"), replies.error(429, "pay", "insufficient_quota")])
def test_what_would_fail_again_is_asked_once(chat: ChatServer, create: Create, reply: Reply) -> None:
    chat.script(reply)
    assert failure(create, ChatCompletionHook()).final
    assert len(chat.requests) == 1


@both
@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
def test_a_response_larger_than_the_limit_is_not_read_on(
    chat: ChatServer, connect: Callable[..., str], create: Create, announced: bool
) -> None:
    connect(chat.url, extra={"max_response_bytes": 2 * MIB})
    chat.script(faults.huge(300 * MIB, announced=announced))
    error = failure(create, ChatCompletionHook())
    assert isinstance(error, ProtocolError)
    assert f"larger than max_response_bytes ({2 * MIB})" in error.message
    assert len(error.body) == MIB, "enough of it to see what it was"
    assert chat.wait_closed()


@both
def test_a_response_of_exactly_the_limit_is_whole(
    chat: ChatServer, connect: Callable[..., str], create: Create
) -> None:
    body = replies.ok("x" * 2 * MIB).body
    connect(chat.url, extra={"max_response_bytes": len(body)})
    chat.script(json_text(body))
    assert len(create(ChatCompletionHook()).text) == 2 * MIB


@both
def test_the_limit_counts_what_is_decompressed(chat: ChatServer, connect: Callable[..., str], create: Create) -> None:
    connect(chat.url, extra={"max_response_bytes": 4 * MIB})
    chat.script(faults.gzip_bomb(64 * MIB))
    assert "larger than max_response_bytes" in failure(create, ChatCompletionHook()).message


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("http://127.0.0.1:{port}/v1", "Connection refused"),
        ("http://localhost:{port}/v1", "Connection refused"),
        ("http://nowhere.invalid/v1", "Name or service not known|failure in name resolution"),
    ],
)
def test_a_host_that_cannot_be_reached_is_the_same_error_for_both_clients(
    connect: Callable[..., str], host: str, words: str
) -> None:
    connect(host.format(port=free_port()), extra={"max_attempts": 1})
    first, second = outcome(create, ChatCompletionHook()), outcome(acreate, ChatCompletionHook())
    assert first == second
    assert (first["error"], first["sent"]) == ("TransportError", False)
    assert "Check the base URL" in first["message"]
    assert re.search(words, first["message"])


def test_where_a_host_has_several_addresses_the_last_failure_is_told() -> None:
    """As asyncio joins them; and as it is where all addresses fail alike."""
    joined = OSError("Multiple exceptions: [Errno 113] six ('::1', 1, 0, 0), [Errno 111] four ('127.0.0.1', 1)")
    assert words_of(httpx.ConnectError("so it says")) == "ConnectError"
    assert words_of(httpcore.ConnectError(last_failure(joined))) == "Connection refused"
    alone = OSError(errno.ECONNREFUSED, "[Errno 113] is only quoted here")
    assert last_failure(alone) is alone


MEASURED = """
import asyncio, resource, sys
from airflow_chat_provider.core.call.exchange import exchange
from airflow_chat_provider.core.call.steps import Call
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.transport.session import AsyncSession, Session

settings = Settings(base_url=sys.argv[1], max_attempts=1)

def call(kind):
    reply = kind(settings).run(exchange(Call(settings, contents=(b"{}",))), {})
    return asyncio.run(reply) if asyncio.iscoroutine(reply) else reply

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

kind = {"Session": Session, "AsyncSession": AsyncSession}[sys.argv[2]]
assert call(kind).error is None
before = peak()
error = call(kind).error
print(peak() - before, error)
"""


@pytest.mark.parametrize("client", ["Session", "AsyncSession"])
@pytest.mark.parametrize("reply", [faults.huge(300 * MIB), faults.gzip_bomb(1 << 30)], ids=["300 MB", "gzip bomb"])
def test_memory_is_bounded_whatever_is_sent(project: Path, client: str, reply: Reply) -> None:
    with ChatServer(replies.ok(), reply) as server:
        command = [sys.executable, "-W", "ignore", "-c", MEASURED, server.url, client]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=240, check=True)
    grown, _, error = done.stdout.partition(" ")
    assert "larger than max_response_bytes" in error
    assert int(grown) < 200
