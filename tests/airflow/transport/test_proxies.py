"""By way of a proxy: the connection's own, or the environment's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_chat_provider.errors import InvalidConnection, StatusError
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer
from airflow_chat_provider.transport.http_library import httpx
from tests.support.calling import KEY, Create, Log, acreate, both, create, failure, free_port, outcome, transport_error
from tests.support.certs import Certificates
from tests.support.proxy import ForwardProxy

Connect = Callable[..., str]
PASSWORD = "canary-proxy-password"


@pytest.fixture(params=["http", "https"])
def far(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[ChatServer]:
    with ChatServer(tls=certificates.server_tls if request.param == "https" else None) as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    with ForwardProxy() as running:
        yield running


@pytest.fixture
def guarded() -> Iterator[ForwardProxy]:
    """Wants credentials."""
    with ForwardProxy(username="me", password=PASSWORD) as running:
        yield running


@pytest.fixture
def extra(certificates: Certificates) -> dict[str, Any]:
    return {"verify": str(certificates.ca), "max_attempts": 1}


@both
def test_a_call_goes_by_the_proxy_of_the_connection(
    far: ChatServer, proxy: ForwardProxy, connect: Connect, extra: dict[str, Any], create: Create
) -> None:
    connect(far.url, password=KEY, extra={**extra, "proxy": proxy.url})
    assert create(ChatCompletionHook()).text == "Hello"
    (request,) = proxy.requests
    assert far.requests[0].headers["authorization"] == f"Bearer {KEY}"
    if far.url.startswith("https"):
        assert (request.method, request.target) == ("CONNECT", f"localhost:{far.port}")
        assert KEY not in str(request.headers), "the proxy of a tunnel does not learn the key"
    else:
        assert (request.method, request.target) == ("POST", f"{far.url}/chat/completions")


@both
def test_credentials_of_a_proxy_are_sent_to_it_alone(
    far: ChatServer, guarded: ForwardProxy, connect: Connect, extra: dict[str, Any], create: Create
) -> None:
    connect(far.url, extra={**extra, "proxy": guarded.url_with_credentials})
    assert create(ChatCompletionHook()).text == "Hello"
    assert guarded.refused == []
    assert "proxy-authorization" not in far.requests[0].headers


@pytest.mark.parametrize("credentials", ["", f"me:{KEY}@"], ids=["none", "wrong"])
def test_a_proxy_that_refuses_the_credentials_is_a_clear_error_without_them(
    *, far: ChatServer, guarded: ForwardProxy, connect: Connect, extra: dict[str, Any], log: Log, credentials: str
) -> None:
    connect(far.url, extra={**extra, "proxy": guarded.url.replace("//", f"//{credentials}")})
    first, second = outcome(create, ChatCompletionHook()), outcome(acreate, ChatCompletionHook())
    assert first == second
    assert "407" in first["message"]
    assert "proxy" in first["message"]
    assert far.requests == []
    assert KEY not in str(first) + log.text


@both
def test_a_proxy_that_cannot_reach_the_server_is_an_error(
    proxy: ForwardProxy, connect: Connect, create: Create
) -> None:
    connect(f"http://127.0.0.1:{free_port()}/v1", extra={"proxy": proxy.url, "max_attempts": 1})
    error = failure(create, ChatCompletionHook())
    assert isinstance(error, StatusError)
    assert error.status == 502
    connect(f"https://127.0.0.1:{free_port()}/v1", extra={"proxy": proxy.url, "max_attempts": 1})
    tunnel = transport_error(create, ChatCompletionHook())
    assert "the proxy answered 502" in tunnel.message
    assert not tunnel.sent


@both
def test_a_proxy_that_is_not_there_is_an_error_before_anything_is_sent(
    connect: Connect, server: ChatServer, create: Create
) -> None:
    connect(server.url, extra={"proxy": f"http://127.0.0.1:{free_port()}", "max_attempts": 1})
    error = transport_error(create, ChatCompletionHook())
    assert not error.sent
    assert "proxy" in error.message
    assert server.requests == []


def test_a_proxy_with_an_impossible_name_is_an_error_of_the_transport(connect: Connect, server: ChatServer) -> None:
    connect(server.url, extra={"proxy": f"http://{'a' * 64}.example:3128", "max_attempts": 1})
    first, second = outcome(create, ChatCompletionHook()), outcome(acreate, ChatCompletionHook())
    assert (first["error"], first["sent"]) == (second["error"], second["sent"]) == ("TransportError", False)


@both
@pytest.mark.parametrize("scheme", ["http://", ""], ids=["URL", "host and port"])
def test_the_proxy_of_the_environment_is_used(
    *,
    far: ChatServer,
    proxy: ForwardProxy,
    connect: Connect,
    extra: dict[str, Any],
    create: Create,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    name = "HTTPS_PROXY" if far.url.startswith("https") else "HTTP_PROXY"
    monkeypatch.setenv(name, f"{scheme}127.0.0.1:{proxy.port}")
    connect(far.url, extra=extra)
    assert create(ChatCompletionHook()).text == "Hello"
    assert len(proxy.requests) == 1


@both
@pytest.mark.parametrize(
    ("environment", "used"),
    [
        ({"ALL_PROXY": "{proxy}"}, True),
        ({"HTTPS_PROXY": "{proxy}"}, False),
        ({"HTTP_PROXY": "{proxy}", "NO_PROXY": "example.com"}, True),
        ({"HTTP_PROXY": "{proxy}", "NO_PROXY": "example.com,127.0.0.1"}, False),
        ({"HTTP_PROXY": "{proxy}", "NO_PROXY": "*"}, False),
        ({"NO_PROXY": "127.0.0.1"}, False),
    ],
    ids=str,
)
def test_the_environment_says_which_hosts_the_proxy_is_for(
    *,
    server: ChatServer,
    proxy: ForwardProxy,
    connect: Connect,
    create: Create,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    used: bool,
) -> None:
    for name in "NO_PROXY", "no_proxy":
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(proxy=proxy.url))
    connect(server.url)
    assert create(ChatCompletionHook()).text == "Hello"
    assert len(proxy.requests) == used


@both
def test_the_proxy_of_the_connection_wins_over_the_environment(
    server: ChatServer, proxy: ForwardProxy, connect: Connect, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "*")
    connect(server.url, extra={"proxy": proxy.url})
    assert create(ChatCompletionHook()).text == "Hello"
    assert len(proxy.requests) == 1


def test_get_conn_goes_by_the_proxy(server: ChatServer, proxy: ForwardProxy, connect: Connect) -> None:
    connect(server.url, extra={"proxy": proxy.url})
    with ChatCompletionHook().get_conn() as client:
        assert client.get("models").status_code == 200
    assert len(proxy.requests) == 1


@both
@pytest.mark.parametrize("value", [f"gopher://me:{KEY}@h:1", f"http://me:{KEY}@h:port"])
def test_a_proxy_of_the_environment_that_is_none_is_an_error_without_its_password(
    *, server: ChatServer, connect: Connect, create: Create, monkeypatch: pytest.MonkeyPatch, log: Log, value: str
) -> None:
    for name in "NO_PROXY", "no_proxy":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", value)
    connect(server.url)
    error = failure(create, ChatCompletionHook())
    assert isinstance(error, InvalidConnection)
    assert error.field == "proxy"
    assert "environment" in error.message
    assert KEY not in repr(error) + log.text


@both
def test_a_socks_proxy_without_its_library_says_what_to_install(
    server: ChatServer, connect: Connect, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    connect(server.url, extra={"proxy": "socks5://127.0.0.1:1080"})
    error = failure(create, ChatCompletionHook())
    assert isinstance(error, InvalidConnection)
    assert error.field == "proxy"
    assert f"{httpx.__name__}[socks]" in error.message
