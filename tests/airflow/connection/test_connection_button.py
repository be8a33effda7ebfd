"""What the "Test" button of a connection says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, Reply, replies
from tests.support import faults
from tests.support.calling import KEY, free_port

Connect = Callable[..., str]

CONNECTION_TESTS: dict[str, tuple[Reply, bool, str]] = {
    "found": (replies.json_reply(200, {"data": [{"id": "m"}]}), True, "{url} answers with 1 model: m"),
    "many": (
        replies.json_reply(200, {"data": [{"id": f"m{number}"} for number in range(9)] + [{}, 7]}),
        True,
        "{url} answers with 9 models: m0, m1, m2, m3, m4, ...",
    ),
    "an array": (replies.json_reply(200, [{"id": "m"}, {"id": "n"}]), True, "{url} answers with 2 models: m, n"),
    "401": (replies.error(401, f"bad key {KEY}"), False, "Check the API key (password) of connection 'chat_default'"),
    "HTML": (replies.text(200, f"<html>{KEY}</html>", "text/html"), False, "HTTP 200 came with text that is not JSON"),
    "cut": (faults.half_body(b"{"), False, "was cut off"),
    "hang": (faults.hang(), False, "{url} was reached, but did not answer within 0.3 s"),
}


@pytest.mark.parametrize("name", CONNECTION_TESTS)
def test_test_connection_says_what_it_found(connect: Connect, name: str) -> None:
    models, works, words = CONNECTION_TESTS[name]
    with ChatServer(models=models) as server:
        # Only the server that hangs need take so long; the others are waited for on a busy machine.
        connect(server.url, password=KEY, extra={"timeout": 0.3 if name == "hang" else 30})
        found, message = ChatCompletionHook().test_connection()
        assert server.wait_all_closed()
        assert found is works
        assert words.format(url=server.url) in message
        assert KEY not in message


NO_PAGE = replies.text(404, "no such page")
NO_LIST: dict[str, tuple[Reply, Reply]] = {
    "a refusal of OpenAI's kind": (NO_PAGE, replies.error(400, "you must provide a model parameter")),
    "FastAPI's": (
        replies.json_reply(404, {"detail": "Not Found"}),
        replies.json_reply(422, {"detail": [{"msg": "x"}]}),
    ),
    "Azure's, by deployment": (
        replies.json_reply(404, {"error": {"code": "404", "message": "Resource not found"}}),
        replies.json_reply(400, {"error": {"message": "Missing required parameter: 'messages'.", "code": None}}),
    ),
    "a mock's, which answers whatever it is asked": (replies.status(405), replies.ok("Hello")),
    "a server's that has no such method": (replies.status(501), replies.text(400, "Bad Request")),
    "one that misses the model": (NO_PAGE, replies.error(404, 'model "" not found')),
    "one that trips over it": (NO_PAGE, replies.error(500, "'messages'")),
    "one that trips over it and says no more": (NO_PAGE, replies.text(500, "Internal Server Error", "text/plain")),
    "one with a list of another form": (replies.json_reply(200, {"models": []}), replies.error(400, "no messages")),
    "one in a 200": (NO_PAGE, replies.json_reply(200, {"error": {"message": "no messages", "code": 400}})),
}
HTML = replies.text(404, "<h1>Not here</h1>", "text/html")
NO_API: dict[str, tuple[Reply, Reply, str]] = {
    "no such page either": (NO_PAGE, NO_PAGE, "{url} was reached, but has no /models (HTTP 404)"),
    "nor in JSON": (NO_PAGE, replies.error(404, "Not Found"), "{url} was reached, but has no /models (HTTP 404)"),
    "pages for people": (HTML, replace(HTML, status=405), "{url} was reached, but has no /models (HTTP 404)"),
    "one for all": (HTML, replace(HTML, status=200), "HTTP 200 came with text that is not JSON"),
    "a refusal by a web server": (NO_PAGE, replace(HTML, status=400), "Correct the request (HTTP 400)"),
    "a wrong key": (NO_PAGE, replies.error(401, "bad key"), "Check the API key (password) of connection"),
    "an empty account": (NO_PAGE, replies.error(402, "no credit"), "Add credit to the account behind connection"),
    "a server that is down": (NO_PAGE, replies.text(502, "<html>", "text/html"), "(HTTP 502)"),
    "a redirect": (NO_PAGE, faults.redirect("https://a.example/v1/chat/completions"), "Write https://a.example/v1 in"),
    "JSON of another kind": (replies.json_reply(200, {"ok": True}), NO_PAGE, "without choices"),
    "silence": (NO_PAGE, faults.hang(), "{url} was reached, but did not answer within 0.3 s"),
}


@pytest.mark.parametrize("model", [None, "gpt-9"])
@pytest.mark.parametrize("name", NO_LIST)
def test_a_server_that_answers_and_has_no_list_of_models_works(connect: Connect, name: str, model: str | None) -> None:
    models, completion = NO_LIST[name]
    with ChatServer(models=models) as server:
        server.default = completion
        connect(server.url, password=KEY, extra={"model": model} if model else {})
        found, message = ChatCompletionHook().test_connection()
        assert found, message
        assert message.startswith(f"{server.url} answers, but has no list of models (HTTP {models.status} for /models)")
        assert ("the model 'gpt-9' was not looked for" in message) is (model is not None)
        assert [(request.method, request.path) for request in server.requests] == [
            ("GET", "/v1/models"),
            ("POST", "/v1/chat/completions"),
        ]
        assert server.requests[1].json == {}, "nothing that a model could be paid for"
        assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("name", NO_API)
def test_a_server_that_is_no_such_api_does_not(connect: Connect, name: str) -> None:
    models, completion, words = NO_API[name]
    with ChatServer(models=models) as server:
        server.default = completion
        connect(server.url, password=KEY, extra={"timeout": 0.3})
        found, message = ChatCompletionHook().test_connection()
        assert not found
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
        ("http://127.0.0.1:{port}/v1", {"colour": 1}, "colour is not an extra"),
    ],
)
def test_test_connection_says_what_is_wrong(connect: Connect, host: str, extra: Any, words: str) -> None:
    connect(host.format(port=free_port()), password=KEY, extra=extra)
    found, message = ChatCompletionHook().test_connection()
    assert not found
    assert words in message
    assert KEY not in message
