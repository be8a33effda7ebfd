"""What the hook writes into logs: one line for a call, and no secret, prompt or reply ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, replies
from tests.support.calling import AT_ONCE, KEY, PROMPT, REQUEST, Create, Log, both, failure

Connect = Callable[..., str]


@both
def test_a_call_is_one_line_of_log_with_its_numbers_and_no_words(
    server: ChatServer, connect: Connect, create: Create, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for library in "httpx", "httpcore", "httpx2", "httpcore2":
        caplog.set_level("INFO", library)
    connect(server.url, password=KEY, extra={"headers": {"X-Secret": "canary-header-9"}})
    server.script(
        replies.error(500, f"no {KEY} {PROMPT}", headers=AT_ONCE),
        replies.ok("canary reply", headers={"x-request-id": "req-7"}),
    )
    create(ChatCompletionHook())
    (line,) = log.lines("Chat completion")
    for part in "model test-model", "1 message", "status 200", "2 attempts", "11 tokens", "request id req-7", " s, ":
        assert part in line
    assert log.text.count("[info") + len(caplog.records) == 1
    for secret in KEY, PROMPT, "canary":
        assert secret not in log.text


@both
def test_a_failed_call_is_one_line_too_and_its_error_quotes_no_prompt(
    chat: ChatServer, connect: Connect, create: Create, log: Log
) -> None:
    connect(chat.url, password=KEY)
    chat.script(replies.error(400, f"cannot read {PROMPT!r} with key {KEY}", "bad"))
    error = failure(create, ChatCompletionHook())
    assert (error.status, error.code) == (400, "bad")
    (line,) = log.lines("Chat completion")
    assert "status 400" in line
    for text in error.message, log.text:
        assert PROMPT not in text
        assert KEY not in text


@pytest.mark.parametrize(
    ("host", "password", "extra", "warns"),
    [
        ("http://models.example/v1", KEY, {}, True),
        ("http://192.0.2.7:8080/v1", "", {"headers": {"X-Key": KEY}}, True),
        ("https://models.example/v1", KEY, {}, False),
        ("http://localhost:8080/v1", KEY, {}, False),
        ("http://[::1]:8080/v1", KEY, {}, False),
        ("http://models.example/v1", "", {}, False),
        ("http://models.example/v1", KEY, {"auth": "none"}, False),
    ],
)
def test_a_key_over_plain_http_to_another_machine_warns_once(
    *, connect: Connect, log: Log, host: str, password: str, extra: Any, warns: bool
) -> None:
    connect(host, password=password, extra=extra)
    hook = ChatCompletionHook()
    assert hook.settings is hook.settings
    assert len(log.lines("travels unencrypted")) == warns
    assert KEY not in log.text


def masked(text: str) -> str:
    from airflow.sdk._shared.secrets_masker import redact

    return str(redact(text))


@both
def test_the_key_and_secret_headers_are_masked_in_every_log_and_other_headers_are_shown(
    server: ChatServer, connect: Connect, create: Create
) -> None:
    # Secrets of this test alone: what is masked once stays so for the process.
    key, value, part = (f"{kind}-masked-{create.__name__}" for kind in ("sk", "header", "query"))
    title = f"title {create.__name__}"
    said = f"a task logs {key} and {value} and {part} and {title}"
    assert masked(said) == said
    headers = {"X-Access-Token": f"Bearer {value}", "X-Title": title}
    connect(server.url, password=key, extra={"headers": headers, "query": {"api_key": part, "api-version": "2024"}})
    create(ChatCompletionHook())
    assert masked(said) == f"a task logs *** and *** and *** and {title}"


@both
def test_an_error_keeps_the_words_of_headers_that_are_not_secret_and_numbers_whole(
    chat: ChatServer, connect: Connect, create: Create, log: Log
) -> None:
    headers = {"X-Title": "my pipeline", "X-Limit": "1", "Authorization": "Bearer canary-bearer-7", "X-Key": "abc"}
    connect(chat.url, extra={"headers": headers})
    chat.script(replies.error(400, "my pipeline is over its limit 10000 (abc): canary-bearer-7"))
    error = failure(create, ChatCompletionHook())
    assert error.message.endswith("my pipeline is over its limit 10000 (abc): ***")
    assert "canary" not in log.text


@both
def test_a_warning_about_the_request_is_logged(chat: ChatServer, create: Create, log: Log) -> None:
    create(ChatCompletionHook(), {**REQUEST, "n": 2})
    (line,) = log.lines("warning")
    assert "set n to 1" in line
