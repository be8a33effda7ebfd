"""A base URL that is nearly right: errors and the Test button say which field to correct, and how."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_chat_provider.errors import InvalidConnection, StatusError, TransportError
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, Received, Reply, replies
from tests.support import faults
from tests.support.calling import KEY, PROMPT, Create, both, failure, free_port
from tests.support.certs import Certificates
from tests.support.proxy import ForwardProxy

Connect = Callable[..., str]

ROOT = "most servers want /v1 at the end of the base URL"
NGINX = "<html><center><h1>400 Bad Request</h1></center><center>The plain HTTP request was sent to HTTPS port</center>"
APACHE = "<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />Instead use the HTTPS scheme</p>"
WRITE_HTTP = "Write http:// in the base URL (host): the server does not speak TLS (TLS: "
WRITE_HTTPS = "Write https:// in the base URL (host): the server expects TLS (HTTP 400"
IF_HTTP = "; if the server speaks plain http, write http:// in the base URL (host)"
IF_HTTPS = "; if the server speaks TLS, write https:// in the base URL (host)"


def button() -> str:
    """What the Test button says."""
    found, message = ChatCompletionHook().test_connection()
    assert not found
    return message


def said(create: Create, kind: type[Exception] = TransportError) -> str:
    """What a call fails with."""
    error = failure(create, ChatCompletionHook())
    assert isinstance(error, kind)
    assert KEY not in error.message
    assert PROMPT not in error.message
    return error.message


@contextlib.contextmanager
def peer(answer: bytes, *, reset: bool = False) -> Iterator[int]:
    """The port of a server that reads something, answers with these bytes and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken, _ = listener.accept()
                    with taken:
                        taken.recv(1 << 16)
                        taken.sendall(answer)
                        if reset:
                            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


