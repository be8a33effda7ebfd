"""Replies that only our own tests need, beside those that the package ships for users' tests."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from airflow_chat_provider.testing import End, Received, Reply
from airflow_chat_provider.testing.faults import cut_stream, half_body, hang, reset
from airflow_chat_provider.testing.loopback import MAX_SECONDS
from airflow_chat_provider.testing.replies import Step, chunked, frame, ok

__all__ = ["cut_stream", "half_body", "hang", "reset"]

_HALF = ok().body[: len(ok().body) // 2]
_BLOCK = 65_536


def close() -> Reply:
    """FIN, before any byte of a reply."""
    return Reply(end=End.CLOSE, steps=_nothing)


def raw(data: bytes) -> Reply:
    """Exactly these bytes, then FIN."""
    return Reply(end=End.CLOSE, body=data, steps=lambda reply: (reply.body,))


def cut_chunked(body: bytes = _HALF, *, end: End = End.CLOSE) -> Reply:
    """A chunked body without its closing chunk."""
    return chunked([body], end=end)


def drip(body: bytes | None = None, every: float = 0.05) -> Reply:
    """The headers at once, then a byte at a time; without a body, spaces for as long as the server may."""
    headers = {"Content-Type": "application/json"}
    if body is None:
        return Reply(headers=headers, end=End.CLOSE, steps=lambda reply: _drops(reply.head(None), every, b"1\r\n \r\n"))

    def steps(reply: Reply) -> Iterator[Step]:
        yield reply.head(len(reply.body))
        for byte in reply.body:
            yield every
            yield bytes((byte,))

    return Reply(headers=headers, body=body, steps=steps)


def drip_headers(every: float = 0.05) -> Reply:
    """A status line, then a header that never ends."""
    return Reply(end=End.CLOSE, steps=lambda _reply: _drops(b"HTTP/1.1 200 OK\r\nX-Drip: ", every, b"a"))


def huge(size_bytes: int, *, announced: bool = True) -> Reply:
    """A JSON text of that size, made while it is sent; not announced, it is chunked and of unknown length."""
    opening, closing = b'{"pad":"', b'"}'
    if not len(opening + closing) <= size_bytes <= 8 << 30:
        raise ValueError("huge() sends between 10 bytes and 8 GiB")

    def pieces() -> Iterator[bytes]:
        yield opening
        blocks, rest = divmod(size_bytes - len(opening + closing), _BLOCK)
        block = b"a" * _BLOCK
        for _ in range(blocks):
            yield block
        yield block[:rest] + closing

    def steps(reply: Reply) -> Iterator[Step]:
        yield reply.head(size_bytes if announced else None)
        yield from pieces() if announced else map(frame, pieces())
        if not announced:
            yield b"0\r\n\r\n"

    return Reply(headers={"Content-Type": "application/json"}, steps=steps)


@lru_cache(maxsize=4)
def gzip_bomb(decoded_bytes: int = 1 << 30) -> Reply:
    """Valid gzip of that many zeros, a thousandth of their size on the wire."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return Reply(headers=headers, body=_gzip_of_zeros(decoded_bytes))


def redirect(location: str, status: int = 307) -> Reply:
    return Reply(status, {"Location": location})


def gzipped(reply: Reply) -> Reply:
    return _encoded(reply, "gzip", gzip.compress(reply.body, mtime=0))


def deflated(reply: Reply) -> Reply:
    return _encoded(reply, "deflate", zlib.compress(reply.body))


def by_model(script: Mapping[str, list[Reply]], default: Reply) -> Callable[[Received], Reply]:
    """To each request the next of its model's replies; ``default`` where there is none left."""

    def answer(request: Received) -> Reply:
        left = script.get(request.json["model"])
        return left.pop(0) if left else default

    return answer


def _nothing(_reply: Reply) -> Iterable[Step]:
    return ()


def _drops(start: bytes, every: float, drop: bytes) -> Iterator[Step]:
    yield start
    every = max(every, 0.001)
    for _ in range(int(MAX_SECONDS / every)):
        yield every
        yield drop


def _gzip_of_zeros(size: int) -> bytes:
    """One gzip member; a block that ends in a full flush may be repeated, so only one is ever compressed."""
    block = bytes(1 << 20)
    blocks, rest = divmod(size, len(block))
    checksum = 0
    for _ in range(blocks):
        checksum = zlib.crc32(block, checksum)
    checksum = zlib.crc32(block[:rest], checksum)
    packed = _flushed(block) * blocks + _flushed(block[:rest])
    header, last_block = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", b"\x03\x00"
    trailer = checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
    return header + packed + last_block + trailer


def _flushed(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush(zlib.Z_FULL_FLUSH)


def _encoded(reply: Reply, encoding: str, body: bytes) -> Reply:
    return replace(reply, headers={**reply.headers, "Content-Encoding": encoding}, body=body)
