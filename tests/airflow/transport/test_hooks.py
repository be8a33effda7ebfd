"""What the hook sends, what it logs, and what it says of a connection."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_chat_provider import hooks
from airflow_chat_provider.airflow_api import connections
from airflow_chat_provider.errors import InvalidRequest, RateLimited
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, Received, Reply, replies
from airflow_chat_provider.transport import session
from tests.support.calling import AT_ONCE, KEY, REQUEST, Create, acreate, both, create

Connect = Callable[..., str]


def sent(server: ChatServer, create: Create, **arguments: Any) -> Received:
    """The one request that a call leads to."""
    create(ChatCompletionHook(), **arguments)
    return server.requests[-1]


@both
def test_a_call_is_one_post_of_the_request_with_the_key(server: ChatServer, connect: Connect, create: Create) -> None:
    connect(server.url, password=KEY)
    reply = create(ChatCompletionHook())
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("airflow-chat-provider/")
    assert request.json == REQUEST
    assert (reply.text, reply.status, reply.message["role"]) == ("Hello", 200, "assistant")


@both
def test_the_model_of_the_connection_is_filled_in_where_the_request_names_none(
    server: ChatServer, connect: Connect, create: Create
) -> None:
    connect(server.url, extra={"model": "its-own"})
    without = {"messages": REQUEST["messages"]}
    assert sent(server, create, request=without).json["model"] == "its-own"
    assert sent(server, create).json["model"] == "test-model"


@both
def test_a_model_that_is_named_nowhere_is_an_error_that_says_where_to(
    server: ChatServer, connect: Connect, create: Create
) -> None:
    connect(server.url)
    with pytest.raises(InvalidRequest, match="the extra 'model' of connection 'chat_default'"):
        create(ChatCompletionHook(), {"messages": REQUEST["messages"]})
    assert server.requests == []


@both
def test_an_unchecked_request_goes_out_as_it_is(server: ChatServer, connect: Connect, create: Create) -> None:
    connect(server.url, extra={"request_schema": "none"})
    unchecked = {"messages": [{"role": "user", "content": "Hi"}], "option_of_this_server": [1]}
    assert sent(server, create, request=unchecked).json == unchecked


MADE_UP = [
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "assistant<|channel|>analysis", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "There is no such tool."},
]
REFUSED_BY_OPENAI: list[dict[str, Any]] = [
    {"parallel_tool_calls": False},
    {"max_tokens": 9, "max_completion_tokens": 9},
    {"tools": [{"type": "function", "function": {"name": "mail.send", "parameters": {"type": "object"}}}]},
    {"messages": MADE_UP},
]


@both
@pytest.mark.parametrize("more", REFUSED_BY_OPENAI)
def test_what_openai_alone_refuses_is_sent_to_another_server(
    chat: ChatServer, create: Create, more: dict[str, Any]
) -> None:
    assert sent(chat, create, request={**REQUEST, **more}).json == {**REQUEST, **more}


@both
@pytest.mark.parametrize("more", REFUSED_BY_OPENAI)
def test_what_openai_refuses_is_not_sent_to_it(
    server: ChatServer, connect: Connect, create: Create, more: dict[str, Any]
) -> None:
    connect("http://api.openai.com/v1", extra={"proxy": server.url.removesuffix("/v1")})
    with pytest.raises(InvalidRequest, match="request_schema='open' sends it as it is"):
        create(ChatCompletionHook(), {**REQUEST, **more})
    assert server.requests == []


@both
def test_a_request_against_the_schema_is_not_sent(chat: ChatServer, create: Create) -> None:
    for wrong in {**REQUEST, "tempreture": 1}, {**REQUEST, "stream": 1}:
        with pytest.raises(InvalidRequest):
            create(ChatCompletionHook(), wrong)
    assert chat.requests == []


@both
def test_the_shape_of_azure(server: ChatServer, connect: Connect, create: Create) -> None:
    host = server.url.replace("/v1", "/openai/deployments/gpt-4o")
    connect(host, password=KEY, extra={"auth": "api-key", "query": {"api-version": "2024-10-21"}})
    request = sent(server, create)
    assert request.target == "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers


@both
def test_organization_project_headers_query_and_endpoint_are_sent(
    server: ChatServer, connect: Connect, create: Create
) -> None:
    extra = {
        "organization": "org-1",
        "project": "proj-1",
        "headers": {"X-Team": "data", "X-Number": 7},
        "query": {"a": "1 & 2", "b": "ü"},
        "endpoint": "other/path",
    }
    connect(server.url, extra=extra)
    request = sent(server, create)
    assert (request.path, request.query) == ("/v1/other/path", {"a": "1 & 2", "b": "ü"})
    names = ("openai-organization", "openai-project", "x-team", "x-number")
    assert [request.headers[name] for name in names] == ["org-1", "proj-1", "data", "7"]


@both
@pytest.mark.parametrize(
    ("password", "extra", "authorization"),
    [
        ("", {}, None),
        (KEY, {"auth": "none"}, None),
        (KEY, {"auth": "none", "headers": {"Authorization": "Basic abc"}}, "Basic abc"),
        (KEY, {"headers": {"AUTHORIZATION": "Basic abc"}}, "Basic abc"),
    ],
)
def test_a_header_of_the_connection_takes_the_place_of_the_key(
    *, server: ChatServer, connect: Connect, create: Create, password: str, extra: Any, authorization: str | None
) -> None:
    connect(server.url, password=password, extra=extra)
    assert sent(server, create).headers.get("authorization") == authorization


def keys(server: ChatServer) -> list[str]:
    return [request.headers["idempotency-key"] for request in server.requests]


@both
def test_attempts_share_an_idempotency_key_and_calls_do_not(chat: ChatServer, create: Create) -> None:
    chat.script(*[replies.error(500, "oops", headers=AT_ONCE)] * 2)
    create(ChatCompletionHook())
    create(ChatCompletionHook())
    first, second, third, other = keys(chat)
    assert first == second == third != other


@both
def test_a_given_idempotency_key_is_used(server: ChatServer, connect: Connect, create: Create) -> None:
    connect(server.url, extra={"headers": {"Idempotency-Key": "fixed"}})
    create(ChatCompletionHook(), idempotency_key="mine")
    assert keys(server) == ["mine"]


def test_a_reply_that_is_sent_for_holds_its_error(chat: ChatServer) -> None:
    chat.script(replies.error(429, "slow down"))
    hook = ChatCompletionHook(max_attempts=1)
    reply = hook.session.send(hook.session.prepare(REQUEST, "2026-11"))
    hook.close()
    assert isinstance(reply.error, RateLimited)
    assert reply.status == 429


def test_threads_share_a_hook(chat: ChatServer) -> None:
    hook = ChatCompletionHook()
    start = threading.Barrier(8)

    def call(number: int) -> tuple[str, Any]:
        start.wait()
        content = f"thread {number}"
        return content, hook.create({**REQUEST, "messages": [{"role": "user", "content": content}]}).text

    chat.script(*[lambda request: replies.ok(request.json["messages"][0]["content"])] * 8)
    with ThreadPoolExecutor(8) as pool:
        assert all(asked == answered for asked, answered in pool.map(call, range(8)))
    client = hook.session.client
    hook.close()
    assert chat.wait_all_closed(), "one client had all the connections"
    assert hook.session.client is client


def test_threads_that_begin_together_read_the_connection_once_and_share_a_session(
    chat: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def slowly(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            made.append(name)
            time.sleep(0.05)  # long enough for the others to come by
            return step(*arguments)

        return run

    monkeypatch.setattr(session, "Session", slowly("session", session.Session))
    monkeypatch.setattr(hooks, "read_settings", slowly("settings", connections.read_settings))
    hook = ChatCompletionHook()
    with ThreadPoolExecutor(4) as pool:
        sessions = list(pool.map(lambda _: hook.session, range(4)))
    assert len({id(one) for one in sessions}) == 1
    assert made == ["settings", "session"]


def test_calls_of_a_hook_share_a_connection(chat: ChatServer) -> None:
    hook = ChatCompletionHook()
    hook.create(REQUEST)
    hook.create(REQUEST)
    hook.close()
    assert len({request.connection_id for request in chat.requests}) == 1
    assert chat.wait_all_closed()


def test_get_conn_is_a_client_of_the_connection(server: ChatServer, connect: Connect) -> None:
    connect(server.url, password=KEY, extra={"headers": {"X-Team": "data"}, "query": {"api-version": "1"}})
    with ChatCompletionHook().get_conn() as client:
        assert client.get("models").json()["data"][0]["id"] == "test-model"
        assert client.post("/embeddings", json={"input": "x"}).status_code == 200
    paths = [(request.path, request.query) for request in server.requests]
    assert paths == [("/v1/models", {"api-version": "1"}), ("/v1/embeddings", {"api-version": "1"})]
    for request in server.requests:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["x-team"] == "data"


def test_get_conn_gives_one_client_for_as_long_as_it_is_open(chat: ChatServer) -> None:
    hook = ChatCompletionHook()
    with hook.get_conn() as client:
        assert hook.get_conn() is client


def test_get_conn_works_again_after_its_client_was_closed(chat: ChatServer) -> None:
    hook = ChatCompletionHook()
    for _ in range(2):
        with hook.get_conn() as client:
            assert client.get("models").status_code == 200
    assert create(hook).status == 200


def test_acreate_leaves_no_connection_open(chat: ChatServer) -> None:
    acreate(ChatCompletionHook())
    assert chat.wait_all_closed()


def test_calls_of_one_loop_run_side_by_side(chat: ChatServer) -> None:
    together = threading.Barrier(4)

    def answer(_request: Received) -> Reply:
        together.wait(60)
        return replies.ok()

    chat.script(*[answer] * 4)

    async def four() -> list[Any]:
        hook = ChatCompletionHook()
        return list(await asyncio.gather(*(hook.acreate(REQUEST) for _ in range(4))))

    assert [reply.text for reply in asyncio.run(four())] == ["Hello"] * 4


def test_the_form_of_the_connection_hides_what_is_not_used() -> None:
    behaviour = ChatCompletionHook.get_ui_field_behaviour()
    assert behaviour["hidden_fields"] == ["schema", "port", "login"]
    assert behaviour["relabeling"]["password"] == "API key"


def test_a_query_of_the_connection_is_escaped_once(server: ChatServer, connect: Connect) -> None:
    connect(server.url, extra={"query": {"filter": "a=b&c"}})
    assert urllib.parse.unquote(sent(server, create).target).endswith("?filter=a=b&c")
