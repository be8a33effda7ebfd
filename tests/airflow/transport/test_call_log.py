"""What a call writes into the log while it fails and waits: one line for each attempt, and no None anywhere."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import TransportError
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, replies
from airflow_chat_provider.transport import call_log, client
from tests.support import faults
from tests.support.calling import AT_ONCE, KEY, PROMPT, Create, Log, both, failure

Connect = Callable[..., str]


@both
def test_each_attempt_that_failed_is_a_warning_with_its_reason_number_and_wait(
    server: ChatServer, connect: Connect, create: Create, log: Log
) -> None:
    connect(server.url, password=KEY, extra={"max_attempts": 3})
    server.script(
        replies.error(500, f"no {KEY} {PROMPT}", "server_error", headers={"retry-after-ms": "120"}),
        replies.error(429, "slow down", "rate_limit_exceeded", headers=AT_ONCE),
        replies.ok("canary reply"),
    )
    create(ChatCompletionHook())
    first, second = log.lines("warning")
    assert "Attempt 1 of 3 failed, the next one begins in 0.12 s: HTTP 500, server_error: no *** ***" in first
    assert "Attempt 2 of 3 failed, the next one begins in 0.001 s: HTTP 429, rate_limit_exceeded: slow down" in second
    for secret in KEY, PROMPT, "canary":
        assert secret not in log.text


@both
def test_the_last_attempt_has_its_line_too_and_no_other_follows(
    server: ChatServer, connect: Connect, create: Create, log: Log
) -> None:
    connect(server.url, extra={"max_attempts": 2})
    server.script(replies.error(503, "busy", headers=AT_ONCE), replies.error(503, "busy", headers=AT_ONCE))
    failure(create, ChatCompletionHook())
    first, last = log.lines("Attempt ")
    assert "Attempt 1 of 2 failed, the next one begins in 0.001 s: HTTP 503" in first
    assert "Attempt 2 of 2 failed, no other one follows: HTTP 503" in last
    assert "status 503, 2 attempts" in log.lines("Chat completion")[0]


@both
def test_a_connection_that_breaks_is_told_in_the_words_of_its_error_without_the_advice(
    server: ChatServer, connect: Connect, create: Create, log: Log
) -> None:
    connect(server.url, extra={"max_attempts": 2})
    server.script(faults.reset(), replies.ok())
    create(ChatCompletionHook())
    (line,) = log.lines("Attempt ")
    told = r"Attempt 1 of 2 failed, the next one begins in [\d.]+ s: the connection broke \(Connection reset by peer\) "
    assert re.search(told, line)
    assert "Try again" not in line


@both
def test_what_is_not_known_is_left_out_of_the_line_of_a_call(
    server: ChatServer, connect: Connect, create: Create, log: Log
) -> None:
    connect(server.url, extra={"request_schema": "none", "max_attempts": 1})
    server.script(replies.ok(usage=None), faults.close())
    request = {"messages": [{"role": "user", "content": "Hi"}] * 2}
    create(ChatCompletionHook(), request)
    with pytest.raises(TransportError):
        create(ChatCompletionHook(), request)
    answered, broken = log.lines("Chat completion")
    assert re.search(r"Chat completion: 2 messages, status 200, 1 attempt, [\d.]+ s(?!,)", answered)
    assert re.search(r"Chat completion: 2 messages, no answer, 1 attempt, [\d.]+ s(?!,)", broken)
    assert "None" not in answered + broken


@both
@pytest.mark.parametrize(("seconds", "lines"), [(0.4, 1), (0.0, 0)])
def test_a_long_wait_for_an_answer_is_told_once_while_it_lasts(
    chat: ChatServer, create: Create, log: Log, monkeypatch: pytest.MonkeyPatch, seconds: float, lines: int
) -> None:
    monkeypatch.setattr(call_log, "LONG", 0.1)
    monkeypatch.setattr(client, "LONG", 0.1)
    chat.script(replies.delay(seconds, replies.ok()))
    create(ChatCompletionHook())
    found = log.lines("Still waiting for an answer after 0 s (attempt 1 of 3, which may take 10 min)")
    assert len(found) == lines
    assert "status 200" in log.lines("Chat completion")[0]


@both
def test_a_time_limit_ends_an_attempt_after_the_line_about_its_wait(
    server: ChatServer, connect: Connect, create: Create, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LONG", 0.1)
    connect(server.url, extra={"max_attempts": 1, "timeout": 0.5})
    server.script(faults.hang())
    error = failure(create, ChatCompletionHook())
    assert "no answer within 0.5 s" in error.message
    assert len(log.lines("Still waiting")) == 1


def test_a_count_that_python_refuses_to_write_is_left_out(caplog: pytest.LogCaptureFixture, log: Log) -> None:
    caplog.set_level("INFO")
    body = {"usage": {"total_tokens": 10**5000}}
    call_log.CallLog(Settings(), logging.getLogger("calls")).ended({"messages": [1]}, Reply(200, body))
    assert "Chat completion: 1 message, status 200, 1 attempt, 0.00 s" in caplog.text
    assert "token" not in caplog.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (0.001, "0.001 s"), (0.25, "0.25 s"), (9.96, "10 s"), (72.4, "72 s"), (600, "10 min")],
)
def test_a_duration_is_as_exact_as_a_reader_wants_it(seconds: float, text: str) -> None:
    assert call_log.duration(seconds) == text
