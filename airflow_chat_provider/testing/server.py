"""A scripted chat completion server, real HTTP/1.1 on loopback."""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from airflow_chat_provider.testing.loopback import MAX_SECONDS, Listener, PeerGoneError, Received, Wire
from airflow_chat_provider.testing.replies import CREATED, MODEL, End, Reply, Scripted, error, json_reply, ok

KEY = "sk-test-1234567890"
"""Made up: the server does not check keys."""

MODELS = json_reply(
    200, {"object": "list", "data": [{"id": MODEL, "object": "model", "created": CREATED, "owned_by": "test"}]}
)


class ChatServer(Listener):
    """Answers each request with the next scripted reply, and with `default` once there are none left.

        with ChatServer(replies.rate_limited(), faults.hang(), replies.ok("Hi")) as server:
            ...  # call server.url, then look at server.requests

    A reply may also be a function that makes one from the request; what it raises is raised again when the server is
    left. A GET of `.../models` is answered by `models`, any other GET by a 404; neither takes a scripted reply.
    `record` gets each request instead of `requests`, for a server that runs too long to keep them all.
    """

    def __init__(
        self,
        *replies: Scripted,
        default: Scripted | None = None,
        models: Scripted = MODELS,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        record: Callable[[Received], object] | None = None,
    ) -> None:
        super().__init__(port=port, tls=tls)
        self.requests: list[Received] = []
        """All requests so far, each with `json`, `headers`, `path`, ..."""
        self.connections_closed: list[int] = []
        """The ids of connections that the client closed before it had the whole reply."""
        self._script = deque(replies)
        self.default = default or ok()
        """The reply when no scripted one is left."""
        self._models = models
        self._record = record or self.requests.append

    @property
    def url(self) -> str:
        """The base URL, for the host of a connection."""
        return f"http://127.0.0.1:{self.port}/v1" if self._tls is None else f"https://localhost:{self.port}/v1"

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection to this server: `AIRFLOW_CONN_ANY_ID=json.dumps(server.connection)`."""
        return {"conn_type": "chat", "host": self.url, "password": KEY, "extra": {"model": MODEL}}

    def script(self, *replies: Scripted) -> None:
        """Answer the next requests with these replies, after those that are already scripted."""
        with self._news:
            self._script.extend(replies)

    def wait_requests(self, count: int = 1, timeout: float = 30.0) -> bool:
        """Wait until `count` requests have come; False after the timeout."""
        with self._news:
            return self._news.wait_for(lambda: len(self.requests) >= count, timeout)

    def wait_closed(self, timeout: float = 30.0, count: int = 1) -> bool:
        """Wait until the client has closed `count` connections before their replies ended; False after the timeout."""
        with self._news:
            return self._news.wait_for(lambda: len(self.connections_closed) >= count, timeout)

    def handle(self, wire: Wire) -> None:
        keep = True
        while keep and (request := self._read(wire)) is not None:
            scripted = self._next(request)
            reply = scripted if isinstance(scripted, Reply) else scripted(request)
            if request.wants_close:
                reply = replace(reply, headers={**reply.headers, "Connection": "close"})
            try:
                keep = _play(reply, wire) and not request.wants_close
            except PeerGoneError:
                self._note_closed(wire)
                raise

    def _read(self, wire: Wire) -> Received | None:
        return wire.read_request()

    def _next(self, request: Received) -> Scripted:
        with self._news:
            self._note(request)
            if request.method != "GET":
                return self._script.popleft() if self._script else self.default
        return self._models if request.path.endswith("/models") else error(404, "Not found")

    def _note(self, request: Received) -> None:
        with self._news:
            self._record(request)
            self._news.notify_all()

    def _note_closed(self, wire: Wire) -> None:
        with self._news:
            if not self._stopping.is_set():
                self.connections_closed.append(wire.connection_id)
                self._news.notify_all()


def _play(reply: Reply, wire: Wire) -> bool:
    """Send a reply; True if the connection may be used again."""
    if reply.wait:
        wire.wait(reply.wait)
    deadline = time.monotonic() + MAX_SECONDS
    for step in reply.steps(reply):
        if time.monotonic() > deadline:
            return False
        if isinstance(step, bytes):
            wire.send(step)
        else:
            wire.wait(step)
    if reply.end is End.HANG:
        wire.wait(MAX_SECONDS)
    if reply.end is End.RESET:
        wire.reset()
    return reply.end is End.KEEP
