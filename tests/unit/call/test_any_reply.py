"""Whatever a server sends is a reply or an error of ours, which XCom takes, and which quotes neither key nor prompt."""

from __future__ import annotations

import gzip
import json
import zlib
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.answer.record import dump, load, safe
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.attempt import Attempt
from airflow_chat_provider.core.call.exchange import exchange
from airflow_chat_provider.core.call.steps import Call, Result, Send
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import ChatCompletionError
from tests.support.fuzzing import fuzz
from tests.unit.call.feeding import feed

KEY, PROMPT, WORD = "sk-canary-5f2b7c", "The kestrel has a broken wing.", "hunter2"
SETTINGS = Settings(base_url="https://h/v1", api_key=KEY, max_attempts=1, max_response_bytes=20_000)
REQUEST = {"messages": [{"role": "user", "content": PROMPT}, {"role": "user", "content": WORD}]}
CALL = Call(SETTINGS, (b"{}",), request=REQUEST)
QUIET = fuzz(150)

NAMES = st.sampled_from(
    ["id", "choices", "index", "message", "delta", "content", "tool_calls", "function", "arguments"]
)
NAMES |= st.sampled_from(["name", "logprobs", "finish_reason", "usage", "total_tokens", "refusal", "text", "x_groq"])
NAMES |= st.sampled_from(["error", "code", "type", "detail", "msg", "loc", "__type", "__classname__", "\x00", "\ud800"])
QUOTES = st.sampled_from([PROMPT, WORD, KEY, f"Bad {PROMPT} {KEY}\x1b[31m\u202e", "length", "stop", "text", ""])
SCALARS = QUOTES | st.none() | st.booleans() | st.integers(-1, 2) | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=4) | st.dictionaries(NAMES, below, max_size=4), max_leaves=25
)
CHOICE = st.fixed_dictionaries({}, optional=dict.fromkeys(("index", "delta", "message", "finish_reason", "x"), JSON))
CHUNK = st.fixed_dictionaries({"choices": st.lists(CHOICE, max_size=3)}, optional={"error": JSON, "usage": JSON}) | JSON


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


BODIES = st.binary(max_size=60) | JSON.map(encoded) | CHUNK.map(encoded) | st.text(max_size=40).map(str.encode)
BODIES |= st.sampled_from(
    [b"[" * 5000, b'{"a":' * 950 + b"1" + b"}" * 950, b"1" * 5000, b'{"error":' * 300 + b"}" * 300]
)
EVENT = st.tuples(
    st.sampled_from([b"data: ", b"event: error\ndata: ", b"", b":"]), BODIES, st.sampled_from([b"\n", b"\n\n"])
)
STREAMS = st.lists(EVENT.map(b"".join), max_size=8).map(b"".join) | BODIES
ENCODINGS = st.sampled_from(
    [("", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress), ("gzip", bytes), ("br", bytes), (KEY, bytes)]
)
TIMES = st.sampled_from(["retry-after", "retry-after-ms", "date", "x-ratelimit-reset-tokens"])
HEADERS = st.dictionaries(
    TIMES | st.sampled_from(["x-request-id", "x-should-retry", "x-ratelimit-remaining-tokens", "content-type"]),
    st.text(max_size=80)
    | QUOTES
    | st.sampled_from(["5", "1e400", "nan", "1m1s", "1" * 9000, "text/html; charset=hex"]),
    max_size=4,
)
STATUSES = st.sampled_from([200, 204, 301, 400, 401, 422, 429, 498, 500, 503, 599])


def received(status: int, headers: dict[str, str], sent: bytes, cuts: list[int], broken: bool) -> Reply:
    """The reply to a call whose one attempt got these bytes, in pieces; ``broken``: then the connection broke."""
    steps = exchange(CALL)
    send = next(steps)
    assert isinstance(send, Send)
    attempt = Attempt(SETTINGS, send)
    attempt.sent = True
    attempt.begin(status, headers)
    edges = [0, *sorted(cut % (len(sent) + 1) for cut in cuts), len(sent)]
    for start, end in pairwise(edges):
        if not attempt.over:
            feed(attempt, sent[start:end])
    if broken:
        outcome: Any = attempt.failed("cut off")
    else:
        attempt.finish()
        outcome = attempt.end()
    try:
        steps.send(Result(outcome, 1.0, now=1e9))
    except StopIteration as done:
        reply: Reply = done.value
        return reply
    raise AssertionError("one attempt is one attempt")


def check(reply: Reply) -> None:
    """The reply is XCom's to keep, and its error says nothing that is nobody's business."""
    kept = safe(reply)
    text = dump(kept)
    assert text.isascii()
    json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name)))
    again = load(text)
    assert (again.status, again.body, again.request_id) == (kept.status, kept.body, kept.request_id)
    assert isinstance(again.error, type(kept.error))
    error = kept.error
    if error is None:
        assert isinstance(kept.body, dict)
        return
    assert isinstance(error, ChatCompletionError)
    told = [str(error), str(error.code), str(error.request_id), str(reply.request_id)]
    for shown in told:
        assert shown.isprintable()
        assert KEY not in shown
        assert PROMPT[:16] not in shown
        assert len(shown) < 1000
    assert error.retry_after is None or 0 <= error.retry_after < float("inf")


class TestAnyReply:
    @QUIET
    @given(STATUSES, HEADERS, BODIES, ENCODINGS, st.lists(st.integers(0, 99), max_size=3), st.booleans())
    def test_any_bytes_become_a_reply(
        self, status: int, headers: dict[str, str], body: bytes, encoding: Any, cuts: list[int], broken: bool
    ) -> None:
        name, encode = encoding
        check(received(status, {**headers, "content-encoding": name}, encode(body), cuts, broken))

    @QUIET
    @given(HEADERS, STREAMS, ENCODINGS, st.lists(st.integers(0, 99), max_size=3), st.booleans())
    def test_any_bytes_can_be_read_as_a_stream(
        self, headers: dict[str, str], body: bytes, encoding: Any, cuts: list[int], broken: bool
    ) -> None:
        name, encode = encoding
        kind = {"content-type": "text/event-stream", "content-encoding": name}
        check(received(200, {**headers, **kind}, encode(body), cuts, broken))

    @QUIET
    @given(st.lists(CHUNK, max_size=8), st.lists(st.integers(0, 999), max_size=3))
    def test_any_chunks_can_be_read_as_a_stream(self, chunks: list[Any], cuts: list[int]) -> None:
        sent = b"".join(b"data: " + encoded(chunk) + b"\n\n" for chunk in chunks)
        check(received(200, {"content-type": "text/event-stream"}, sent, cuts, broken=False))
