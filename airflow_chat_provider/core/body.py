"""A response body as it arrives: decompressed within a limit, never more in memory than that."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from airflow_chat_provider.core.nesting import LEVELS, TooDeep
from airflow_chat_provider.core.reading import DEFAULT_LIMIT, TooMuch, read_json, read_text

ACCEPT_ENCODING = "gzip, deflate"
_STEP = 1 << 20
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd", "identity"})
TOO_MUCH = "its JSON holds more values than max_response_bytes allows for, or a text that is too long"
_TOO_DEEP = f"it is not JSON that is read here: it is nested too deep ({LEVELS})"


class TooLarge(Exception):
    """The decoded body passes the limit."""


class BadEncoding(Exception):
    """The body is not in the Content-Encoding that its header states: the text is its name, if it is a known one."""


class Inflater:
    """The bytes of a body without their Content-Encoding, in pieces of at most ``step`` bytes."""

    def __init__(self, encoding: str = "", step: int = _STEP) -> None:
        self._step = step
        self._encoding = encoding.strip().lower()
        self._inflate: Any = None
        self._begun = False

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        """What ``raw`` decodes to; raises BadEncoding, where the encoding is unknown after giving out the raw bytes."""
        if raw and not self._begun:
            self._begun, self._inflate = True, _decompressor(self._encoding, raw[0])
        if self._inflate is None:
            for start in range(0, len(raw), self._step):
                yield raw[start : start + self._step]
            if raw and self._encoding not in ("", "identity"):
                raise BadEncoding(_known(self._encoding))
            return
        while not self._inflate.eof:
            try:
                piece = self._inflate.decompress(raw, self._step)
            except zlib.error as error:
                raise BadEncoding(_known(self._encoding)) from error
            yield piece
            raw = self._inflate.unconsumed_tail
            if not raw and len(piece) < self._step:  # a full step may leave more behind, though all input is taken
                return

    @property
    def whole(self) -> bool:
        """Did the compressed stream, if it is one, come to its end?"""
        return self._inflate is None or bool(self._inflate.eof)


class Body:
    """Collects the bytes of one response; ``pieces`` raises TooLarge or BadEncoding, what came before stays."""

    def __init__(self, limit: int, encoding: str = "") -> None:
        self._limit = limit
        self._data = bytearray()  # not a list of the pieces: a byte that comes alone would take up eight
        self._inflater = Inflater(encoding)

    def feed(self, raw: bytes) -> None:
        for _ in self.pieces(raw):
            pass

    def pieces(self, raw: bytes) -> Iterator[None]:
        """Take ``raw`` in, one step after the other."""
        for piece in self._inflater.pieces(raw):
            room = self._limit - len(self._data)
            self._data += piece[:room]
            if len(piece) > room:
                raise TooLarge
            yield

    @property
    def whole(self) -> bool:
        """Did the compressed stream, if it is one, come to its end?"""
        return self._inflater.whole or not self._data

    def content(self) -> bytes | bytearray:
        """What has come: the collected bytes themselves, for to copy 64 MB would be a step of 50 ms."""
        return self._data


def _known(encoding: str) -> str:
    """The encoding's name for an error: a server may send anything in its place."""
    names = [name.strip() for name in encoding[:64].split(",")]
    return ", ".join(names) if _ENCODINGS.issuperset(names) else "an unknown one"


def _decompressor(encoding: str, first: int) -> Any:
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompressobj(zlib.MAX_WBITS | 16)
    if encoding != "deflate":
        return None
    bare = first & 0x0F != 8  # many servers send it without the zlib header, which begins with that 8
    return zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS)


class Parsed(NamedTuple):
    """A body as JSON, or as text where it is none; ``problem`` where it is JSON that is refused."""

    body: Any
    is_json: bool
    problem: str | None = None


def parse_body(content: bytes | bytearray, content_type: str = "", limit: int = DEFAULT_LIMIT) -> Parsed:
    """The JSON of a body, else its text. Bytes that are no text become U+FFFD. ``limit``: see ``reading.allowance``."""
    problem = None
    try:
        return Parsed(read_json(content, limit), is_json=True)
    except TooMuch:
        problem = TOO_MUCH
    except TooDeep:
        problem = _TOO_DEEP
    except ValueError:
        pass
    charset = content_type.lower().partition("charset=")[2].partition(";")[0].strip(" \"'")
    return Parsed(read_text(content, charset), is_json=False, problem=problem)
