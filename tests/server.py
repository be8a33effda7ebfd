"""A scripted chat completion server, real HTTP/1.1 on loopback.

    with ChatServer(replies.error(429, "slow down"), faults.hang(), replies.ok("Hi")) as server:
        ...  # call server.url, then look at server.requests

`python -m tests.server` runs one in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.loopback import MAX_SECONDS, Listener, PeerGoneError, Received, Wire
from tests.replies import End, Reply, Scripted, delay, error, json_reply, ok

MODELS = json_reply(
    200,
    {
        "object": "list",
        "data": [{"id": "test-model", "object": "model", "created": 1_767_225_600, "owned_by": "test"}],
    },
)


class ChatServer(Listener):
    """Answers each request but GETs with the next scripted reply, then with `default` for ever.

    GET of `.../models` is answered by `models` and any other GET by a 404: neither uses up the script.
    `record` is given each request in place of `requests`, for a server that runs too long to keep them.
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
        self.connections_closed: list[int] = []
        """Ids of the connections that the client closed before its reply was all sent."""
        self._script = deque(replies)
        self.default = default or ok()
        self._models = models
        self._record = record or self.requests.append

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1" if self._tls is None else f"https://localhost:{self.port}/v1"

    def script(self, *replies: Scripted) -> None:
        with self._news:
            self._script.extend(replies)

    def wait_requests(self, count: int = 1, timeout: float = 5.0) -> bool:
        """Whether that many requests have been read, waiting for them if need be."""
        with self._news:
            return self._news.wait_for(lambda: len(self.requests) >= count, timeout)

    def wait_closed(self, timeout: float = 5.0, count: int = 1) -> bool:
        """Whether the client has closed that many connections before its reply was all sent."""
        with self._news:
            return self._news.wait_for(lambda: len(self.connections_closed) >= count, timeout)

    def handle(self, wire: Wire) -> None:
        keep = True
        while keep and (request := wire.read_request()) is not None:
            scripted = self._next(request)
            reply = scripted if isinstance(scripted, Reply) else scripted(request)
            if request.wants_close:
                reply = replace(reply, headers={**reply.headers, "Connection": "close"})
            try:
                keep = _play(reply, wire) and not request.wants_close
            except PeerGoneError:
                self._note_closed(wire)
                raise

    def _next(self, request: Received) -> Scripted:
        with self._news:
            self._record(request)
            self._news.notify_all()
            if request.method != "GET":
                return self._script.popleft() if self._script else self.default
        return self._models if request.path.endswith("/models") else error(404, "Not found")

    def _note_closed(self, wire: Wire) -> None:
        with self._news:
            if not self._stopping.is_set():
                self.connections_closed.append(wire.connection_id)
                self._news.notify_all()


def _play(reply: Reply, wire: Wire) -> bool:
    """Whether the connection may be used again."""
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


def _recorder(path: Path | None, stack: contextlib.ExitStack) -> Callable[[Received], object]:
    if path is None:
        return lambda request: None
    lines = stack.enter_context(path.open("a", buffering=1))
    return lambda request: lines.write(_line(request))


def _line(request: Received) -> str:
    fields = {
        "method": request.method,
        "target": request.target,
        "idempotency_key": request.headers.get("idempotency-key"),
        "headers": dict(request.headers),
        "body_bytes": len(request.body),
        "connection_id": request.connection_id,
        "received_at": request.received_at,
    }
    return json.dumps(fields) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.server", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--reply-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--count-file", type=Path, help="gets one line of JSON for each request")
    parser.add_argument("--max-seconds", type=float, default=3600.0, help="ends then, if no SIGTERM came")
    options = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with contextlib.ExitStack() as stack:
        record = _recorder(options.count_file, stack)
        default = delay(options.reply_latency, _rendered(ok()))
        server = stack.enter_context(ChatServer(default=default, port=options.port, record=record))
        print(server.url, flush=True)  # noqa: T201 - whoever started this process reads it
        stop.wait(options.max_seconds)


def _rendered(reply: Reply) -> Reply:
    """The same bytes each time without building them anew: this server is measured against."""
    wire = b"".join(step for step in reply.steps(reply) if isinstance(step, bytes))
    return replace(reply, steps=lambda _reply: (wire,))


if __name__ == "__main__":
    main()
