"""A response's body: its bytes as they arrive, decompressed within a limit, and the JSON or text that they are.

The body of a 2xx is read as a stream as soon as its first bytes are those of one, whatever its Content-Type says: some
servers call a stream JSON, and others JSON a stream.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from enum import Enum
from itertools import chain
from typing import Any, NamedTuple

from airflow_chat_provider.core.call.sse import LineTooLong, SSEDecoder
from airflow_chat_provider.core.call.stream import TOO_DEEP, TOO_MUCH, StreamReader
from airflow_chat_provider.core.json_text.nesting import TooDeep
from airflow_chat_provider.core.json_text.reading import DEFAULT_LIMIT, TooMuch, read_json, read_text
from airflow_chat_provider.core.types import JSON, JSONObject

ACCEPT_ENCODING = "gzip, deflate"
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd", "identity"})
_STEP = 1 << 20  # bytes that are decompressed at a time
_ANSWER_STEP = 1 << 14  # bytes of an answer that are looked at in one step: a thousand events, if they are small

_BOM = b"\xef\xbb\xbf"
# No repetition is unlimited: a single match would be a step of any length, see ``json_text.reading``.
_BLANK = re.compile(rb"(?:[ \t\r\n]|:[^\r\n]{0,256}[\r\n]){1,65536}+")  # with comments, if they are short
_LINE_BREAK = re.compile(rb"[\r\n]")
_WORDS = (b"data", b"event", b"error", b"id", b"retry")
_FIELD = re.compile(rb"(?:data|event|error|id|retry)(?::|[\r\n])")
_LONGEST_FIELD = 6  # bytes of a field's name with its colon
_LONGEST_CHUNK = 1 << 14  # bytes of the first line, in which a stream of JSON lines shows itself as one

_FRAMED = rb"(?:\xef\xbb\xbf)?[ \t\r\n]{0,1024}(?:data|event|error|id|retry|):"
_FRAME_STEP = 1 << 14
_TAIL = 1024  # bytes at the end of a body in which the end of an event stream may follow its JSON
_DONE = rb"(?:data:[ \t]{0,8})?\[DONE\]\Z"


class TooLarge(Exception):
    """The decoded body passes the limit."""


class BadEncoding(Exception):
    """The body is not encoded as its Content-Encoding says. The text is that encoding's name, if it is a known one."""


class Body:
    """Collects the bytes of one response. ``pieces`` raises TooLarge or BadEncoding; what came before that stays.

    ``data`` holds the decoded bytes themselves: to copy 64 MB would be a step of 50 ms. It is not a list of pieces, in
    which a byte that comes alone would take up eight.
    """

    stream: StreamReader | None = None
    """Reads the body, if it is an event stream."""
    blank = False
    """Did nothing come but blank lines and comments?"""
    streaming = False
    """Do chunks come, or may they?"""

    def __init__(self, limit: int, encoding: str = "", step: int = _STEP) -> None:
        self.data = bytearray()
        self._limit = limit
        self._step = step
        self._encoding = encoding.strip().lower()
        self._inflate: Any = None  # a zlib decompressor; typeshed's class for it cannot be imported
        self._begun = False

    def pieces(self, raw: bytes) -> Iterator[list[JSONObject]]:
        """Take ``raw`` in, one step after the other; gives the chunks that each step completes, if it is a stream."""
        if raw and not self._begun:
            self._begun = True
            if self._encoding not in ("", "identity"):
                self._inflate = _decompressor(self._encoding, raw[0])
        if self._inflate is None:
            for start in range(0, len(raw), self._step):
                yield self._take(raw[start : start + self._step])
            if raw and self._encoding not in ("", "identity"):
                raise BadEncoding(_known(self._encoding))
            return
        while not self._inflate.eof:
            try:
                piece = self._inflate.decompress(raw, self._step)
            except zlib.error as error:
                raise BadEncoding(_known(self._encoding)) from error
            yield self._take(piece)
            raw = self._inflate.unconsumed_tail
            if not raw and len(piece) < self._step:  # a full step may leave more behind, though all input is taken
                return

    def _take(self, piece: bytes) -> list[JSONObject]:
        room = self._limit - len(self.data)
        self.data += piece[:room]
        if len(piece) > room:
            raise TooLarge
        return []

    def finish(self) -> list[JSONObject]:
        """No more comes: the chunks that this completes."""
        return []

    @property
    def whole(self) -> bool:
        """Did the compressed data, if the body is compressed, come to its end?"""
        return self._inflate is None or bool(self._inflate.eof) or not self.data


