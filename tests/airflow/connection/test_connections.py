"""From an Airflow connection, however it was written, to settings; and what is said of one that cannot be used."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk import Connection

from airflow_chat_provider.airflow_api.connections import KnownConnections
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.errors import InvalidConnection, InvalidRequest
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import replies
from tests.support.calling import KEY, REQUEST, Create, Log, both, create

BEFORE_3_2 = tuple(map(int, version("apache-airflow-core").split(".")[:2])) < (3, 2)
FULL = quote("http://localhost:8080/v1", safe="")


def settings_of(monkeypatch: pytest.MonkeyPatch, written: str | dict[str, Any]) -> Settings:
    text = written if isinstance(written, str) else json.dumps({"conn_type": "chat", **written})
    monkeypatch.setenv("AIRFLOW_CONN_CHAT_TEST", text)
    return ChatCompletionHook("chat_test").settings


@pytest.mark.parametrize(
    ("written", "base_url"),
    [
        ({}, "https://api.openai.com/v1"),
        ({"host": "", "port": None, "schema": "", "login": "", "extra": ""}, "https://api.openai.com/v1"),
        ({"host": "http://localhost:8080/v1"}, "http://localhost:8080/v1"),
        ({"host": "http://localhost:8080/v1/"}, "http://localhost:8080/v1"),
        ({"host": "localhost:8080/v1"}, "http://localhost:8080/v1"),
        ({"host": "localhost", "port": 8080, "schema": "v1"}, "http://localhost:8080/v1"),
        ({"host": "127.0.0.1", "port": "8080"}, "http://127.0.0.1:8080"),
        ({"host": "api.example.com"}, "https://api.example.com"),
        ({"host": "api.example.com/v1"}, "https://api.example.com/v1"),
        ({"host": "api.example.com", "schema": "http"}, "http://api.example.com"),
        ({"host": "https://api.example.com", "port": 8443}, "https://api.example.com:8443"),
        ({"host": "http://[::1]:8080/v1"}, "http://[::1]:8080/v1"),
        ({"host": "::1", "port": 8080}, "http://[::1]:8080"),
        ({"host": "https://eu.example.com/openai/deployments/gpt"}, "https://eu.example.com/openai/deployments/gpt"),
        ("chat://", "https://api.openai.com/v1"),
        ("chat://localhost:8080/v1", "http://localhost:8080/v1"),
        ("chat://:key@api.example.com/v1", "https://api.example.com/v1"),
        ("chat://:key@api.example.com:8443/v1?model=m", "https://api.example.com:8443/v1"),
        ("chat://http://:key@localhost:8080/v1", "http://localhost:8080/v1"),
        ("chat://https://:key@api.example.com/openai%2Fv1", "https://api.example.com/openai/v1"),
        (f"chat://:key@{FULL}", "http://localhost:8080/v1"),
        (f"chat://:key@{FULL}/?model=m", "http://localhost:8080/v1"),
        ("chat://:key@[::1]:8080/v1", "http://[::1]:8080/v1"),
    ],
    ids=str,
)
def test_a_base_url_is_read_however_it_was_written(
    monkeypatch: pytest.MonkeyPatch, written: str | dict[str, Any], base_url: str
) -> None:
    assert settings_of(monkeypatch, written).base_url == base_url


@pytest.mark.parametrize("key", [KEY, "", "a/b+c=d:e@f%g h"])
@pytest.mark.parametrize("form", ["json", "uri"])
def test_a_key_arrives_as_it_was_written(monkeypatch: pytest.MonkeyPatch, key: str, form: str) -> None:
    uri = f"chat://:{quote(key, safe='')}@localhost:8080/v1"
    assert settings_of(monkeypatch, {"password": key} if form == "json" else uri).api_key == key


@pytest.mark.parametrize("form", ["json", "json text", "uri", "uri __extra__"])
def test_extras_keep_their_types_in_every_form(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    extra = {"model": "m-1", "timeout": 30, "max_attempts": 2, "verify": False, "query": {"api-version": "1"}}
    texts = "model=m-1&timeout=30&max_attempts=2&verify=false&query=" + quote('{"api-version": "1"}')
    written: dict[str, Any] = {
        "json": {"extra": extra},
        "json text": {"extra": json.dumps(extra)},
        "uri": f"chat://h/?{texts}",
        "uri __extra__": f"chat://h/?__extra__={quote(json.dumps(extra))}",
    }
    found = settings_of(monkeypatch, written[form])
    assert (found.model, found.timeout, found.max_attempts, found.verify) == ("m-1", 30.0, 2, False)
    assert found.query == {"api-version": "1"}


@pytest.mark.parametrize(
    "host",
    ["http://localhost:8080/v1", "localhost:8080/v1", "https://api.example.com/v1", "http://[::1]:8080/v1", ""],
)
@pytest.mark.parametrize("extra", [None, {"model": "m", "headers": {"X-Team": "a b"}, "timeout": 5}, {"model": "m"}])
def test_a_connection_is_the_same_after_the_round_trip_of_the_test_button(
    monkeypatch: pytest.MonkeyPatch, host: str, extra: dict[str, Any] | None
) -> None:
    """The UI hands the connection to the hook as a URI in an environment variable."""
    parts: dict[str, Any] = {"host": host, "password": KEY, "extra": json.dumps(extra) if extra else None}
    before = settings_of(monkeypatch, parts)
    uri = Connection(conn_id="chat_test", conn_type="chat", **parts).get_uri()
    assert settings_of(monkeypatch, uri) == before


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ({"conn_type": "http", "host": "h"}, "conn_type"),
        ({"login": "me"}, "login"),
        ({"password": f"{KEY}\nX-Evil: 1"}, "password"),
        ({"password": f"{KEY}ü"}, "password"),
        ({"host": "ftp://h/v1"}, "host"),
        ({"host": "https://h/v1?key=1"}, "host"),
        ({"host": f"https://me:{KEY}@h/v1"}, "host"),
        ({"host": "https://h/v1/chat/completions"}, "host"),
        ({"host": "https://h:99999/v1"}, "host"),
        ({"host": "https://h:80/v1", "port": 81}, "port"),
        ({"extra": "no JSON"}, "extra"),
        ({"extra": "[1]"}, "extra"),
        ({"extra": {"tiemout": 1}}, "tiemout"),
        ({"extra": {"timeout": "soon"}}, "timeout"),
        ({"extra": {"timeout": -1}}, "timeout"),
        ({"extra": {"deadline": True}}, "deadline"),
        ({"extra": {"max_attempts": 1.5}}, "max_attempts"),
        ({"extra": {"auth": "basic"}}, "auth"),
        ({"extra": {"headers": {"X-Key": f"{KEY}\n"}}}, "headers"),
        ({"extra": {"headers": {"Content-Length": "1"}}}, "headers"),
        ({"extra": {"query": "a=1"}}, "query"),
        ({"extra": {"endpoint": "https://h/"}}, "endpoint"),
        ({"extra": {"proxy": f"me:{KEY}@h"}}, "proxy"),
        ({"extra": {"verify": 1}}, "verify"),
        ({"extra": {"client_key": "k.pem"}}, "client_key"),
        ({"extra": {"request_schema": 7}}, "request_schema"),
    ],
    ids=str,
)
def test_a_connection_that_cannot_be_used_names_its_field_and_no_key(
    monkeypatch: pytest.MonkeyPatch, log: Log, written: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidConnection) as caught:
        settings_of(monkeypatch, {"password": KEY, **written})
    # Airflow 3.1 takes a connection whose extra it cannot read for one that does not exist.
    unread = BEFORE_3_2 and isinstance(written.get("extra"), str)
    assert caught.value.field == ("conn_id" if unread else field)
    assert "'chat_test'" in caught.value.message
    assert KEY not in repr(caught.value) + log.text
    assert caught.value.final, "Airflow need not try again"


def test_an_unknown_connection_is_named() -> None:
    with pytest.raises(InvalidConnection, match="Create connection 'nowhere' of type 'chat'") as caught:
        _ = ChatCompletionHook("nowhere").settings
    assert caught.value.field == "conn_id"


MALFORMED = [
    f'{{"conn_type": "chat", "password": "{KEY}"',
    f'{{"conn_type": "chat", "password": "{KEY}", "colour": 1}}',
    f'{{"conn_type": "chat", "password": "{KEY}", "port": "{KEY}"}}',
    f"chat://:{KEY}@host:port/v1",
    f"chat://:{KEY}@http://host/v1",
    f"chat://:{KEY}@[host/v1",
    f"chat://http://https://:{KEY}@host",
]


def refused_without_its_key(monkeypatch: pytest.MonkeyPatch, log: Log, written: str) -> InvalidConnection:
    with pytest.raises(InvalidConnection) as caught:
        settings_of(monkeypatch, written)
    logged = "" if BEFORE_3_2 else log.text  # Airflow 3.1 itself logs what it cannot read
    assert KEY not in f"{caught.value!r} {caught.value.__cause__!r}" + logged
    return caught.value


@pytest.mark.parametrize(
    "written",
    [
        f"chat://:{KEY}/rest@api.example.com/v1",
        f"chat://:{KEY}?rest@api.example.com/v1",
        f"chat://:{KEY}#rest@api.example.com/v1",
        f"chat://:12/{KEY}@api.example.com/v1",
        f"chat://{KEY}/rest@api.example.com/v1",
    ],
)
def test_a_uri_whose_key_is_not_percent_encoded_says_what_to_write(
    monkeypatch: pytest.MonkeyPatch, log: Log, written: str
) -> None:
    error = refused_without_its_key(monkeypatch, log, written)
    assert error.field == "password"
    assert "ercent-encode" in error.message
    assert "/ as %2F" in error.message


def test_a_slash_that_is_percent_encoded_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(monkeypatch, "chat://:sk%2Frest@api.example.com/v1").api_key == "sk/rest"


def test_a_connection_in_the_environment_that_airflow_passes_over_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidConnection, match="read what the environment has in AIRFLOW_CONN_CHAT_TEST"):
        settings_of(monkeypatch, '{"conn_type": "chat"')


@pytest.mark.parametrize("written", MALFORMED)
def test_a_malformed_connection_is_refused_without_its_key(
    monkeypatch: pytest.MonkeyPatch, log: Log, written: str
) -> None:
    assert refused_without_its_key(monkeypatch, log, written).field == "conn_id"


@pytest.mark.parametrize("key", ["sk-a/b", "sk-a#b", "sk-a?b"])
def test_a_key_that_breaks_its_uri_is_refused_with_the_way_to_write_it(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    with pytest.raises(InvalidConnection, match="Percent-encode the API key in the URI of connection") as caught:
        settings_of(monkeypatch, f"chat://:{key}@api.example.com/v1?model=m")
    assert key not in repr(caught.value)


@pytest.mark.parametrize("written", MALFORMED)
def test_where_airflow_lets_its_own_error_through_that_is_no_other(written: str) -> None:
    """Airflow tries the next backend after a failure, but not where it keeps connections in its cache."""

    class Strict(ChatCompletionHook):
        @classmethod
        def get_connection(cls, conn_id: str) -> Any:
            if written.startswith("{"):
                return Connection.from_json(written, conn_id=conn_id)
            return Connection.from_uri(written, conn_id=conn_id)

    with pytest.raises(InvalidConnection, match="Write connection 'chat_test' anew") as caught:
        _ = Strict("chat_test").settings
    assert KEY not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_other_failures_of_airflow_are_left_as_they_are() -> None:
    from airflow_chat_provider.airflow_api.compat import exceptions

    class Down(ChatCompletionHook):
        @classmethod
        def get_connection(cls, conn_id: str) -> Any:
            raise exceptions.AirflowException("the API server is away")

    with pytest.raises(exceptions.AirflowException, match="is away"):
        _ = Down("chat_test").settings


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"headers": {"X-Key": KEY}, "query": {"key": KEY}, "proxy": f"http://me:{KEY}@127.0.0.1:3128"}
    assert KEY not in repr(settings_of(monkeypatch, {"password": KEY, "extra": extra}))


@both
def test_limits_of_the_hook_win_over_the_connection(monkeypatch: pytest.MonkeyPatch, create: Create) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CHAT_TEST", '{"conn_type": "chat", "extra": {"timeout": 5, "deadline": 6}}')
    found = ChatCompletionHook("chat_test", timeout=1, max_attempts=9).settings
    assert (found.timeout, found.deadline, found.max_attempts) == (1.0, 6.0, 9)
    with pytest.raises(InvalidRequest, match="Correct the argument timeout"):
        create(ChatCompletionHook("chat_test", timeout=0))


class _SixHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = replies.ok("six").body
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Tests keep stderr for themselves."""


