"""What the test server answers: small values, each one reply. Replies that go wrong are in `tests.faults`.

A chunked reply or stream may have another `end`: `sse(events, end=End.HANG)` is a stream that stalls. A whole
one gets it by `replace(ok(), end=End.CLOSE)`: the client believes the connection to be reusable.
"""

from __future__ import annotations

import gzip
import http
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from tests.loopback import Received

USAGE: Mapping[str, Any] = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}

Event = str | bytes | Mapping[str, Any]

Step = bytes | float
"""Bytes are sent, a number of seconds is waited."""


class End(Enum):
    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


@dataclass(frozen=True)
class Reply:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    end: End = End.KEEP
    wait: float = 0.0
    steps: Callable[[Reply], Iterable[Step]] = lambda reply: (reply.head(len(reply.body)) + reply.body,)

    def head(self, length: int | None) -> bytes:
        """Status line and headers; without a length the body is chunked."""
        try:
            phrase = http.HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
        headers = self.headers if self.status in (204, 304) else {**self.headers, **framing}
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


Scripted = Reply | Callable[[Received], Reply]


def completion(**overrides: Any) -> dict[str, Any]:
    """The body of a valid chat completion."""
    message = {"role": "assistant", "content": "Hello", "refusal": None}
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 1_767_225_600,
        "model": "test-model",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": dict(USAGE),
        **overrides,
    }


def ok(
    content: str | None = "Hello",
    *,
    model: str = "test-model",
    finish_reason: str | None = "stop",
    usage: Mapping[str, Any] | None = USAGE,
    headers: Mapping[str, str] | None = None,
    **message_fields: Any,
) -> Reply:
    message = {"role": "assistant", "content": content, "refusal": None, **message_fields}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return json_reply(200, completion(model=model, choices=[choice], usage=usage), headers)


def json_reply(status: int, obj: Any, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(obj).encode())


def text(status: int, body: str, content_type: str = "text/plain; charset=utf-8") -> Reply:
    return Reply(status, {"Content-Type": content_type}, body.encode())


def status(code: int, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(code, headers or {})


def error(
    status: int,
    message: str,
    code: str | int | None = None,
    kind: str = "invalid_request_error",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """`kind` is the "type" of OpenAI's error object."""
    return json_reply(status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, headers)


def redirect(location: str, status: int = 307) -> Reply:
    return Reply(status, {"Location": location})


def gzipped(reply: Reply) -> Reply:
    return _encoded(reply, "gzip", gzip.compress(reply.body, mtime=0))


def deflated(reply: Reply) -> Reply:
    return _encoded(reply, "deflate", zlib.compress(reply.body))


def delay(seconds: float, reply: Reply) -> Reply:
    return replace(reply, wait=reply.wait + seconds)


def chunked(
    chunks: Sequence[bytes],
    pause: float = 0.0,
    *,
    content_type: str = "application/json",
    end: End = End.KEEP,
    status: int = 200,
) -> Reply:
    """One HTTP chunk each, with pauses between; an end other than KEEP leaves out the closing chunk."""

    def steps(reply: Reply) -> Iterator[Step]:
        yield reply.head(None)
        for number, chunk in enumerate(chunks):
            if number and pause:
                yield pause
            yield frame(chunk)
        if end is End.KEEP:
            yield b"0\r\n\r\n"

    return Reply(status, {"Content-Type": content_type}, b"".join(chunks), end=end, steps=steps)


def by_model(script: Mapping[str, list[Reply]], default: Reply) -> Callable[[Received], Reply]:
    """To each request the next of its model's replies; ``default`` where there is none left."""

    def answer(request: Received) -> Reply:
        left = script.get(request.json["model"])
        return left.pop(0) if left else default

    return answer


def chunk(
    content: str | None = None, *, index: int = 0, finish_reason: str | None = None, **delta: Any
) -> dict[str, Any]:
    """One event of a streamed completion."""
    fields = delta if content is None else {"content": content, **delta}
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion.chunk",
        "created": 1_767_225_600,
        "model": "test-model",
        "choices": [{"index": index, "delta": fields, "logprobs": None, "finish_reason": finish_reason}],
    }


def sse(
    events: Iterable[Event],
    done: bool = True,
    pause: float = 0.0,
    *,
    end: End = End.KEEP,
) -> Reply:
    """An event stream, each event a chunk: text and JSON become `data:` events, bytes go out as they are."""
    chunks = [_event(event) for event in events] + ([_event("[DONE]")] if done else [])
    return chunked(chunks, pause, content_type="text/event-stream", end=end)


def frame(chunk: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


def _event(event: Event) -> bytes:
    if isinstance(event, bytes):
        return event
    data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
    return f"data: {data}\n\n".encode()


def _encoded(reply: Reply, encoding: str, body: bytes) -> Reply:
    return replace(reply, headers={**reply.headers, "Content-Encoding": encoding}, body=body)