class Answer(Body):
    """The body of a 2xx. ``declared``: its Content-Type says that it is a stream; ``choices``: how many are due."""

    def __init__(self, limit: int, encoding: str = "", choices: int = 1, *, declared: bool = False) -> None:
        super().__init__(limit, encoding, _ANSWER_STEP)
        self.streaming = declared
        self._choices = choices
        self._opening: Opening | None = Opening(declared=declared)

    def _take(self, piece: bytes) -> list[JSONObject]:
        if self.stream is not None:
            return self.stream.feed(piece)
        super()._take(piece)
        return self._look() if self._opening is not None else []

    def _look(self, *, over: bool = False) -> list[JSONObject]:
        """Find out what the body is, unless more has to come for that; then read it accordingly."""
        opening = self._opening
        kind = opening.look(self.data, over=over) if opening is not None else None
        if opening is None or kind is None:
            return []
        self._opening = None
        self.streaming = kind is Kind.STREAM
        if kind is Kind.STREAM:
            self.stream = StreamReader(self._limit, self._choices)
            begun, self.data = bytes(self.data[opening.at :]), bytearray()
            return self.stream.feed(begun)
        if opening.comments:
            del self.data[: opening.at]
        return []

    def finish(self) -> list[JSONObject]:
        chunks = self._look(over=True)
        self.blank = self._opening is not None and (self.streaming or bool(self.data))
        return chunks if self.stream is None else chunks + self.stream.end()


def _known(encoding: str) -> str:
    """The encoding's name for an error. A server may send anything in its place, so only known names are shown."""
    names = [name.strip() for name in encoding[:64].split(",")]
    return ", ".join(names) if _ENCODINGS.issuperset(names) else "an unknown one"


def _decompressor(encoding: str, first: int) -> Any:
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompressobj(zlib.MAX_WBITS | 16)
    if encoding != "deflate":
        return None
    bare = first & 0x0F != 8  # many servers send it without the zlib header, which begins with that 8
    return zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS)


class Kind(Enum):
    """What the body of a 2xx is."""

    STREAM = "stream"
    DOCUMENT = "document"


class Opening:
    """``look`` at the first bytes of a body, each time that there are more of them, until they tell its kind.

    Blank lines and comments, which keep a connection alive, come before either kind. ``at`` is where they end, and
    ``comments`` says whether there are comments among them. ``declared``: the Content-Type says that it is a stream.
    """

    def __init__(self, *, declared: bool) -> None:
        self.at = 0
        self.comments = False
        self._declared = declared
        self._looked = 0  # up to where the line that begins at ``at`` was looked at

    def look(self, data: bytearray, *, over: bool = False) -> Kind | None:
        """The kind; None where more has to come. ``over``: no more comes, and None means that all of it is blank."""
        if data[self.at : self.at + 1] != b"{" and not self._skip_blanks(data):
            return None
        if data[self.at] == ord("{"):
            return self._of_object(data, over=over)
        if _FIELD.match(data, self.at):
            return Kind.STREAM
        begun = bytes(data[self.at : self.at + _LONGEST_FIELD])
        if not over and any(word.startswith(begun) for word in _WORDS):
            return None
        # The specification ignores a line without a known field. A web page or other JSON is a document all the same.
        return Kind.STREAM if self._declared and data[self.at] not in b'<["' else Kind.DOCUMENT

    def _skip_blanks(self, data: bytearray) -> bool:
        """Move ``at`` past the blank lines and comments. Does something follow them?"""
        if self.at == 0 and data[:1] == _BOM[:1] and data[:3] == _BOM[: len(data)]:
            if len(data) < len(_BOM):
                return False
            self.at = len(_BOM)
        while True:
            while found := _BLANK.match(data, self.at):
                self.comments = self.comments or data.find(b":", self.at, found.end()) >= 0
                self.at = found.end()
            if self.at >= len(data) or data[self.at] != ord(":"):
                return self.at < len(data)
            end = _LINE_BREAK.search(data, max(self.at, self._looked))  # of a long comment
            if end is None:
                self._looked = len(data)
                return False
            self.at, self.comments = end.start(), True

    def _of_object(self, data: bytearray, *, over: bool) -> Kind | None:
        """An object is the whole answer, or the first of many lines, each of which is a chunk."""
        found = _LINE_BREAK.search(data, max(self.at, self._looked), self.at + _LONGEST_CHUNK + 1)
        self._looked = min(len(data), self.at + _LONGEST_CHUNK + 1)
        end = found.start() if found else len(data)
        if end - self.at > _LONGEST_CHUNK:
            return Kind.DOCUMENT
        if found is None and not over:
            return None
        if data.find(b'"delta"', self.at, end) < 0 and data.find(b"chat.completion.chunk", self.at, end) < 0:
            return Kind.DOCUMENT
        return Kind.STREAM if _is_chunk(bytes(data[self.at : end])) else Kind.DOCUMENT


