"""What the body of a 2xx is, by its first bytes: servers call a stream JSON, and JSON a stream."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

from airflow_chat_provider.core.json_text.reading import read_json

_BOM = b"\xef\xbb\xbf"
# No repetition is without a limit: see ``reading``.
_BLANK = re.compile(rb"(?:[ \t\r\n]|:[^\r\n]{0,256}[\r\n]){1,65536}+")  # with the comments that are short
_LINE_BREAK = re.compile(rb"[\r\n]")
_WORDS = (b"data", b"event", b"error", b"id", b"retry")
_FIELD = re.compile(rb"(?:data|event|error|id|retry)(?::|[\r\n])")
_LONGEST_FIELD = 6
_LONGEST_CHUNK = 1 << 14  # bytes of the first line, in which a stream of JSON lines shows what it is


class Kind(Enum):
    """What the bytes are."""

    STREAM = "stream"
    DOCUMENT = "document"


class Opening:
    """``look`` at the first bytes, each time that there are more of them, until it tells their kind.

    Blank lines and comments, which keep a connection alive, come before either kind; ``at`` is where they end.
    ``declared``: the Content-Type says that it is a stream.
    """

    def __init__(self, *, declared: bool) -> None:
        self.declared = declared
        self.at = 0
        self.comments = False
        """Does a comment come before ``at``?"""
        self._looked = 0  # where the line that begins there was looked at last

    def look(self, data: bytearray, *, over: bool = False) -> Kind | None:
        """The kind; None where more has to come. ``over``: no more comes, and None is for nothing but blanks."""
        if self.at == 0 and data[:1] == _BOM[:1] and data[:3] == _BOM[: len(data)]:
            if len(data) < len(_BOM):
                return None
            self.at = len(_BOM)
        while True:
            while found := _BLANK.match(data, self.at):
                self.comments = self.comments or data.find(b":", self.at, found.end()) >= 0
                self.at = found.end()
            if self.at >= len(data):
                return None
            if data[self.at] != 0x3A:
                return self._kind(data, over=over)
            end = _LINE_BREAK.search(data, max(self.at, self._looked))  # of a long comment
            if end is None:
                self._looked = len(data)
                return None
            self.at, self.comments = end.start(), True

    def _kind(self, data: bytearray, *, over: bool) -> Kind | None:
        if data[self.at] == 0x7B:
            return self._of_object(data, over=over)
        if _FIELD.match(data, self.at):
            return Kind.STREAM
        begun = bytes(data[self.at : self.at + _LONGEST_FIELD])
        if not over and any(word.startswith(begun) for word in _WORDS):
            return None
        # An unknown field is none, says the specification; a page or another JSON is what it is.
        return Kind.STREAM if self.declared and data[self.at] not in b'<["' else Kind.DOCUMENT

    def _of_object(self, data: bytearray, *, over: bool) -> Kind | None:
        """An object: the whole answer, or the first of many lines, each of which is a chunk."""
        start, self._looked = max(self.at, self._looked), len(data)
        ends = [end for end in (data.find(b"\n", start), data.find(b"\r", start)) if end >= 0]
        end = min(ends) if ends else len(data) if over else None
        if end is None and len(data) - self.at <= _LONGEST_CHUNK:
            return None
        if end is None or end - self.at > _LONGEST_CHUNK:
            return Kind.DOCUMENT
        if data.find(b'"delta"', self.at, end) < 0 and data.find(b"chat.completion.chunk", self.at, end) < 0:
            return Kind.DOCUMENT
        return Kind.STREAM if _is_chunk(bytes(data[self.at : end])) else Kind.DOCUMENT


def _is_chunk(line: bytes) -> bool:
    """Is it a chunk by itself? Perplexity's whole answers have an empty ``delta`` beside their ``message``."""
    try:
        value: Any = read_json(line)
    except ValueError:
        return False
    if not isinstance(value, dict):
        return False
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(choice, dict) and "message" in choice:
        return False
    return value.get("object") == "chat.completion.chunk" or (isinstance(choice, dict) and "delta" in choice)
