"""A response body as it arrives, in any encoding, in any pieces, never more than the limit."""

from __future__ import annotations

import gzip
import math
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from airflow_chat_provider.core.call.body import BadEncoding, Body, TooLarge, parse_body
from tests.unit.call.feeding import feed

DATA = b'{"choices": [' + b", ".join(b'{"index": %d}' % i for i in range(40)) + b"]}"
BLOCK = 1 << 20  # what is decompressed at a time


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def stored(data: bytes) -> bytes:
    """Raw deflate that compresses nothing: as far from a zlib header as can be."""
    packer = zlib.compressobj(0, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "plain": ("", bytes),
    "identity": ("identity", bytes),
    "gzip": (" GZIP ", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate level 0": ("deflate", lambda data: zlib.compress(data, 0)),
    "raw deflate": ("deflate", raw_deflate),
    "raw deflate, stored": ("deflate", stored),
}
COMPRESSED = [name for name in ENCODINGS if name not in ("plain", "identity")]


def received(name: str, *pieces: bytes, limit: int = 1 << 30) -> Body:
    body = Body(limit, ENCODINGS[name][0])
    for piece in pieces:
        feed(body, piece)
    return body


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_a_body_is_decoded(name: str, data: bytes) -> None:
    body = received(name, ENCODINGS[name][1](data))
    assert (bytes(body.data), body.whole) == (data, True)


@pytest.mark.parametrize("name", ENCODINGS)
def test_where_the_pieces_are_cut_makes_no_difference(name: str) -> None:
    sent = ENCODINGS[name][1](DATA)
    for cut in range(len(sent) + 1):
        body = received(name, sent[:cut], b"", sent[cut:])
        assert (bytes(body.data), body.whole) == (DATA, True)
    assert received(name, *(bytes([byte]) for byte in sent)).data == DATA


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_body_that_was_cut_is_detected(name: str) -> None:
    sent = ENCODINGS[name][1](DATA)
    for cut in range(len(sent)):
        body = received(name, sent[:cut])
        assert DATA.startswith(body.data)
        assert body.whole is (not body.data)


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("extra", [-1, 0, 1, 50, 100, 257, 258, 259])
def test_a_body_of_about_one_step_is_read_to_its_end(name: str, extra: int) -> None:
    data = bytes(BLOCK + extra)
    body = received(name, ENCODINGS[name][1](data))
    assert (len(body.data), body.whole) == (len(data), True)


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_limit_is_of_the_decoded_bytes(name: str) -> None:
    sent = ENCODINGS[name][1](DATA)
    assert received(name, sent, limit=len(DATA)).data == DATA
    body = Body(len(DATA) - 1, ENCODINGS[name][0])
    with pytest.raises(TooLarge):
        feed(body, sent)
    assert body.data == DATA[:-1]


def test_without_a_response_nothing_is_kept() -> None:
    body = Body(0)
    assert (bytes(body.data), body.whole) == (b"", True)
    with pytest.raises(TooLarge):
        feed(body, b"x")


def bomb() -> bytes:
    """1 GiB of zeros in 1 MiB: the deflate stream of one block, repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + 64 * block


def test_a_bomb_takes_no_more_memory_than_the_limit() -> None:
    limit, sent = 4 << 20, bomb()
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            received("gzip", sent, limit=limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * limit + 2 * len(sent)


def test_what_follows_the_end_of_the_compressed_data_is_not_kept() -> None:
    body = received("gzip", gzip.compress(DATA))
    tracemalloc.start()
    try:
        for _ in range(64):
            feed(body, bytes(1 << 16))
        assert tracemalloc.get_traced_memory()[0] < 1 << 18
    finally:
        tracemalloc.stop()
    assert (bytes(body.data), body.whole) == (DATA, True)


@pytest.mark.parametrize(
    ("encoding", "sent", "kept"),
    [
        ("gzip", DATA, b""),
        ("gzip", b"<html>", b""),
        ("gzip", gzip.compress(DATA)[:-8] + b"\0" * 8, DATA),  # its checksum is wrong
        ("gzip", zlib.compress(DATA), b""),
        ("deflate", gzip.compress(DATA), b""),
        ("deflate", b"\xff" * 9, b""),
        ("deflate", zlib.compress(DATA)[:-4] + b"\0" * 4, DATA),
        ("br", DATA, DATA),
        ("gzip, gzip", DATA, DATA),
        ("zstd", b"\x28\xb5", b"\x28\xb5"),
    ],
)
def test_a_body_not_encoded_as_declared_keeps_what_was_read(encoding: str, sent: bytes, kept: bytes) -> None:
    body = Body(1 << 20, encoding)
    with pytest.raises(BadEncoding):
        feed(body, sent)
    assert kept.startswith(body.data)
    assert body.data == kept or encoding in ("gzip", "deflate")


PARSED: list[tuple[bytes, str, Any, bool]] = [
    (b'{"a": 1}', "", {"a": 1}, True),
    (b' "x" ', "text/plain", "x", True),
    (b"null", "", None, True),
    (b'\xef\xbb\xbf{"a": 1}', "", {"a": 1}, True),
    (b'{"a": "\xe9"}', "application/json", {"a": "\ufffd"}, True),
    (b'{"a": "\\ud800"}', "", {"a": "\ud800"}, True),
    (b'{"n": 123456789012345678901234567890}', "", {"n": 123456789012345678901234567890}, True),
    (b'{"n": ' + b"1" * 64 + b"}", "", {"n": int("1" * 64)}, True),
    (b'{"n": ' + b"1" * 65 + b"}", "", {"n": "1" * 65}, True),
    (b'{"n": ' + b"1" * 5000 + b"}", "", {"n": "1" * 5000}, True),
    (b"", "", "", False),
    (b"<html>", "text/html", "<html>", False),
    (b'{"a": 1', "application/json", '{"a": 1', False),
    (b"\xe9", "text/html", "\ufffd", False),
    (b"\xe9", "text/html; charset=iso-8859-1", "é", False),
    (b"\xe9", 'text/html; Charset="ISO-8859-1"; x=1', "é", False),
    (b"\xc3\xa9", "text/html; charset=", "é", False),
    (b"\xc3\xa9", "text/html; charset=us-ascii", "é", False),
    (b"\xe9", "text/html; charset=latin_1", "é", False),
    (b"\xff\xfee\0\x3d\xd8\x00\xde", "text/html; charset=utf-16", "e😀", False),
    (b"\xfe\xff\0e", "text/html; charset=UTF-16", "e", False),
    (b"\0e", "text/html; charset=utf-16be", "e", False),
    (b"e\0", "text/html; charset=utf-16le", "e", False),
    (b"<-\xc3\xa9", "text/html; charset=punycode", "<-é", False),
    (b"<+AOk-", "text/html; charset=utf-7", "<+AOk-", False),
    (b"\xc3\xa9", "text/html; charset=no-such", "é", False),
    (b"\xc3\xa9", "text/html; charset=undefined", "é", False),
    (b"\xc3\xa9", "text/html; charset=hex", "é", False),
    (b"\xc3\xa9", "text/html; charset=a\0b", "é", False),
    (b"x\x00\xff", "", "x\x00\ufffd", False),
]


@pytest.mark.parametrize(("content", "kind", "body", "is_json"), PARSED, ids=range(len(PARSED)))
def test_a_body_is_its_json_or_else_its_text(content: bytes, kind: str, body: Any, is_json: bool) -> None:
    assert parse_body(content, kind) == (body, is_json, None)


def test_a_body_that_is_nested_too_deep_is_kept_as_text_and_named() -> None:
    body, is_json, problem = parse_body(b"[" * 201 + b"]" * 201, "application/json")
    assert (body, is_json) == ("[" * 201 + "]" * 201, False)
    assert problem == "its JSON is nested too deep (more than 200 levels)"


def test_numbers_that_json_does_not_have_are_read_as_python_reads_them() -> None:
    body, is_json, _ = parse_body(b"[NaN, 1e999]")
    assert is_json
    assert isinstance(body, list)
    assert math.isnan(body[0])
    assert body[1] == float("inf")


@pytest.mark.no_cover
def test_json_of_more_values_than_its_size_makes_likely_is_kept_as_text_and_refused() -> None:
    content = b'{"choices": [' + b"{}," * 700_000 + b"{}]}"
    body, is_json, problem = parse_body(content)
    assert (body, is_json) == (content.decode(), False)
    assert problem is not None
    assert "more values" in problem


@pytest.mark.slow
def test_bytes_that_come_one_by_one_take_up_no_more_than_their_number() -> None:
    body = Body(1 << 20)
    tracemalloc.start()
    try:
        for _ in range(1 << 18):
            feed(body, b"x")
        assert tracemalloc.get_traced_memory()[0] < 1 << 19
    finally:
        tracemalloc.stop()


def test_a_body_is_taken_in_by_steps() -> None:
    body, sent = Body(1 << 30, "gzip"), gzip.compress(bytes(10 * BLOCK))
    assert 10 <= len(list(body.pieces(sent))) <= 11