def _is_chunk(line: bytes) -> bool:
    """Is it a chunk by itself? Perplexity's whole answers have an empty ``delta`` beside their ``message``."""
    try:
        value = read_json(line)
    except ValueError:
        return False
    if not isinstance(value, dict):
        return False
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(choice, dict) and "message" in choice:
        return False
    return value.get("object") == "chat.completion.chunk" or (isinstance(choice, dict) and "delta" in choice)


class Parsed(NamedTuple):
    """A body as JSON, or as text if it is not JSON. ``problem``: why JSON was refused, and is given as text."""

    body: JSON
    is_json: bool
    problem: str | None = None


def parse_body(content: bytes | bytearray, content_type: str = "", limit: int = DEFAULT_LIMIT) -> Parsed:
    """The JSON of a body, else its text. Bytes that are not text become U+FFFD. ``limit``: see ``reading.allowance``.

    The JSON may stand in the frame of an event stream, as the errors of some servers do.
    """
    problem = None
    try:
        return Parsed(read_json(content, limit), is_json=True)
    except TooMuch:
        problem = f"its JSON {TOO_MUCH}"
    except TooDeep:
        problem = f"its JSON {TOO_DEEP}"
    except ValueError:
        value = _framed(content, limit)
        if value is not None:
            return Parsed(value, is_json=True)
    charset = content_type.lower().partition("charset=")[2].partition(";")[0].strip(" \"'")
    return Parsed(read_text(content, charset), is_json=False, problem=problem)


def _framed(content: bytes | bytearray, limit: int) -> JSON:
    """The first JSON object among events, or JSON that only the end of a stream follows; else None."""
    if re.match(_FRAMED, content):
        return _first_object(content, limit)
    end = _without_end(content)
    if not 0 < end < len(content):
        return None
    try:
        value: JSON = read_json(content[:end], limit)
    except ValueError:
        return None
    return value


def _first_object(content: bytes | bytearray, limit: int) -> JSON:
    decoder = SSEDecoder()
    steps = (bytes(content[start : start + _FRAME_STEP]) for start in range(0, len(content), _FRAME_STEP))
    try:
        for event, data in chain(chain.from_iterable(map(decoder.feed, steps)), decoder.end()):
            try:
                value: JSON = read_json(data, limit)
            except ValueError:
                if event == "error" and data.strip():
                    return {"error": read_text(data)}
            else:
                if isinstance(value, dict):
                    return value
    except LineTooLong:
        pass
    return None


def _without_end(content: bytes | bytearray) -> int:
    """Where a body ends without the comments, blank lines and ``data: [DONE]`` that a stream may end with."""
    end = len(content)
    for line in reversed(bytes(content[-_TAIL:]).splitlines(keepends=True)):
        said = line.strip()
        if said and not said.startswith(b":"):
            said = re.sub(_DONE, b"", said)
            if said:
                return end - len(line) + line.index(said) + len(said)
        end -= len(line)
    return end
