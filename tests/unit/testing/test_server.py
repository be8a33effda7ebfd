"""The scripted server and the proxy do on the wire what the other tests rely on."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from airflow_chat_provider.testing import ChatServer, Received, replies
from airflow_chat_provider.testing.replies import End, Event, Reply
from tests.support import faults
from tests.support.certs import Certificates
from tests.support.proxy import ForwardProxy

REQUEST = {"model": "test-model", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as opened:
        yield opened


def ask(client: httpx.Client, server: ChatServer) -> httpx.Response:
    return client.post(f"{server.url}/chat/completions", json=REQUEST)


def client_trusting(certificates: Certificates, *, identified: bool = False) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    if identified:
        context.load_cert_chain(certificates.client_cert, certificates.client_key)
    return httpx.Client(verify=context, trust_env=False)


def test_the_script_is_used_once_in_order_and_then_the_default(server: ChatServer, client: httpx.Client) -> None:
    server.script(replies.error(429, "slow down", "rate_limit_exceeded"), replies.ok("scripted"))
    first, second, third = (ask(client, server) for _ in range(3))
    assert (first.status_code, first.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert second.json()["choices"][0]["message"]["content"] == "scripted"
    assert third.json() == replies.completion()


def test_a_request_is_kept_as_it_came(server: ChatServer, client: httpx.Client) -> None:
    client.post(f"{server.url}/chat?api-version=1&empty=", json=REQUEST, headers={"X-Trace": "abc"})
    client.post(f"{server.url}/chat", content=iter([b"[1,", b"2]"]))
    first, second = server.requests
    assert (first.method, first.path, first.query) == ("POST", "/v1/chat", {"api-version": "1", "empty": ""})
    assert first.headers["x-TRACE"] == "abc"
    assert first.json == REQUEST
    assert second.json == [1, 2], "a chunked body is put together"
    assert first.connection_id == second.connection_id, "the connection is kept alive"


def test_get_models_uses_up_no_reply(server: ChatServer, client: httpx.Client) -> None:
    server.script(replies.status(503))
    assert client.get(f"{server.url}/models").json()["data"][0]["id"] == "test-model"
    assert client.get(f"{server.url}/nothing").status_code == 404
    assert ask(client, server).status_code == 503


def test_a_reply_may_depend_on_the_request(client: httpx.Client) -> None:
    def echo(request: Received) -> Reply:
        return replies.ok(request.json["messages"][0]["content"])

    with ChatServer(default=echo) as server:
        assert ask(client, server).json()["choices"][0]["message"]["content"] == "Hi"


def test_an_assertion_in_a_scripted_reply_fails_the_test(client: httpx.Client) -> None:
    def disagree(_request: Received) -> Reply:
        raise AssertionError("not what was wanted")

    with (
        pytest.raises(AssertionError, match="not what was wanted"),
        ChatServer(disagree) as server,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        ask(client, server)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (faults.reset(), httpx.ReadError),
        (faults.close(), httpx.RemoteProtocolError),
        (faults.half_body(b'{"half":'), httpx.RemoteProtocolError),
        (faults.half_body(b'{"half":', end=End.RESET), httpx.ReadError),
        (faults.cut_chunked(b'{"half":'), httpx.RemoteProtocolError),
        (replies.sse(["{}"], end=End.CLOSE), httpx.RemoteProtocolError),
        (faults.raw(b"SSH-2.0-OpenSSH_9.6\r\n"), httpx.RemoteProtocolError),
    ],
)
def test_a_broken_reply_is_broken_on_the_wire(
    reply: Reply, expected: type[Exception], server: ChatServer, client: httpx.Client
) -> None:
    server.script(reply)
    with pytest.raises(expected):
        ask(client, server)
    assert ask(client, server).status_code == 200


@pytest.mark.parametrize(
    "reply",
    [
        faults.hang(),
        replies.delay(60, replies.ok()),
        faults.drip(),
        faults.drip(b"{}", every=60),
        faults.drip_headers(every=0.01),
        replies.sse([replies.chunk("He")], end=End.HANG),
        faults.huge(1 << 30),
    ],
    ids=["hang", "delay", "drip", "drip_body", "drip_headers", "stalled_stream", "huge"],
)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_an_endless_reply_stops_when_the_client_closes(reply: Reply, secure: bool, certificates: Certificates) -> None:
    with ChatServer(reply, tls=certificates.server_tls if secure else None) as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        if secure:
            context = ssl.create_default_context(cafile=certificates.ca)
            sock = context.wrap_socket(sock, server_hostname="localhost")
        with sock:
            sock.sendall(b"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
            assert server.wait_requests()
            assert not server.wait_closed(timeout=0.05)
        assert server.wait_closed()
        assert server.connections_closed == [1]


def test_stopping_ends_all_that_is_under_way(client: httpx.Client) -> None:
    before = set(threading.enumerate())
    endless = [faults.hang(), faults.drip(), faults.drip_headers(), faults.huge(1 << 30)]
    with ChatServer(*endless) as server, ThreadPoolExecutor(len(endless)) as pool:
        asked = [pool.submit(_fails, lambda: ask(client, server)) for _ in endless]
        assert server.wait_requests(len(endless))
        server.stop()
        outcomes = [future.result(timeout=60) for future in asked]
    assert outcomes == [True] * len(endless)
    assert server.connections_closed == [], "it was not the client who closed"
    assert server.wait_all_closed(0)
    assert set(threading.enumerate()) == before


def _fails(call: Callable[[], object]) -> bool:
    try:
        call()
    except httpx.TransportError:
        return True
    return False


def test_many_connections_are_served_at_once(client: httpx.Client) -> None:
    count = 60
    together = threading.Barrier(count)

    def meet(_request: Received) -> Reply:
        together.wait(timeout=60)
        return replies.ok()

    with ChatServer(default=meet) as server, ThreadPoolExecutor(count) as pool:
        statuses = list(pool.map(lambda _: ask(client, server).status_code, range(count)))
        assert statuses == [200] * count
        assert len({request.connection_id for request in server.requests}) == count


def test_a_stream_arrives_as_the_events_given(server: ChatServer, client: httpx.Client) -> None:
    events: list[Event] = [b": comment\n\n", replies.chunk("Hé"), replies.chunk(finish_reason="stop"), "text"]
    server.script(replies.sse(events, pause=0.001))
    response = ask(client, server)
    assert response.headers["content-type"] == "text/event-stream"
    comment, first, *_, text, done = response.text.strip().split("\n\n")
    assert (comment, text, done) == (": comment", "data: text", "data: [DONE]")
    assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"] == {"content": "Hé"}


@pytest.mark.parametrize(
    "reply",
    [
        faults.gzipped(replies.ok()),
        faults.deflated(replies.ok()),
        replies.chunked([replies.ok().body[:9], replies.ok().body[9:]]),
        faults.drip(replies.ok().body, every=0.0001),
    ],
    ids=["gzip", "deflate", "chunked", "drip"],
)
def test_another_encoding_carries_the_same_body(reply: Reply, server: ChatServer, client: httpx.Client) -> None:
    server.script(reply)
    assert ask(client, server).json() == replies.completion()


@pytest.mark.parametrize("announced", [True, False])
def test_a_huge_body_is_json_of_the_size_asked_for(announced: bool, server: ChatServer, client: httpx.Client) -> None:
    server.script(faults.huge(200_000, announced=announced))
    response = ask(client, server)
    assert ("content-length" in response.headers) is announced
    assert len(response.content) == 200_000
    assert list(response.json()) == ["pad"]


def test_a_gzip_bomb_is_valid_gzip_a_thousandth_of_its_size(server: ChatServer, client: httpx.Client) -> None:
    size = (5 << 20) + 7
    server.script(faults.gzip_bomb(size))
    assert ask(client, server).content == bytes(size)
    assert gzip.decompress(faults.gzip_bomb(size).body) == bytes(size), "the checksum is right too"
    assert len(faults.gzip_bomb(1 << 30).body) < 1_200_000


def test_a_kept_connection_may_be_closed_behind_the_clients_back(server: ChatServer, client: httpx.Client) -> None:
    server.script(replace(replies.ok(), end=End.CLOSE), faults.redirect("/elsewhere"), replies.status(204))
    assert ask(client, server).status_code == 200
    assert server.wait_all_closed()
    assert ask(client, server).headers["location"] == "/elsewhere"
    assert ask(client, server).content == b""
    assert [request.connection_id for request in server.requests] == [1, 2, 2]


def test_tls_is_served_to_those_who_trust_the_ca(certificates: Certificates, client: httpx.Client) -> None:
    with ChatServer(tls=certificates.server_tls) as server, client_trusting(certificates) as trusting:
        assert ask(trusting, server).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            ask(client, server)


def test_mutual_tls_wants_the_clients_certificate(certificates: Certificates) -> None:
    with ChatServer(tls=certificates.mutual_tls) as server:
        with client_trusting(certificates, identified=True) as identified:
            assert ask(identified, server).status_code == 200
        with client_trusting(certificates) as anonymous, pytest.raises(httpx.TransportError):
            ask(anonymous, server)
        assert len(server.requests) == 1


def test_the_proxy_forwards_plain_requests_and_tunnels_tls(certificates: Certificates, server: ChatServer) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    with ForwardProxy() as proxy, ChatServer(tls=certificates.server_tls) as secure:
        with httpx.Client(proxy=proxy.url, verify=context, trust_env=False) as client:
            assert ask(client, server).json() == ask(client, secure).json() == replies.completion()
        assert [(request.method, request.target) for request in proxy.requests] == [
            ("POST", f"{server.url}/chat/completions"),
            ("CONNECT", f"localhost:{secure.port}"),
        ]
        assert server.requests[0].json == REQUEST


def test_the_proxy_admits_only_those_with_its_credentials(server: ChatServer) -> None:
    with ForwardProxy(username="user", password="pass") as proxy:
        with httpx.Client(proxy=proxy.url, trust_env=False) as stranger:
            assert ask(stranger, server).status_code == 407
        with httpx.Client(proxy=proxy.url_with_credentials, trust_env=False) as known:
            assert ask(known, server).status_code == 200
        assert len(proxy.refused) == 1
        assert "proxy-authorization" not in server.requests[0].headers
