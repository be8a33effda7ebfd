"""A forward proxy on loopback: CONNECT for https, absolute URIs for http, optional Basic credentials."""

from __future__ import annotations

import base64
import select
import socket
from urllib.parse import urlsplit

from airflow_chat_provider.testing.loopback import MAX_SECONDS, Listener, Received, Wire
from airflow_chat_provider.testing.replies import Reply, status

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class ForwardProxy(Listener):
    """Keeps what it was asked in `requests`, and in `refused` those that lacked the right credentials.

    Of a tunnel it sees the CONNECT alone. A plain request is forwarded on a connection of its own.
    """

    def __init__(self, *, username: str | None = None, password: str = "", port: int = 0) -> None:
        super().__init__(port=port)
        self.requests: list[Received] = []
        self.refused: list[Received] = []
        self._userinfo = None if username is None else f"{username}:{password}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url_with_credentials(self) -> str:
        return f"http://{self._userinfo}@127.0.0.1:{self.port}" if self._userinfo else self.url

    def handle(self, wire: Wire) -> None:
        request = wire.read_request()
        if request is None:
            return
        self.requests.append(request)
        if not self._admits(request):
            self.refused.append(request)
            _answer(wire, status(407, {"Proxy-Authenticate": 'Basic realm="proxy"', "Connection": "close"}))
            return
        try:
            upstream = socket.create_connection(_address(request), timeout=5)
        except OSError:
            _answer(wire, status(502, {"Connection": "close"}))
            return
        with upstream:
            if request.method == "CONNECT":
                wire.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                upstream.sendall(wire.take_unread())
            else:
                upstream.sendall(_origin_form(request))
            _relay(wire.sock, upstream)

    def _admits(self, request: Received) -> bool:
        if self._userinfo is None:
            return True
        expected = "Basic " + base64.b64encode(self._userinfo.encode()).decode()
        return request.headers.get("proxy-authorization") == expected


def _answer(wire: Wire, reply: Reply) -> None:
    wire.send(reply.head(0))


def _address(request: Received) -> tuple[str, int]:
    url = urlsplit(f"//{request.target}" if request.method == "CONNECT" else request.target)
    return url.hostname or "", url.port or 80


def _origin_form(request: Received) -> bytes:
    target = request.path + ("?" + query if (query := urlsplit(request.target).query) else "")
    kept = {
        name: value
        for name, value in request.headers.items()
        if name not in _HOP_BY_HOP and not name.startswith("proxy-")
    }
    headers = {**kept, "content-length": str(len(request.body)), "connection": "close"}
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + request.body


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Until either side closes, or is silent for too long."""
    other.settimeout(MAX_SECONDS)
    peers = {one.fileno(): (one, other), other.fileno(): (other, one)}
    poll = select.poll()
    for descriptor in peers:
        poll.register(descriptor, select.POLLIN)
    try:
        while ready := poll.poll(MAX_SECONDS * 1000):
            for descriptor, _event in ready:
                source, sink = peers[descriptor]
                if not (data := source.recv(65_536)):
                    return
                sink.sendall(data)
    except OSError:  # a reset by either ends the tunnel like a close
        return
