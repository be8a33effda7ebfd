"""What the "Test" button of a connection says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, Reply, faults, replies
from tests.calling import KEY, free_port

Connect = Callable[..., str]

CONNECTION_TESTS: dict[str, tuple[Reply, bool, str]] = {
    "found": (replies.json_reply(200, {"data": [{"id": "m"}]}), True, "{url} answers with 1 models: m"),
    "many": (
        replies.json_reply(200, {"data": [{"id": f"m{number}"} for number in range(9)] + [{}, 7]}),
        True,
        "{url} answers with 9 models: m0, m1, m2, m3, m4, ...",
    ),
    "401": (replies.error(401, f"bad key {KEY}"), False, "Check the API key (password) of connection 'chat_default'"),
    "404": (replies.text(404, "no such page"), False, "{url} was reached, but has no /models (HTTP 404)"),
    "HTML": (replies.text(200, f"<html>{KEY}</html>", "text/html"), False, "HTTP 200 came with text that is not JSON"),
    "no list": (replies.json_reply(200, {"models": []}), False, "without choices"),
    "cut": (faults.half_body(b"{"), False, "was cut off"),
    "hang": (faults.hang(), False, "{url} was reached, but did not answer within 0.3 s"),
}


@pytest.mark.parametrize("name", CONNECTION_TESTS)
def test_test_connection_says_what_it_found(connect: Connect, name: str) -> None:
    models, works, words = CONNECTION_TESTS[name]
    with ChatServer(models=models) as server:
        connect(server.url, password=KEY, extra={"timeout": 0.3})
        found, message = ChatCompletionHook().test_connection()
        assert server.wait_all_closed()
        assert found is works
        assert words.format(url=server.url) in message
        assert KEY not in message


def test_test_connection_knows_when_the_model_is_not_there(server: ChatServer, connect: Connect) -> None:
    connect(server.url, extra={"model": "gpt-9"})
    expected = f"{server.url} answers, but does not list the model 'gpt-9'; it has test-model"
    assert ChatCompletionHook().test_connection() == (True, expected)


def test_test_connection_sends_the_key_and_the_query(server: ChatServer, connect: Connect) -> None:
    connect(server.url, password=KEY, extra={"auth": "api-key", "query": {"api-version": "1"}})
    assert ChatCompletionHook().test_connection()[0]
    (request,) = server.requests
    assert (request.method, request.target) == ("GET", "/v1/models?api-version=1")
    assert request.headers["api-key"] == KEY


@pytest.mark.parametrize(
    ("host", "extra", "words"),
    [
        ("http://127.0.0.1:{port}/v1", {}, "Connection refused"),
        ("ftp://h", {}, "host has the scheme 'ftp'"),
        ("http://127.0.0.1:{port}/v1", {"colour": 1}, "colour is no extra"),
    ],
)
def test_test_connection_says_what_is_wrong(connect: Connect, host: str, extra: Any, words: str) -> None:
    connect(host.format(port=free_port()), password=KEY, extra=extra)
    found, message = ChatCompletionHook().test_connection()
    assert not found
    assert words in message
    assert KEY not in message
