"""What servers do, by name: each behaviour is what the server answers, and what it comes to for whoever asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_chat_provider.errors import (
    IncompleteReply,
    InvalidOutput,
    ProtocolError,
    RateLimited,
    StatusError,
    TransportError,
    TransportTimeout,
)
from airflow_chat_provider.testing import End, Reply, replies
from tests.support import faults
from tests.support.calling import AT_ONCE

BODY = replies.ok().body
SHORT = 1.5  # seconds, in which also a busy machine connects and gets the headers, of which an error tells
NESTED = b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
ODD = (
    b'{"choices":[{"index":0,"message":{"role":"assistant","content":"a\\u0000b\\ud800c"},"finish_reason":"stop",'
    b'"score":NaN}],"usage":{"total_tokens":1' + b"0" * 5000 + b"}}"
)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def json_text(content: bytes, **headers: str) -> Reply:
    return Reply(200, {"Content-Type": "application/json", **headers}, content)


EMPTY = [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "error"}]


def held(code: int | str, **body: Any) -> Reply:
    """A 200 that holds an error."""
    return replies.json_reply(200, {**body, "error": {"message": "Provider returned error", "code": code}})


# What a server may do, what the caller gets for it, and words that the message must hold.
FAULTS: dict[str, tuple[Reply, type[Exception], str]] = {
    "401": (replies.error(401, "bad key"), StatusError, "Check the API key (password) of connection 'chat_default'"),
    "403": (replies.error(403, "no"), StatusError, "HTTP 403"),
    "404 HTML": (replies.text(404, "<h1>Not here</h1>", "text/html"), StatusError, "Check the base URL"),
    "429": (replies.error(429, "slow down"), RateLimited, "slow down"),
    "quota": (replies.error(429, "pay", "insufficient_quota"), StatusError, "Raise the quota"),
    "500": (replies.error(500, "oops"), StatusError, "oops"),
    "500 empty": (replies.status(500), StatusError, "HTTP 500"),
    "redirect": (faults.redirect("http://127.0.0.1:9/v1"), StatusError, "redirects are not followed"),
    "reset": (faults.reset(), TransportError, "Connection reset by peer"),
    "closed": (faults.close(), TransportError, "before an answer came"),
    "half a body": (faults.half_body(BODY), TransportError, "was cut off"),
    "half a body, reset": (faults.half_body(BODY, end=End.RESET), TransportError, "was cut off"),
    "chunks without an end": (faults.cut_chunked(BODY), TransportError, "was cut off"),
    "no HTTP": (faults.raw(b"SSH-2.0-OpenSSH_9.6\r\n"), TransportError, "before an answer came"),
    "200 without a body": (replies.Reply(200), ProtocolError, "an empty body"),
    "204": (replies.status(204), ProtocolError, "an empty body"),
    "array": (json_text(b"[]"), ProtocolError, "not an object"),
    "null": (json_text(b"null"), ProtocolError, "null"),
    "no UTF-8": (json_text(b"\xff\xfe\xfa not UTF-8"), ProtocolError, "not JSON"),
    "nested too deep": (json_text(NESTED), ProtocolError, "nested too deep"),
    "HTML in a 200": (replies.text(200, "<html>login</html>", "text/html"), ProtocolError, "not JSON"),
    "error in a 200": (replies.json_reply(200, {"error": {"message": "overloaded"}}), ProtocolError, "overloaded"),
    "no choices": (replies.json_reply(200, replies.completion(choices=[])), ProtocolError, "without choices"),
    "gzip that is none": (json_text(BODY, **{"Content-Encoding": "gzip"}), ProtocolError, "Content-Encoding"),
    "unknown encoding": (json_text(BODY, **{"Content-Encoding": "br"}), ProtocolError, "Content-Encoding"),
    "gzip cut short": (
        replace(faults.gzipped(replies.ok()), body=faults.gzipped(replies.ok()).body[:-12]),
        ProtocolError,
        "cut off",
    ),
}

GOOD: dict[str, Reply] = {
    "plain": replies.ok(),
    "chunked": replies.chunked([BODY[:10], BODY[10:]]),
    "gzip": faults.gzipped(replies.ok()),
    "deflate": faults.deflated(replies.ok()),
    "dripped": faults.drip(BODY, every=0.0005),
    "byte order mark": json_text(b"\xef\xbb\xbf" + BODY),
}

CHUNKS: list[dict[str, Any]] = [
    replies.chunk("Hel", role="assistant"),
    replies.chunk("lo"),
    replies.chunk(finish_reason="stop"),
    {"choices": [], "usage": dict(replies.USAGE)},
]
HALF = CHUNKS[:1]
STREAM: Mapping[str, Any] = {"request": {"stream": True}}


@dataclass(frozen=True)
class Behaviour:
    """``script`` is answered in turn to one call; ``arguments`` are the operator's; ``requests`` is how many it takes.

    ``error`` is None where the call succeeds.
    """

    script: tuple[Reply, ...]
    error: type[Exception] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    requests: int = 1


def _once(*script: Reply, error: type[Exception] | None = None, **arguments: Any) -> Behaviour:
    return Behaviour(script, error, {"max_attempts": 1, **arguments})


def _behaviours() -> dict[str, Behaviour]:
    found = {f"fault: {name}": _once(reply, error=kind) for name, (reply, kind, _) in FAULTS.items()}
    found |= {f"good: {name}": _once(reply) for name, reply in GOOD.items()}
    return found | _TIME | _RETRIES | _STREAMS | _ANSWERS


_TIME = {
    "is not there": Behaviour((), TransportError, {"max_attempts": 1, "chat_conn_id": "nowhere"}, requests=0),
    "takes no connection": Behaviour((), TransportTimeout, {"max_attempts": 1, "chat_conn_id": "deaf"}, requests=0),
    "hangs": _once(faults.hang(), error=TransportTimeout, timeout=SHORT),
    "answers late": _once(replies.delay(0.2, replies.ok())),
    "drips for ever": _once(faults.drip(), error=TransportTimeout, timeout=SHORT),
    "drips headers": _once(faults.drip_headers(), error=TransportTimeout, timeout=SHORT),
    "stalls in the body": _once(faults.half_body(BODY, end=End.HANG), error=TransportTimeout, timeout=SHORT),
    "is too slow for the deadline": _once(faults.hang(), error=TransportTimeout, deadline=0.3),
    "sends too much": _once(faults.huge(3 << 20), error=ProtocolError, chat_conn_id="small"),
    "sends too much, not announced": _once(
        faults.huge(3 << 20, announced=False), error=ProtocolError, chat_conn_id="small"
    ),
    "sends a bomb": _once(faults.gzip_bomb(64 << 20), error=ProtocolError, chat_conn_id="small"),
}

_RETRIES = {
    "recovers from a rate limit": Behaviour((replies.rate_limited(retry_after=0.001), replies.ok()), requests=2),
    "recovers from a reset": Behaviour((faults.reset(), replies.ok()), requests=2),
    "fails three times": Behaviour((replies.error(500, "oops", headers=AT_ONCE),) * 3, StatusError, requests=3),
    "fails in three ways": Behaviour(
        (replies.error(503, "busy", headers=AT_ONCE), faults.close(), replies.error(429, "slow", headers=AT_ONCE)),
        RateLimited,
        requests=3,
    ),
    "asks to wait too long": Behaviour(
        (replies.error(429, "slow", headers={"Retry-After": "900"}),), RateLimited, {"deadline": 60}
    ),
    "says not to retry": Behaviour((replies.error(500, "no", headers={"x-should-retry": "false"}),), StatusError),
    "recovers from a rate limit in a 200": Behaviour((held(429), replies.ok()), requests=2),
    "recovers from a failure in a 200": Behaviour((held(502, choices=EMPTY), replies.ok()), requests=2),
    "is limited for ever, in a 200": Behaviour((held(429),) * 3, RateLimited, requests=3),
    "knows no such key, in a 200": Behaviour((held(401),), StatusError),
    "holds an error in a 200 that nobody takes for data": _once(held(404), error=StatusError, check_status=False),
    "holds an error beside an answer": Behaviour(
        (replies.json_reply(200, {**replies.completion(), "error": {"message": "odd"}}),), ProtocolError
    ),
    "recovers from blank lines": Behaviour((json_text(b"\n\n\n"), replies.ok()), requests=2),
    "answers with blank lines for ever": Behaviour((json_text(b"\n\n\n"),) * 3, ProtocolError, requests=3),
    "has no money": Behaviour((replies.error(429, "Insufficient balance. Please recharge.", "1113"),), StatusError),
    "has no money, in a 500": Behaviour((replies.error(500, "insufficient balance (1008)"),), StatusError),
    "takes no request so large": Behaviour(
        (replies.error(429, "Request too large for m: Limit 30000, Requested 36278.", "rate_limit_exceeded"),),
        StatusError,
    ),
    "says in its body to wait for long": Behaviour(
        (replies.json_reply(429, [{"error": {"message": "slow", "details": [{"retryDelay": "900s"}]}}]),),
        RateLimited,
        {"deadline": 60},
    ),
    "refuses, as data": _once(replies.error(404, "no such model"), check_status=False),
}

_STREAMS = {
    "refuses a stream's fields twice": Behaviour(
        (replies.error(400, "Additional properties are not allowed"), replies.error(400, "No such thing")),
        StatusError,
        STREAM,
        requests=2,
    ),
    "refuses a field of a stream": _once(
        replies.error(400, "Unknown parameter: 'stream'"), error=StatusError, **STREAM
    ),
    "streams": _once(replies.sse(CHUNKS), **STREAM),
    "streams words": _once(replies.stream("Hello and goodbye"), **STREAM),
    "streams without an end": _once(replies.sse(CHUNKS, done=False), **STREAM),
    "streams with pauses": _once(replies.sse(CHUNKS, pause=0.05), **STREAM),
    "answers a stream with JSON": _once(replies.ok(), **STREAM),
    "cuts a stream": _once(replies.sse(HALF, done=False), error=ProtocolError, **STREAM),
    "breaks off a stream": _once(faults.cut_stream(), error=TransportError, **STREAM),
    "resets a stream": _once(faults.cut_stream(end=End.RESET), error=TransportError, **STREAM),
    "stalls in a stream": _once(
        replies.sse(HALF, done=False, end=End.HANG), error=TransportTimeout, chat_conn_id="small", **STREAM
    ),
    "streams an error": _once(
        replies.sse([*HALF, {"error": {"message": "overloaded", "code": 529}}]), error=RateLimited, **STREAM
    ),
    "streams no JSON": _once(replies.sse([*HALF, b"data: {no json}\n\n"]), error=ProtocolError, **STREAM),
    "streams a line without an end": _once(
        replies.sse([b"data: " + b"x" * (3 << 20)]), error=ProtocolError, chat_conn_id="small", **STREAM
    ),
    "streams again what was cut": Behaviour(
        (replies.sse(HALF, done=False), replies.sse(CHUNKS)), arguments=STREAM, requests=2
    ),
    "streams again what ended in an event": Behaviour(
        (replies.sse([*HALF, b'data: {"choices": [{"ind'], done=False), replies.sse(CHUNKS)),
        arguments=STREAM,
        requests=2,
    ),
    "streams again what began with an error": Behaviour(
        (replies.sse([{"error": {"code": 502, "message": "gone"}, "choices": EMPTY}]), replies.sse(CHUNKS)),
        arguments=STREAM,
        requests=2,
    ),
    "cuts each stream": Behaviour((replies.sse(HALF, done=False),) * 3, ProtocolError, STREAM, requests=3),
    "refuses in a stream": Behaviour(
        (replies.sse([{"error": {"code": 401, "message": "no such key"}}]),), StatusError, STREAM
    ),
    "streams again what broke": Behaviour(
        (replies.sse(HALF, done=False, end=End.RESET), replies.sse(CHUNKS)), arguments=STREAM, requests=2
    ),
}

_ANSWERS = {
    "cannot use the answer": Behaviour(
        (replies.error(400, "Failed to generate JSON.", "json_validate_failed"),), StatusError
    ),
    "answers what no database keeps": _once(json_text(ODD)),
    "answers with nesting": _once(replies.json_reply(200, replies.completion(deep=_nested(100)))),
    "answers with tool calls": _once(replies.tool_calls([("f", {}), ("g", "{no json")])),
    "refuses to answer": _once(replies.ok(None, refusal="no"), error=IncompleteReply, on_incomplete="fail"),
    "is cut off": _once(replies.ok("cut", finish_reason="length"), error=IncompleteReply, on_incomplete="fail"),
    "is cut off, as data": _once(replies.ok("cut", finish_reason="length")),
    "is cut off, by Gemini's word": _once(
        replies.ok("cut", finish_reason="MAX_TOKENS"), error=IncompleteReply, on_incomplete="fail"
    ),
    "filters before there is a message": _once(
        replies.json_reply(200, replies.completion(choices=[{"message": None, "finish_reason": "content_filter"}])),
        error=IncompleteReply,
    ),
    "ends for a reason of its own": _once(replies.ok(finish_reason="brand_new_reason")),
    "answers nothing": _once(replies.ok(None)),
    "answers JSON after thoughts": _once(replies.ok('<think>{</think>{"a": 1}'), result_format="json"),
    "answers JSON as reasoning": _once(replies.ok("", reasoning_content='{"a": 1}'), result_format="json"),
    "calls a tool in a form of its own": _once(
        replies.ok(
            None,
            finish_reason="stop",
            reasoning_content="hm",
            tool_calls=[{"id": "", "type": None, "function": {"name": "f", "arguments": {"a": 1}}}],
        ),
        request={"tools": [{"type": "function", "function": {"name": "f"}}]},
        result_format="tool_calls",
    ),
    "answers text where JSON was due": _once(replies.ok("no json"), error=InvalidOutput, result_format="json"),
    "answers JSON": _once(replies.ok_json({"a": [1]}), result_format="json"),
    "answers without usage": _once(replies.ok(usage=None)),
}

BEHAVIOURS = _behaviours()
