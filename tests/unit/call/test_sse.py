"""Bytes to events, however the network cuts them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_chat_provider.core.call.sse import LineTooLong, SSEDecoder

BOM = b"\xef\xbb\xbf"
AWKWARD = BOM + (
    b": hello\r\n\r\ndata: 1\r\n\r\ndata:2\r\rdata: 3a\ndata: 3b\n\n\n"
    b"event: error\ndata: 4\n\nid: 7\nretry: 9\ndata: \xe2\x80\xa8\xc3\xa9\x0b\x85\n\n: ping\ndata\n\ndata: last\r"
)
EVENTS = [
    ("", "1"),
    ("", "2"),
    ("", "3a\n3b"),
    ("error", "4"),
    ("", "\u2028é\x0b\ufffd"),
    ("", ""),
    ("", "last"),
]


def decoded(*pieces: bytes, limit: int = 1000) -> list[tuple[str, str]]:
    decoder = SSEDecoder(limit)
    events = [event for piece in pieces for event in decoder.feed(piece)] + list(decoder.end())
    return [(name, data.decode("utf-8", "replace")) for name, data in events]


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"", []),
        (b"\n\n\r\n", []),
        (b"data: a\n\ndata: b\n\n", [("", "a"), ("", "b")]),
        (b"data: a\r\rdata: b\r\r", [("", "a"), ("", "b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("", "a"), ("", "b")]),
        (b"data: a\r\n\ndata: b\n\r", [("", "a"), ("", "b")]),
        (b"data:a\n\n", [("", "a")]),
        (b"data:  a \n\n", [("", " a ")]),
        (b"data: a: b\n\n", [("", "a: b")]),
        (b"data: a\ndata: b\ndata:\n\n", [("", "a\nb\n")]),
        (b": comment\n\n:\ndata: a\n: more\n\n", [("", "a")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", "a"), ("", "b")]),
        (b"data: a\nevent:x\n\n", [("x", "a")]),
        (b"event: x\n\ndata: a\n\n", [("", "a")]),
        (b"id: 1\nretry: 5\nDATA: n\ndatum: n\n data: n\ndata: a\n\n", [("", "a")]),
        (BOM + b"data: a\n\n", [("", "a")]),
        (BOM + BOM + b"data: a\n\n", []),
        (b"data: a\n\n" + BOM + b"data: b\n\n", [("", "a")]),
        ("data: a\u2028b\u2029c\x85\x0b\x0c\x1c\n\n".encode(), [("", "a\u2028b\u2029c\x85\x0b\x0c\x1c")]),
        (b"data: \xff\n\n", [("", "\ufffd")]),
        (AWKWARD, EVENTS),
    ],
)
def test_bytes_become_events(raw: bytes, events: list[tuple[str, str]]) -> None:
    assert decoded(raw) == events


@pytest.mark.parametrize("raw", [b"data: a", b"data: a\n", b"data: a\r", b"data: a\r\n", b"data: a\n: bye"])
def test_an_event_without_its_blank_line_comes_at_the_end(raw: bytes) -> None:
    decoder = SSEDecoder()
    assert list(decoder.feed(raw)) == []
    assert list(decoder.end()) == [("", b"a")]
    assert list(decoder.end()) == []


def test_an_event_comes_with_the_byte_that_ends_it() -> None:
    decoder = SSEDecoder()
    assert list(decoder.feed(b"data: a\r\n\r")) == [("", b"a")]
    assert list(decoder.feed(b"\ndata: b\n")) == []
    assert list(decoder.feed(b"\n")) == [("", b"b")]


@pytest.mark.parametrize("cut", range(len(AWKWARD) + 1))
def test_a_stream_may_be_cut_at_any_byte(cut: int) -> None:
    assert decoded(AWKWARD[:cut], AWKWARD[cut:]) == EVENTS


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_stream_may_come_in_small_pieces(size: int) -> None:
    assert decoded(*(AWKWARD[at : at + size] for at in range(0, len(AWKWARD), size))) == EVENTS


LINES = st.sampled_from(
    [b"data: ", b"data:", b"event: x", b":", b"\r", b"\n", b"\r\n", b"\n\n", BOM, b"{}", b"\xe2\x80\xa8"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES | st.binary(max_size=4)).map(b"".join), st.data())
def test_events_do_not_depend_on_where_any_stream_is_cut(raw: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(raw))))
    pieces = [raw[start:end] for start, end in pairwise([0, *sorted(cuts), len(raw)])]
    assert decoded(*pieces) == decoded(raw)


def test_a_line_may_be_as_long_as_the_limit() -> None:
    assert decoded(b"data", b": ab", b"cd", b"\n\n", limit=10) == [("", "abcd")]


def test_a_line_longer_than_the_limit_is_not_collected() -> None:
    decoder = SSEDecoder(10)
    list(decoder.feed(b"data: abcd\n\ndata: "))
    with pytest.raises(LineTooLong):
        list(decoder.feed(b"abcde"))


def test_events_before_a_line_that_is_too_long_are_not_lost() -> None:
    decoder = SSEDecoder(10)
    assert list(decoder.feed(b"data: a\n\ndata: " + bytes(99))) == [("", b"a")]
    with pytest.raises(LineTooLong):
        list(decoder.feed(b"b"))


def test_the_limit_is_for_one_line_and_not_for_the_stream() -> None:
    assert decoded(*[b"data: ", b"ab\n\n"] * 50, limit=10) == [("", "ab")] * 50


def test_an_event_of_many_lines_is_not_collected_beyond_the_limit() -> None:
    decoder = SSEDecoder(10)
    assert list(decoder.feed(b"data: a\n\n" + b"data: bc\n" * 4)) == [("", b"a")]
    with pytest.raises(LineTooLong):
        list(decoder.feed(b"data: bc\n"))


def test_bytes_of_an_unfinished_event_are_counted() -> None:
    decoder = SSEDecoder()
    list(decoder.feed(b"data: 1234\ndata: 12"))
    assert decoder.pending == 5 + 8
    list(decoder.feed(b"\n\n"))
    assert decoder.pending == 0
