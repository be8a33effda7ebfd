"""A streamed reply from its bytes: what is whole, and what ends it early."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_chat_provider.core.call.stream import EMPTY, StreamReader

DONE = b"data: [DONE]\n\n"
UNFINISHED = "the stream ended before every choice had a finish_reason"


def chunk(text: str = "", finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]}


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


HI, END = chunk("Hi"), chunk("", "stop")
WHOLE = event(HI) + event(END) + DONE


def read(*pieces: bytes, limit: int = 1 << 20, choices: int = 1) -> tuple[StreamReader, list[dict[str, Any]]]:
    reader = StreamReader(limit, choices)
    chunks = [found for piece in pieces for found in reader.feed(piece)]
    return reader, chunks + reader.end()


def said(reader: StreamReader) -> str:
    content: str = reader.body()["choices"][0]["message"]["content"]
    return content


def test_a_whole_stream_is_its_chunks_and_a_body() -> None:
    reader, chunks = read(WHOLE)
    assert chunks == [HI, END]
    assert (reader.problem, reader.over, said(reader)) == (None, True, "Hi")


@pytest.mark.parametrize("size", [1, 5, 64])
def test_a_stream_in_pieces_is_the_same(size: int) -> None:
    reader, chunks = read(*(WHOLE[at : at + size] for at in range(0, len(WHOLE), size)))
    assert (chunks, reader.problem, reader.body()) == ([HI, END], None, read(WHOLE)[0].body())


@pytest.mark.parametrize("end", [b"", b"data: [DONE]", b"data:[DONE] \r\n"])
def test_done_may_be_missing_or_cut_where_every_choice_is_finished(end: bytes) -> None:
    assert read(event(HI) + event(END) + end)[0].problem is None


def test_a_last_event_without_its_blank_line_counts() -> None:
    reader, chunks = read(event(HI) + event(END)[:-2])
    assert (chunks, reader.problem) == ([HI, END], None)


@pytest.mark.parametrize(
    "raw",
    [
        event(HI),
        event(END) + event(chunk("Hi", index=1)),
        event({"id": "c", "choices": [], "usage": {"total_tokens": 1}}) + DONE,
    ],
)
def test_a_stream_that_ends_before_every_finish_reason_is_not_whole(raw: bytes) -> None:
    reader, _ = read(raw)
    assert reader.problem == UNFINISHED
    assert reader.body()["id"] == "c"


@pytest.mark.parametrize(
    ("raw", "problem"), [(b"", EMPTY), (b": hello\n\n", EMPTY), (b"event: ping\ndata:\n\n", EMPTY), (DONE, UNFINISHED)]
)
def test_a_stream_without_a_chunk_has_no_body_and_its_bytes_are_kept(raw: bytes, problem: str) -> None:
    reader, chunks = read(raw)
    assert (chunks, reader.problem, reader.body(), bytes(reader.head)) == ([], problem, None, raw)


@pytest.mark.parametrize("raw", [event(HI) + DONE, event(END) + event(chunk("Hi", index=1)) + DONE])
def test_a_stream_that_ends_with_done_and_without_a_finish_reason_is_taken_with_a_doubt(raw: bytes) -> None:
    reader, _ = read(raw)
    assert reader.problem is None
    assert reader.doubts == (
        "The answer may be incomplete: the stream ended with [DONE], but not every choice has a finish_reason",
    )


@pytest.mark.parametrize(("choices", "doubts"), [(1, 0), (2, 1)])
def test_fewer_choices_than_were_asked_for_are_a_doubt_where_the_stream_has_no_end(choices: int, doubts: int) -> None:
    assert len(read(event(HI) + event(END), choices=choices)[0].doubts) == doubts
    assert read(WHOLE, choices=choices)[0].doubts == ()


def test_an_empty_finish_reason_does_not_finish() -> None:
    assert read(event(chunk("Hi", "")))[0].problem == UNFINISHED


ERROR = {"message": "Overloaded", "code": "busy"}


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (event({"error": ERROR}), ERROR),
        (event({"error": "gone"}), "gone"),
        (b"event: error\n" + event(ERROR), ERROR),
        (b"event: error\n" + event({"error": ERROR}), ERROR),
        (b"event: error\n" + event("gone"), "gone"),
        (b"event: error\ndata: gone\n\n", "gone"),
        (event({**chunk("more"), "error": ERROR}), ERROR),
    ],
)
def test_an_error_ends_a_stream_and_keeps_what_came_before(raw: bytes, error: Any) -> None:
    reader, chunks = read(event(HI) + raw + event(END) + DONE)
    assert (chunks, reader.problem, reader.over) == ([HI], "the stream contains an error", True)
    assert (reader.body()["error"], said(reader)) == (error, "Hi")


def test_a_stream_that_is_only_an_error_has_a_body_of_only_that() -> None:
    assert read(event({"error": ERROR}))[0].body() == {"error": ERROR}


def test_an_error_that_is_null_does_not_count() -> None:
    reader, _ = read(event({**HI, "error": None}) + event(END))
    assert reader.problem is None
    assert "error" not in reader.body()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"{", "an event of the stream is not JSON"),
        (b"<html>", "an event of the stream is not JSON"),
        (b"[" * 100_000, "the JSON of an event is nested too deep (more than 200 levels)"),
        (b"[1]", "an event of the stream is not a JSON object"),
        (b"null", "an event of the stream is not a JSON object"),
        (b'"text"', "an event of the stream is not a JSON object"),
    ],
)
def test_an_event_that_is_not_a_chunk_ends_a_stream(data: bytes, problem: str) -> None:
    reader, chunks = read(event(HI) + b"data: " + data + b"\n\n" + event(END) + DONE)
    assert (chunks, reader.problem, said(reader)) == ([HI], problem, "Hi")


@pytest.mark.parametrize(("start", "end"), [('{"a":', "}"), ("[", "]")])
def test_an_event_nested_too_deep_is_a_problem(start: str, end: str) -> None:
    deep = json.loads('{"choices": [{"index": 0, "delta": {"x": 1}}]}')
    raw = json.dumps(deep).replace("1", start * 900 + "1" + end * 900).encode()  # which Python 3.13 reads
    reader, _ = read(b"data: " + raw + b"\n\n" + event(END))
    assert reader.body() is None
    assert reader.problem == "the JSON of an event is nested too deep (more than 200 levels)"


@pytest.mark.parametrize("raw", [b"data:\n\n", b"data\n\n", b"data:  \n\n", b": ping\n\n", b"event: ping\n\n"])
def test_an_event_without_data_means_nothing(raw: bytes) -> None:
    reader, chunks = read(raw + event(HI) + raw + event(END) + raw)
    assert (chunks, reader.problem) == ([HI, END], None)


@pytest.mark.parametrize("rest", [event(chunk("more")), event({"error": ERROR}), b"data: {\n\n", bytes(2000), b"\xff"])
@pytest.mark.parametrize("apart", [True, False])
def test_after_done_nothing_counts(rest: bytes, apart: bool) -> None:
    reader, chunks = read(*((WHOLE, rest) if apart else (WHOLE + rest,)), limit=1000)
    assert (chunks, reader.problem, said(reader)) == ([HI, END], None, "Hi")


def test_a_stream_larger_than_the_limit_is_kept_as_far_as_it_was_read() -> None:
    reader, chunks = read(*[event(HI)] * 9, limit=2 * len(event(HI)))
    assert reader.problem == f"the stream is larger than max_response_bytes ({2 * len(event(HI))})"
    assert (reader.over, len(chunks), said(reader)) == (True, 3, "HiHiHi")


def test_a_stream_of_exactly_the_limit_is_whole() -> None:
    assert read(WHOLE, limit=len(WHOLE))[0].problem is None


def test_a_line_that_never_ends_is_a_problem() -> None:
    reader, chunks = read(event(HI), b"data: ", *[bytes(1 << 20)] * 17, limit=1 << 25)
    assert (chunks, reader.problem, said(reader)) == ([HI], "a line of the stream is too long", "Hi")


@pytest.mark.parametrize("raw", [b'event: ping\ndata: {"type": "ping"}\n\n', b'data: {"type": "ping"}\n\n'])
def test_a_ping_is_not_part_of_the_answer(raw: bytes) -> None:
    reader, chunks = read(raw + event(HI) + raw + event(END) + DONE)
    assert chunks == [HI, END]
    assert "type" not in reader.body()


FLAT = {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400}


@pytest.mark.parametrize("raw", [event(FLAT), event({**FLAT, "choices": []}), event({"detail": "too long"})])
def test_an_error_in_a_chunk_without_choices_ends_a_stream(raw: bytes) -> None:
    reader, _ = read(event(HI) + raw + DONE)
    assert reader.problem == "the stream contains an error"
    assert said(reader) == "Hi"


@pytest.mark.parametrize("last", [{"code": 0, "msg": "success"}, {"usage": {"total_tokens": 1}, "message": "done"}])
def test_what_a_server_says_after_a_whole_answer_is_not_an_error(last: dict[str, Any]) -> None:
    assert read(event(HI) + event(END) + event(last) + DONE)[0].problem is None


def test_fields_that_a_proxy_repeats_a_million_times_are_not_json() -> None:
    assert read(event(HI) + b"data: " * 300_000 + b"\n\n")[0].problem == "an event of the stream is not JSON"


def test_after_a_line_that_is_not_json_nothing_counts_of_an_event_of_many_lines() -> None:
    reader, chunks = read(event(HI) + b"data: {no\n" + event(END))
    assert (chunks, reader.problem) == ([HI], "an event of the stream is not JSON")
