"""A 2xx by its bytes: a stream or one document, whatever its Content-Type says and wherever its bytes are cut."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.attempt import Attempt
from airflow_chat_provider.core.call.body import Kind, Opening
from airflow_chat_provider.core.call.exchange import judge
from airflow_chat_provider.core.call.steps import Call, Response, Send
from airflow_chat_provider.core.connection.settings import Settings
from tests.support.fuzzing import fuzz
from tests.support.mislabelled import (
    BROKEN,
    CHUNKS,
    DOCUMENTS,
    DONE,
    HALF,
    KIND,
    LINES,
    STREAMS,
    TEXT,
    WHOLE,
    dumped,
)
from tests.unit.call.feeding import feed

KINDS = [KIND, "application/json", "text/plain; charset=utf-8", "application/x-ndjson", ""]
ANY = {**STREAMS, **DOCUMENTS, **{name: broken.raw for name, broken in BROKEN.items()}}
whatever_it_is_called = pytest.mark.parametrize("kind", KINDS)


def received(
    *pieces: bytes, kind: str = "", encoding: str = "", limit: int = 1 << 20, choices: int = 1
) -> tuple[list[dict[str, Any]], Response]:
    """The chunks, and the response."""
    attempt = Attempt(Settings(max_response_bytes=limit), Send(9.0, 1, choices=choices))
    attempt.begin(200, {"content-type": kind, "content-encoding": encoding})
    chunks: list[dict[str, Any]] = []
    for piece in pieces:
        if not attempt.over:
            chunks += feed(attempt, piece)
    chunks += attempt.finish()
    return chunks, attempt.end()


def replied(outcome: Response) -> Reply:
    return judge(outcome, Call(Settings(base_url="https://h/v1")), now=0.0)


@whatever_it_is_called
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_read_whatever_it_is_called_and_however_it_is_written(name: str, kind: str) -> None:
    chunks, response = received(STREAMS[name], kind=kind)
    reply = replied(response)
    assert reply.error is None
    assert (reply.text, reply.doubts) == (TEXT, ())
    assert [one["choices"] for one in chunks] == [one["choices"] for one in CHUNKS]


@whatever_it_is_called
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_read_whatever_it_is_called_and_whatever_stands_around_it(name: str, kind: str) -> None:
    chunks, response = received(DOCUMENTS[name], kind=kind)
    reply = replied(response)
    assert (chunks, reply.error, reply.body) == ([], None, WHOLE)


@whatever_it_is_called
@pytest.mark.parametrize("name", BROKEN)
def test_unreadable_answers_have_an_error_that_says_why_and_keep_what_came(name: str, kind: str) -> None:
    raw, says, body = BROKEN[name]
    reply = replied(received(raw, kind=kind)[1])
    assert reply.error is not None
    assert says in reply.error.message
    assert reply.body == body
    assert reply.error.body == body


@fuzz(300)
@given(st.sampled_from(sorted(ANY)), st.sampled_from(KINDS), st.sampled_from(["", "gzip"]), st.data())
def test_where_the_bytes_are_cut_makes_no_difference(name: str, kind: str, encoding: str, data: st.DataObject) -> None:
    raw = gzip.compress(ANY[name]) if encoding else ANY[name]
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=12))
    pieces = [raw[start:end] for start, end in pairwise([0, *sorted(cuts), len(raw)])]
    whole_chunks, whole = received(raw, kind=kind, encoding=encoding)
    chunks, cut = received(*pieces, kind=kind, encoding=encoding)
    assert (chunks, cut.problem, cut.body, cut.doubts) == (whole_chunks, whole.problem, whole.body, whole.doubts)
    assert whole.content.startswith(cut.content)  # it is not read on where it breaks


@pytest.mark.parametrize("name", ANY)
def test_an_answer_byte_by_byte_is_read_the_same(name: str) -> None:
    raw = ANY[name]
    chunks, response = received(*(raw[at : at + 1] for at in range(len(raw))))
    assert (chunks, response.problem, response.body) == (
        received(raw)[0],
        received(raw)[1].problem,
        received(raw)[1].body,
    )


@whatever_it_is_called
@pytest.mark.parametrize("end", [b"\n\n", b"\n", b"\r\n", b""])
def test_a_chunk_comes_with_the_line_that_holds_it(kind: str, end: bytes) -> None:
    attempt = Attempt(Settings(), Send(9.0, 1))
    attempt.begin(200, {"content-type": kind})
    found = [feed(attempt, b"data: " + line + end + (b"" if end else b"\n")) for line in LINES]
    assert [[one] for one in CHUNKS] == found


@pytest.mark.parametrize("line", [HALF, LINES[0] + b"\n"])
def test_a_stream_called_json_gives_chunks_from_its_first_line_on(line: bytes) -> None:
    attempt = Attempt(Settings(), Send(9.0, 1))
    attempt.begin(200, {"content-type": "application/json"})
    assert not attempt.streaming
    assert len(feed(attempt, line)) == 1
    assert attempt.streaming


@pytest.mark.parametrize("cut", [5, 30, len(HALF) + 20])
def test_a_broken_stream_without_a_whole_event_keeps_its_bytes(cut: int) -> None:
    attempt = Attempt(Settings(), Send(9.0, 1))
    attempt.begin(200, {"content-type": KIND})
    raw = (HALF + HALF)[:cut]
    feed(attempt, raw)
    body = attempt.failed("reset").body
    assert body == raw.decode() if cut < len(HALF) else body["choices"][0]["message"]["content"] == "Hel"


def test_an_answer_with_an_empty_delta_beside_its_message_is_a_document() -> None:
    whole = json.loads(dumped(WHOLE))
    whole["choices"][0]["delta"] = {"role": "assistant", "content": ""}
    assert received(dumped(whole) + b"\n")[0] == []
    assert replied(received(dumped(whole) + b"\n")[1]).body == whole


def test_an_unknown_field_is_skipped_in_a_declared_stream() -> None:
    assert replied(received(b"version: 2\n\n" + STREAMS["without a space"], kind=KIND)[1]).text == TEXT


@pytest.mark.parametrize("kind", [KIND, "application/json"])
def test_a_body_that_is_all_blank_is_held_to_the_limit(kind: str) -> None:
    _, response = received(*[b" \n" * 1000] * 9, kind=kind, limit=5000)
    assert response.problem == "the response is larger than max_response_bytes (5000)"


@pytest.mark.parametrize("raw", [HALF, b""])
def test_a_stream_too_large_keeps_its_beginning(raw: bytes) -> None:
    endless = received(raw, b"data: " + b"x" * 9000, b"x" * 9000, kind=KIND, limit=10_000)[1]
    assert endless.problem == "a line of the stream is too long"
    assert endless.body or endless.content.startswith(b"data: xxx")


def test_a_first_line_too_long_for_a_chunk_makes_a_document() -> None:
    long = dumped(CHUNKS[0] | {"x": "x" * 17_000}) + b"\n"
    assert received(long)[0] == received(long[:16_600], long[16_600:])[0] == []


@pytest.mark.no_cover
def test_a_text_without_events_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        attempt = Attempt(Settings(), Send(9.0, 1))
        attempt.begin(200, {"content-type": KIND})
        for _ in range(50):
            feed(attempt, b"nothing\n" * 4096)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert size < 3 << 20
    assert len(attempt.end().content) == 1 << 20


@pytest.mark.parametrize("comment", [b":\n", b":\r", b": " + b"x" * 300 + b"\n", b" \n"])
def test_endless_comments_are_skipped(comment: bytes) -> None:
    assert replied(received(comment * 20_000, STREAMS["CRLF"], limit=16 << 20)[1]).text == TEXT


def test_a_comment_that_comes_byte_by_byte_is_looked_at_once() -> None:
    opening, data = Opening(declared=False), bytearray(b":")
    for _ in range(10_000):
        data += b"x"
        assert opening.look(data) is None
    data += b"\ndata:"
    assert opening.look(data) is Kind.STREAM
    assert opening.at == len(data) - len(b"data:")


def packed(encoding: str, *parts: bytes) -> list[bytes]:
    """As servers stream it: each part flushed, so that it can be read before the next is written."""
    deflate = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    pieces = [deflate.compress(part) + deflate.flush(zlib.Z_SYNC_FLUSH) for part in parts]
    return [*pieces, deflate.flush()]


@whatever_it_is_called
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_stream_gives_each_chunk_as_soon_as_it_comes(encoding: str, kind: str) -> None:
    attempt = Attempt(Settings(), Send(9.0, 1))
    attempt.begin(200, {"content-type": kind, "content-encoding": encoding})
    found = [feed(attempt, piece) for piece in packed(encoding, HALF, HALF, DONE)]
    assert found == [[CHUNKS[0]], [CHUNKS[0]], [], []]


@pytest.mark.no_cover
def test_the_limit_is_for_what_a_stream_unpacks_to() -> None:
    bomb = gzip.compress(HALF + b":\n" * (4 << 20))
    chunks, response = received(bomb, encoding="gzip", limit=1 << 21, kind=KIND)
    assert len(chunks) == 1
    assert response.problem == f"the stream is larger than max_response_bytes ({1 << 21})"


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_a_stream_not_encoded_as_declared_is_a_problem(encoding: str) -> None:
    what = "stream" if encoding == "br" else "response"
    problem = received(HALF, HALF, encoding=encoding)[1].problem
    assert problem == f"the {what} is not encoded as its Content-Encoding says ({encoding})"


def test_doubts_about_a_stream_are_reported() -> None:
    assert len(replied(received(HALF + DONE)[1]).doubts) == 1
    assert replied(received(HALF + DONE)[1]).error is None
