"""`python -m tests.server`: the scripted server in a process of its own."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from airflow_chat_provider.testing import ChatServer, Received, Reply
from airflow_chat_provider.testing.replies import delay, ok


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