@contextmanager
def server_on_ipv6() -> Iterator[int]:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    try:
        server = Server(("::1", 0), _SixHandler)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@both
@pytest.mark.parametrize("host", ["http://[::1]:{port}/v1", "::1"])
def test_an_ipv6_address_is_called(monkeypatch: pytest.MonkeyPatch, create: Create, host: str) -> None:
    with server_on_ipv6() as port:
        parts = {"conn_type": "chat", "host": host.format(port=port), "port": port}
        monkeypatch.setenv("AIRFLOW_CONN_CHAT_TEST", json.dumps(parts))
        assert create(ChatCompletionHook("chat_test")).text == "six"


def test_a_host_that_the_http_library_refuses_is_an_error_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CHAT_TEST", json.dumps({"conn_type": "chat", "host": "http://☃.example/v1"}))
    with pytest.raises(InvalidConnection) as caught:
        create(ChatCompletionHook("chat_test"), REQUEST)
    assert caught.value.field == "host"


class TestKnownConnections:
    @staticmethod
    def read(seconds: float, *conn_ids: str) -> list[str]:
        """Which were read, where all are asked for at once and then one after the other."""
        reads = []

        async def ask() -> None:
            known = KnownConnections(seconds)

            async def fetch(conn_id: str) -> Settings:
                reads.append(conn_id)
                await asyncio.sleep(0.01)
                return Settings(conn_id=conn_id)

            found = await asyncio.gather(*(known.get(name, partial(fetch, name)) for name in conn_ids))
            found += [await known.get(name, partial(fetch, name)) for name in conn_ids]
            assert [settings.conn_id for settings in found] == [*conn_ids, *conn_ids]

        asyncio.run(ask())
        return reads

    def test_a_connection_is_read_once_for_all_who_ask_at_once_or_soon_after(self) -> None:
        assert sorted(self.read(60, "a", "a", "b", "a")) == ["a", "b"]

    def test_a_connection_is_read_again_after_its_time(self) -> None:
        assert self.read(0, "a") == ["a", "a"]

    def test_a_connection_that_could_not_be_read_is_read_again(self) -> None:
        async def ask() -> None:
            known = KnownConnections(60)

            async def fail() -> Settings:
                raise InvalidConnection("none of that id")

            async def succeed() -> Settings:
                return Settings()

            with pytest.raises(InvalidConnection):
                await known.get("a", fail)
            assert await known.get("a", succeed) == Settings()

        asyncio.run(ask())
