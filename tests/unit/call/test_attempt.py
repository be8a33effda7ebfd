"""One attempt as its bytes come in, and what is said when no more come."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from airflow_chat_provider.core.call.attempt import Attempt
from airflow_chat_provider.core.call.steps import Response, Send
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import TransportError, TransportTimeout
from tests.unit.call.feeding import feed

DATA = b'{"choices": []}'
MEGABYTE = 1 << 20


def attempt(timeout: float = 600.0, **settings: Any) -> Attempt:
    return Attempt(Settings(conn_id="mine", base_url="https://h/v1", **settings), Send(timeout, 1))


def begun(headers: dict[str, str] | None = None, **settings: Any) -> Attempt:
    made = attempt(**settings)
    made.sent = True
    made.begin(200, headers or {})
    return made


def test_a_response_is_status_headers_in_lower_case_and_decoded_bytes() -> None:
    made = begun({"X-Request-ID": "r", "Content-Encoding": "gzip"})
    packed = gzip.compress(DATA)
    assert feed(made, packed[:9]) == feed(made, packed[9:]) == made.finish() == []
    assert not made.streaming
    assert not made.over
    assert made.end() == Response(200, {"x-request-id": "r", "content-encoding": "gzip"}, DATA, None)


@pytest.mark.parametrize(
    ("headers", "sent", "content", "problem"),
    [
        ({}, DATA + b" ", DATA, "the response is larger than max_response_bytes (15)"),
        ({"Content-Encoding": "gzip"}, DATA, b"", "the response is not encoded as its Content-Encoding says (gzip)"),
        ({"Content-Encoding": "br"}, DATA, DATA, "the response is not encoded as its Content-Encoding says (br)"),
        (
            {"Content-Encoding": "x" * 99},
            DATA,
            DATA,
            "the response is not encoded as its Content-Encoding says (an unknown one)",
        ),
    ],
)
def test_reading_stops_at_a_response_too_large_or_ill_encoded(
    headers: dict[str, str], sent: bytes, content: bytes, problem: str
) -> None:
    made = begun(headers, max_response_bytes=len(DATA))
    assert feed(made, sent) == []
    assert made.over
    received = made.end()
    assert (received.content, received.problem) == (content, problem)


def test_compressed_data_that_ends_early_is_a_problem() -> None:
    made = begun({"content-encoding": "gzip"})
    feed(made, gzip.compress(DATA)[:-9])
    assert not made.over
    assert made.end().problem == "the response's compressed data was cut off"


def test_a_response_of_exactly_the_limit_is_whole() -> None:
    made = begun(max_response_bytes=MEGABYTE + 1)
    feed(made, bytes(MEGABYTE + 1))
    assert not made.over
    assert (len(made.end().content), made.end().problem) == (MEGABYTE + 1, None)


def test_only_the_beginning_of_a_response_too_large_is_kept() -> None:
    made = begun(max_response_bytes=MEGABYTE + 1)
    feed(made, bytes(MEGABYTE + 2))
    assert made.over
    assert len(made.end().content) == MEGABYTE


def test_a_response_that_has_not_begun_cannot_end() -> None:
    with pytest.raises(RuntimeError):
        attempt().end()


def test_a_failed_connection_points_at_the_base_url_and_extras() -> None:
    error = attempt().failed("refused")
    assert str(error) == (
        "Check the base URL, proxy and TLS extras: no connection (refused) to https://h/v1 of connection 'mine'"
    )
    assert (type(error), error.sent, error.status, error.body) == (TransportError, False, None, None)


def test_a_connection_that_broke_before_an_answer_says_try_again() -> None:
    made = attempt()
    made.sent = True
    error = made.failed("reset")
    assert str(error) == "Try again: the connection broke (reset) before an answer came from https://h/v1"
    assert error.sent


@pytest.mark.parametrize(("sent", "body"), [(DATA, {"choices": []}), (DATA[:5], '{"cho'), (b"", None)])
def test_an_answer_that_was_cut_off_is_kept_as_far_as_it_came(sent: bytes, body: Any) -> None:
    made = begun({"content-type": "application/json"})
    feed(made, sent)
    error = made.failed("reset")
    assert str(error) == "Try again: the answer (HTTP 200) was cut off (reset), from https://h/v1"
    assert (error.sent, error.status, error.body) == (True, 200, body)


MORE_TIME = "Raise timeout, or ask for fewer tokens: "
UNREACHED = "Check that the server can be reached: no connection within "
THERE = " to https://h/v1 of connection 'mine'"


@pytest.mark.parametrize(
    ("timeout", "sent", "status", "connecting", "text"),
    [
        (600.0, True, None, False, f"{MORE_TIME}no answer within 600 s from https://h/v1"),
        (600.0, True, 200, False, f"{MORE_TIME}no complete answer within 600 s from https://h/v1"),
        (7.25, True, None, False, "Raise deadline, or ask for fewer tokens: no answer within 7.25 s from https://h/v1"),
        (600.0, False, None, True, f"{UNREACHED}5 s (connect_timeout){THERE}"),
        (2.0, False, None, True, f"{UNREACHED}2 s (deadline){THERE}"),
        (600.0, False, None, False, f"{UNREACHED}600 s (timeout){THERE}"),
    ],
)
def test_a_timeout_names_the_clock_that_ran_out(
    timeout: float, sent: bool, status: int | None, connecting: bool, text: str
) -> None:
    made = attempt(timeout)
    made.sent = sent
    if status:
        made.begin(status, {})
    error = made.timed_out(connecting=connecting)
    assert (type(error), str(error)) == (TransportTimeout, text)
    assert (error.sent, error.status) == (sent, status)


EVENTS = "text/event-stream; charset=utf-8"
PART = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
BODY = {
    "id": "c",
    "object": "chat.completion",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
}


def event(chunk: Any) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def test_a_stream_gives_its_chunks_as_they_come_and_a_body_at_the_end() -> None:
    made = begun({"Content-Type": EVENTS})
    assert made.streaming
    assert feed(made, event(PART)[:9]) == []
    assert feed(made, event(PART)[9:] + event(LAST)[:-2]) == [PART]
    assert made.finish() == [LAST]
    assert made.end() == Response(200, {"content-type": EVENTS}, b"", None, BODY)


def test_after_done_the_rest_of_a_stream_is_not_wanted() -> None:
    made = begun({"content-type": EVENTS})
    feed(made, event(PART) + event(LAST))
    assert not made.over
    feed(made, b"data: [DONE]\n\n")
    assert made.over


@pytest.mark.parametrize("status", [400, 500])
def test_only_a_2xx_is_read_as_a_stream(status: int) -> None:
    made = attempt()
    made.begin(status, {"content-type": EVENTS})
    assert not made.streaming
    assert feed(made, event(PART)) == []
    assert made.end().content == event(PART)


def test_a_declared_stream_is_a_document_if_its_bytes_are() -> None:
    made = begun({"content-type": EVENTS})
    assert made.streaming
    assert feed(made, b'{"choices": [],\n') == []
    assert not made.streaming


def test_a_stream_that_broke_is_kept_as_far_as_it_came() -> None:
    made = begun({"content-type": EVENTS})
    feed(made, event(PART) + event(LAST)[:20])
    body = made.failed("reset").body
    assert body["choices"][0]["message"]["content"] == "Hi"
    assert body["choices"][0]["finish_reason"] is None


def test_a_stalled_stream_names_stall_timeout() -> None:
    made = begun({"content-type": EVENTS}, stall_timeout=7.5)
    feed(made, event(PART))
    error = made.timed_out(stalled=True)
    assert str(error) == "Raise stall_timeout, or try again: the stream sent nothing for 7.5 s, from https://h/v1"
    assert error.body["choices"][0]["message"]["content"] == "Hi"


def test_an_attempt_sends_the_bytes_that_the_exchange_asked_for() -> None:
    assert Attempt(Settings(), Send(1.0, 1, b"{}")).content == b"{}"
