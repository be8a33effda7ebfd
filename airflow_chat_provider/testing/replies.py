"""Replies of the test server. Replies that break on their way are in `faults`.

`sse(events, end=End.HANG)` is a stream that stalls after its events. `dataclasses.replace(ok(), end=End.CLOSE)` is a
whole reply after which the server closes the connection, although the client may think that it can use it again.
"""

from __future__ import annotations

import http
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from airflow_chat_provider.testing.loopback import Received

MODEL = "test-model"
CREATED = 1_767_225_600
USAGE: Mapping[str, Any] = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}

Event = str | bytes | Mapping[str, Any]

Step = bytes | float
"""Bytes are sent, a number of seconds is waited."""


class End(Enum):
    """What happens to the connection after a reply."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


@dataclass(frozen=True)
class Reply:
    """One reply of the server. `steps` yields what goes on the wire: by default status, headers and body at once."""

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
"""A reply, or a function that makes one from the request."""


def completion(**overrides: Any) -> dict[str, Any]:
    """The body of a valid chat completion."""
    message = {"role": "assistant", "content": "Hello", "refusal": None}
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": dict(USAGE),
        **overrides,
    }


def ok(
    content: str | None = "Hello",
    *,
    model: str = MODEL,
    finish_reason: str | None = "stop",
    usage: Mapping[str, Any] | None = USAGE,
    headers: Mapping[str, str] | None = None,
    **message_fields: Any,
) -> Reply:
    """A 200 with `content` as the model's answer. Other keywords become fields of the message."""
    message = {"role": "assistant", "content": content, "refusal": None, **message_fields}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return json_reply(200, completion(model=model, choices=[choice], usage=usage), headers)


def ok_json(value: Any) -> Reply:
    """A 200 whose answer is JSON, as `result_format="json"` wants it."""
    return ok(json.dumps(value))


def tool_calls(calls: Iterable[tuple[str, Mapping[str, Any] | str]]) -> Reply:
    """A 200 in which the model calls tools, each by name and arguments: `tool_calls([("weather", {"city": "Rome"})])`.

    Arguments given as text are sent as they are: those of a model need not be JSON.
    """
    made = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": _text(arguments)}}
        for number, (name, arguments) in enumerate(calls, 1)
    ]
    return ok(None, finish_reason="tool_calls", tool_calls=made)


def json_reply(status: int, obj: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """Any status with any JSON as its body."""
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(obj).encode())


def text(status: int, body: str, content_type: str = "text/plain; charset=utf-8") -> Reply:
    """Any status with a body of text."""
    return Reply(status, {"Content-Type": content_type}, body.encode())


def status(code: int, headers: Mapping[str, str] | None = None) -> Reply:
    """A status without a body."""
    return Reply(code, headers or {})


def error(
    status: int,
    message: str,
    code: str | int | None = None,
    kind: str = "invalid_request_error",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """An error: `error(500, "out of order")`. `kind` is the "type" in OpenAI's error object."""
    return json_reply(status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, headers)


def rate_limited(retry_after: float = 1.0, message: str = "Rate limit reached") -> Reply:
    """A 429 that says how many seconds to wait."""
    return error(429, message, "rate_limit_exceeded", "requests", {"Retry-After": str(retry_after)})


def delay(seconds: float, reply: Reply) -> Reply:
    """The same reply, of which the first byte comes only after so many seconds."""
    return replace(reply, wait=reply.wait + seconds)


def chunked(
    chunks: Sequence[bytes],
    pause: float = 0.0,
    *,
    content_type: str = "application/json",
    end: End = End.KEEP,
    status: int = 200,
) -> Reply:
    """A body in these HTTP chunks, with pauses between them. Unless `end` is KEEP, the closing chunk is missing."""

    def steps(reply: Reply) -> Iterator[Step]:
        yield reply.head(None)
        for number, chunk in enumerate(chunks):
            if number and pause:
                yield pause
            yield frame(chunk)
        if end is End.KEEP:
            yield b"0\r\n\r\n"

    return Reply(status, {"Content-Type": content_type}, b"".join(chunks), end=end, steps=steps)


def chunk(
    content: str | None = None, *, index: int = 0, finish_reason: str | None = None, **delta: Any
) -> dict[str, Any]:
    """One event of a streamed completion."""
    fields = delta if content is None else {"content": content, **delta}
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": MODEL,
        "choices": [{"index": index, "delta": fields, "logprobs": None, "finish_reason": finish_reason}],
    }


def events_of(content: str) -> list[dict[str, Any]]:
    """The events of a streamed answer: one for each word, then the finish_reason, then the usage."""
    first, *words = re.findall(r"\S+\s*|\s+", content) or [""]
    usage = {**chunk(), "choices": [], "usage": dict(USAGE)}
    return [chunk(first, role="assistant"), *map(chunk, words), chunk(finish_reason="stop"), usage]


def stream(content: str = "Hello", *, pause: float = 0.0) -> Reply:
    """A 200 that streams a text word by word, with `pause` seconds between the words."""
    return sse(events_of(content), pause=pause)


def sse(events: Iterable[Event], *, done: bool = True, pause: float = 0.0, end: End = End.KEEP) -> Reply:
    """An event stream, each event in a chunk of its own. Text and JSON become `data:` events; bytes are sent as is."""
    chunks = [_event(event) for event in events] + ([_event("[DONE]")] if done else [])
    return chunked(chunks, pause, content_type="text/event-stream", end=end)


def frame(chunk: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


def _event(event: Event) -> bytes:
    if isinstance(event, bytes):
        return event
    return f"data: {_text(event)}\n\n".encode()


def _text(value: str | Mapping[str, Any]) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
