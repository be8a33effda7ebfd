"""A response body as it arrives: decompressed within a limit, never more in memory than that."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

ACCEPT_ENCODING = "gzip, deflate"
_STEP = 1 << 20


class TooLarge(Exception):
    """The decoded body passes the limit."""


class BadEncoding(Exception):
    """The body is not in the Content-Encoding that its header states."""


class Inflater:
    """The bytes of a body without their Content-Encoding, in pieces of at most a megabyte."""

    def __init__(self, encoding: str = "") -> None:
        self._encoding = encoding.strip().lower()
        self._inflate: Any = None
        self._begun = False

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        """What ``raw`` decodes to; raises BadEncoding, where the encoding is unknown after giving out the raw bytes."""
        if raw and not self._begun:
            self._begun, self._inflate = True, _decompressor(self._encoding, raw[0])
        if self._inflate is None:
            yield raw
            if raw and self._encoding not in ("", "identity"):
                raise BadEncoding(self._encoding)
            return
        while not self._inflate.eof:
            try:
                piece = self._inflate.decompress(raw, _STEP)
            except zlib.error as error:
                raise BadEncoding(self._encoding) from error
            yield piece
            raw = self._inflate.unconsumed_tail
            if not raw and len(piece) < _STEP:  # a full step may leave more behind, though all input is taken
                return

    @property
    def whole(self) -> bool:
        """Did the compressed stream, if it is one, come to its end?"""
        return self._inflate is None or bool(self._inflate.eof)


class Body:
    """Collects the bytes of one response; ``feed`` raises TooLarge or BadEncoding, what came before stays."""

    def __init__(self, limit: int, encoding: str = "") -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._inflater = Inflater(encoding)

    def feed(self, raw: bytes) -> None:
        for piece in self._inflater.pieces(raw):
            self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        room = self._limit - self._size
        self._chunks.append(piece[:room])
        self._size += len(piece)
        if len(piece) > room:
            self._size = self._limit
            raise TooLarge

    @property
    def whole(self) -> bool:
        """Did the compressed stream, if it is one, come to its end?"""
        return self._inflater.whole or not self._size

    def content(self) -> bytes:
        return b"".join(self._chunks)


def _decompressor(encoding: str, first: int) -> Any:
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompressobj(zlib.MAX_WBITS | 16)
    if encoding != "deflate":
        return None
    bare = first & 0x0F != 8  # many servers send it without the zlib header, which begins with that 8
    return zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS)


def parse_body(content: bytes, content_type: str = "") -> tuple[Any, bool]:
    """``(body, is_json)``: the JSON, or the text where it is none. Bytes that are no text become U+FFFD."""
    text = content.decode("utf-8-sig", "replace")
    try:
        return json.loads(text, parse_int=_integer), True
    except (ValueError, RecursionError):
        return _text(content, text, content_type), False


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= 4000 else digits  # Python refuses to read more than 4,300


def _text(content: bytes, text: str, content_type: str) -> str:
    charset = content_type.lower().partition("charset=")[2].partition(";")[0].strip(" \"'")
    try:
        return content.decode(charset, "replace") if charset else text
    except (LookupError, ValueError):
        return text