class _Plain(BaseHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Tests keep stderr for themselves."""


@contextlib.contextmanager
def python_server(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Another HTTP server than ours."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Plain) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class TestScheme:
    @both
    def test_https_to_a_server_without_tls_is_named(self, connect: Connect, create: Create) -> None:
        with python_server() as port:
            connect(f"https://127.0.0.1:{port}/v1", password=KEY, extra={"max_attempts": 1})
            for message in said(create), button():
                assert message.startswith(WRITE_HTTP)
                assert "the server does not speak TLS (TLS: WRONG_VERSION_NUMBER)" in message

    @both
    @pytest.mark.parametrize(
        ("answer", "reset", "words"),
        [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, WRITE_HTTP),
            (b"\0\1\2 garbage", False, WRITE_HTTP),
            (b"", False, IF_HTTP),
            (b"", True, IF_HTTP),
        ],
    )
    def test_https_to_what_is_no_tls_says_so(
        self, connect: Connect, create: Create, answer: bytes, reset: bool, words: str
    ) -> None:
        with peer(answer, reset=reset) as port:
            connect(f"https://127.0.0.1:{port}/v1", extra={"max_attempts": 1})
            assert words in said(create)
            assert words in button()

    @both
    def test_https_to_a_server_that_waits_for_the_end_of_the_line_says_so(
        self, server: ChatServer, connect: Connect, create: Create
    ) -> None:
        connect(server.url.replace("http:", "https:"), extra={"max_attempts": 1, "timeout": 0.5})
        for message in said(create), button():
            assert "no connection within 0.5 s (timeout)" in message
            assert message.endswith(IF_HTTP)
        assert server.requests == []

    @both
    @pytest.mark.parametrize("host", ["http://127.0.0.1:{port}/v1", "https://127.0.0.1:{port}/v1"])
    def test_where_nobody_listens_no_other_scheme_is_proposed(
        self, connect: Connect, create: Create, host: str
    ) -> None:
        connect(host.format(port=free_port()), extra={"max_attempts": 1})
        message = said(create)
        assert "(Connection refused)" in message
        assert "speaks" not in message

    @both
    def test_http_to_a_server_with_tls_says_so(
        self, connect: Connect, create: Create, certificates: Certificates
    ) -> None:
        with ChatServer(tls=certificates.server_tls) as server, python_server(certificates.server_tls) as port:
            for url in server.url.replace("https:", "http:"), f"http://127.0.0.1:{port}/v1":
                connect(url, password=KEY, extra={"max_attempts": 1})
                assert said(create).endswith(IF_HTTPS)
                assert button().endswith(IF_HTTPS)
            assert server.requests == []

    @both
    @pytest.mark.parametrize("answer", [b"\x15\x03\x03\x00\x02\x02\x46", b"\x15\x03\x03\x00\x02\x02\x46\r\n\r\n", b""])
    def test_http_to_what_answers_in_tls_says_so(self, connect: Connect, create: Create, answer: bytes) -> None:
        with peer(answer) as port:
            connect(f"http://127.0.0.1:{port}/v1", extra={"max_attempts": 1})
            assert said(create).endswith(IF_HTTPS)
            assert button().endswith(IF_HTTPS)

    @both
    @pytest.mark.parametrize(
        "answer",
        [
            replies.text(400, NGINX, "text/html"),
            replies.text(400, APACHE, "text/html"),
            replies.text(400, "Client sent an HTTP request to an HTTPS server.\n"),
            replies.error(400, "This port requires TLS"),
        ],
        ids=["nginx", "Apache", "Go", "JSON"],
    )
    def test_a_server_that_asks_for_https_is_believed(self, connect: Connect, create: Create, answer: Reply) -> None:
        with ChatServer(models=answer) as server:
            server.default = answer
            connect(server.url, password=KEY, extra={"max_attempts": 3})
            assert said(create, StatusError).startswith(WRITE_HTTPS)
            assert len(server.requests) == 1
            assert button().startswith(WRITE_HTTPS)

    @both
    def test_a_proxy_without_tls_is_told_from_a_server_without_it(
        self, server: ChatServer, connect: Connect, create: Create
    ) -> None:
        with python_server() as port, ForwardProxy() as proxy:
            connect(server.url, extra={"max_attempts": 1, "proxy": f"https://127.0.0.1:{port}"})
            message = said(create)
            assert message.startswith("Write http:// in the extra 'proxy': the proxy does not")
            connect(f"https://127.0.0.1:{port}/v1", extra={"max_attempts": 1, "proxy": proxy.url})
            assert said(create).startswith(WRITE_HTTP)


class TestPath:
    @both
    @pytest.mark.parametrize("status", [404, 405])
    @pytest.mark.parametrize(
        "page", [replies.text(404, "<h1>Not here</h1>", "text/html"), replies.error(404, "Not Found")]
    )
    def test_a_bare_host_that_has_no_such_page_is_told_of_v1(
        self, connect: Connect, create: Create, page: Reply, status: int
    ) -> None:
        page = replace(page, status=status)
        with ChatServer(models=page) as server:
            server.default = page
            connect(server.url.removesuffix("/v1"))
            message = said(create, StatusError)
            assert ROOT in message
            assert ("a web page came" in message) is (b"<h1>" in page.body)
            assert button().endswith(f"has no /models (HTTP {status}); {ROOT}")
            connect(server.url)
            assert ROOT not in said(create, StatusError) + button()

    @both
    def test_a_bare_host_that_answers_with_a_page_is_told_of_v1(
        self, chat: ChatServer, connect: Connect, create: Create
    ) -> None:
        chat.default = replies.text(200, "<html>Welcome</html>", "text/html")
        connect(chat.url.removesuffix("/v1"), extra={"max_attempts": 1})
        assert failure(create, ChatCompletionHook()).message.endswith(ROOT)

    @both
    def test_a_bare_host_that_knows_the_model_not_is_the_right_one(
        self, chat: ChatServer, connect: Connect, create: Create
    ) -> None:
        chat.default = replies.error(404, "no such model", "model_not_found")
        connect(chat.url.removesuffix("/v1"))
        assert ROOT not in said(create, StatusError)


def moved(to: str) -> Callable[[Received], Reply]:
    return lambda request: faults.redirect(to.format(path=request.target, prompt=PROMPT, key=KEY), 301)


class TestRedirects:
    @both
    @pytest.mark.parametrize(
        ("to", "words"),
        [
            (
                "https://api.example.com{path}",
                "Write https://api.example.com/v1 in the base URL (host): the server redirects there",
            ),
            ("https://api.example.com/api{path}", "Write https://api.example.com/api/v1 in the base URL (host)"),
            ("//api.example.com/v1/chat/completions", "Write http://api.example.com/v1 in the base URL (host)"),
            ("/openai/v1/chat/completions", "/openai/v1 in the base URL (host): the server redirects there"),
            ("/v1/chat/completions/", "Write /chat/completions/ in the extra 'endpoint': the server redirects there"),
            (
                "https://sso.example.com/login?next={path}",
                "it redirects to https://sso.example.com, and redirects are not",
            ),
            ("https://me:{key}@api.example.com{path}", "Write https://api.example.com/v1 in the base URL"),
            ("https://api.example.com/{key}{path}", "it redirects, and redirects are not followed"),
            ("https://{prompt}{path}", "it redirects, and redirects are not followed"),
            ("https://[x{path}", "it redirects, and redirects are not followed"),
            ("ftp://api.example.com{path}", "it redirects, and redirects are not followed"),
            ("", "it redirects, and redirects are not followed"),
        ],
    )
    def test_the_new_place_is_named_as_what_to_write(
        self, server: ChatServer, connect: Connect, create: Create, to: str, words: str
    ) -> None:
        server.default = moved(to)
        connect(server.url, password=KEY)
        message = said(create, StatusError)
        assert words in message
        assert "(HTTP 301)" in message
        assert "redirects are not followed" in message
        assert len(server.requests) == 1

    def test_the_test_button_names_it_too(self, connect: Connect) -> None:
        with ChatServer(models=faults.redirect("https://api.example.com/v1/models", 308)) as server:
            connect(server.url, password=KEY)
            assert button().startswith(
                "Write https://api.example.com/v1 in the base URL (host): the server redirects there"
            )


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("https://https://api.x.com/v1", "host has two schemes; write https://api.x.com/v1"),
        ("https://api.x.com/v1/chat/completions", "host ends in /chat/completions: remove it"),
        ("https:/api.x.com/v1", "host has https:/ instead of https://; write https://api.x.com/v1"),
    ],
)
def test_a_mistake_that_can_be_seen_is_named_before_anything_is_sent(connect: Connect, host: str, words: str) -> None:
    connect(host, password=KEY)
    assert words in button()
    for call in (lambda: ChatCompletionHook().settings, lambda: asyncio.run(ChatCompletionHook().acreate({}))):
        with pytest.raises(InvalidConnection) as caught:
            call()
        assert (caught.value.field, words in caught.value.message) == ("host", True)
