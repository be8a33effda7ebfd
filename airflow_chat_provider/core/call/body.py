"""A response body as it arrives: decompressed within a limit, never more in memory than that."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from airflow_chat_provider.core.call.sse import LineTooLong, SSEDecoder
from airflow_chat_provider.core.json_text.nesting import LEVELS, TooDeep
from airflow_chat_provider.core.json_text.reading import DEFAULT_LIMIT, TooMuch, read_json, read_text

ACCEPT_ENCODING = "gzip, deflate"
_STEP = 1 << 20
_FRAME_STEP = 1 << 14
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd", "identity"})
TOO_MUCH = "its JSON holds more values than max_response_bytes allows for, or a text that is too long"
_TOO_DEEP = f"it is not JSON that is read here: it is nested too deep ({LEVELS})"
_FRAMED = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]{0,1024}(?:data|event|error|id|retry|):")
_TAIL = 1024  # bytes at the end of a body in which an event stream's end may follow its JSON
_DONE = re.compile(rb"(?:data:[ \t]{0,8})?\[DONE\]\Z")


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

    def __init__(self, limit: int, encoding: str = "", step: int = _STEP) -> None:
        self._limit = limit
        self._data = bytearray()  # not a list of the pieces: a byte that comes alone would take up eight
        self._inflater = Inflater(encoding, step)

    def feed(self, raw: bytes) -> None:
        for _ in self.pieces(raw):
            pass

    def pieces(self, raw: bytes) -> Iterator[list[dict[str, Any]]]:
        """Take ``raw`` in, one step after the other; the chunks that a step completes, where it is a stream."""
        for piece in self._inflater.pieces(raw):
            yield self._take(piece)

    def _take(self, piece: bytes) -> list[dict[str, Any]]:
        room = self._limit - len(self._data)
        self._data += piece[:room]
        if len(piece) > room:
            raise TooLarge
        return []

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
    """The JSON of a body, else its text. Bytes that are no text become U+FFFD. ``limit``: see ``reading.allowance``.

    The JSON may stand in the frame of an event stream, as the errors of some servers do.
    """
    problem = None
    try:
        return Parsed(read_json(content, limit), is_json=True)
    except TooMuch:
        problem = TOO_MUCH
    except TooDeep:
        problem = _TOO_DEEP
    except ValueError:
        value = _framed(content, limit)
        if value is not None:
            return Parsed(value, is_json=True)
    charset = content_type.lower().partition("charset=")[2].partition(";")[0].strip(" \"'")
    return Parsed(read_text(content, charset), is_json=False, problem=problem)


def _framed(content: bytes | bytearray, limit: int) -> Any:
    """The first JSON object among events, or JSON that only the end of a stream follows; else None."""
    if _FRAMED.match(content):
        return _first_object(content, limit)
    end = _without_end(content)
    if not 0 < end < len(content):
        return None
    try:
        return read_json(content[:end], limit)
    except ValueError:
        return None


def _first_object(content: bytes | bytearray, limit: int) -> Any:
    for event, data in _events(content):
        try:
            value = read_json(data, limit)
        except ValueError:
            if event == "error" and data.strip():
                return {"error": read_text(data)}
        else:
            if isinstance(value, dict):
                return value
    return None


def _events(content: bytes | bytearray) -> Iterator[tuple[str, bytes]]:
    decoder = SSEDecoder()
    try:
        for start in range(0, len(content), _FRAME_STEP):
            yield from decoder.feed(bytes(content[start : start + _FRAME_STEP]))
    except LineTooLong:
        return
    yield from decoder.end()


def _without_end(content: bytes | bytearray) -> int:
    """Where a body ends without the comments, blank lines and ``data: [DONE]`` that a stream may end with."""
    end = len(content)
    for line in reversed(bytes(content[-_TAIL:]).splitlines(keepends=True)):
        said = line.strip()
        if said and not said.startswith(b":"):
            said = _DONE.sub(b"", said)
            if said:
                return end - len(line) + line.index(said) + len(said)
        end -= len(line)
    return end
