"""A server that takes as long as a model, for as many connections as there are: `python slow_server.py SECONDS`.

It prints its URL. On one event loop, as the other one's threads are too many for a thousand connections. A GET tells
when the first request after the GET before it came, by the clock that all processes share.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airflow_chat_provider.testing.replies import Reply, ok

_MAX_SECONDS = 1800


def whole(reply):
    return b"".join(step for step in reply.steps(reply) if isinstance(step, bytes))


class Slow(asyncio.Protocol):
    """Reads requests of a known length, and answers each after the latency."""

    answer = whole(ok())
    latency = 0.2
    first = None

    def connection_made(self, transport):
        self.transport, self.received = transport, b""

    def data_received(self, data):
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        _, _, length = head.lower().partition(b"content-length:")
        size = int(length.split(b"\r\n")[0]) if length else 0
        if len(body) >= size:
            self.received = body[size:]
            self.reply(head)

    def reply(self, head):
        if head.startswith(b"GET "):
            self.transport.write(whole(Reply(body=json.dumps(Slow.first).encode())))
            Slow.first = None
            return
        if Slow.first is None:
            Slow.first = time.monotonic()
        asyncio.get_running_loop().call_later(self.latency, self.transport.write, self.answer)


async def serve():
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.call_later(_MAX_SECONDS, stop.set)
    server = await loop.create_server(Slow, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await stop.wait()


if __name__ == "__main__":
    Slow.latency = float(sys.argv[1])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve())
