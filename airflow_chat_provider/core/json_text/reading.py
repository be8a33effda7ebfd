"""JSON and text that a server sent, read within bounds: of memory, and of the time that a single step takes.

``json.loads`` reads a text in one step, and no other thread of the process runs meanwhile: 10 MB of ``[],`` take 1.7 s
and half a gigabyte. So this module reads a long text piece by piece, and stops if it holds more values than a text of
its size is likely to hold.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

from airflow_chat_provider.core.json_text.nesting import DEPTH, TooDeep, too_deep
from airflow_chat_provider.core.types import JSON

LARGE = 1 << 18
"""Bytes that ``json`` may read in one step: that takes 20 ms, whatever they are."""
_STEP = 1 << 18  # bytes or characters of a long text that are looked at in one step
_WIDEST = 1 << 23  # characters of a text that is not ASCII: each takes up to four bytes, and all are moved in one step
_DIGITS = 64  # of an integer: the time to read or write one grows with the square of its length
_BOM = b"\xef\xbb\xbf"

DEFAULT_LIMIT = 64 << 20  # of max_response_bytes
OBJECT, LIST, SCALAR = 4, 4, 1  # the weights of values, in units of 60 bytes at most
# Any text may hold _FREE units, and one more for each _BYTES of its bytes, up to one for each _LIMIT_BYTES of the
# connection's limit. With 64 MB that is half a million lists: Python's garbage collector looks at them in one step.
_FREE, _BYTES, _LIMIT_BYTES = 100_000, 3, 32

# Every repetition has a limit: otherwise a single match could be a step of any length.
_SPACE = re.compile(rb"[ \t\n\r]{1,65536}")
_SHORT = re.compile(rb'"([^"\\\x00-\x1f]{0,512})"')
_PART = re.compile(
    rb'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?:[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    rb"|[0-9a-fA-F]{4})))*+"
)
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]{0,1000000})(\.[0-9]{1,1000000})?([eE][-+]?[0-9]{1,1000000})?")
_STRANGE = re.compile(rb"[\x80-\xff]")
_WORD = re.compile(rb"true|false|null|NaN|-?Infinity")
_WORDS = {b"true": True, b"false": False, b"null": None}
_WINDOW = 1 << 16  # bytes in which json itself looks for the whole of an object or a list


class TooMuch(ValueError):
    """The text holds more values than a text of its size is likely to hold, or a single string that is too long."""


def allowance(size: int, limit: int = DEFAULT_LIMIT) -> int:
    """The weight that the values in a JSON text of ``size`` bytes may have. ``limit``: ``max_response_bytes``.

    The densest answers that are known, with log-probabilities for each token, have three bytes or more for each unit.
    """
    return min(_FREE + size // _BYTES, max(_FREE, limit // _LIMIT_BYTES))


def weight(value: JSON) -> int:
    """What a parsed value counts against an allowance, in units of 60 bytes."""
    return _measured(value)[0]


def _measured(value: JSON) -> tuple[int, int]:
    """A parsed value's weight, and its number of levels."""
    total, levels, level = 0, 0, [value]
    while level:
        below: list[Any] = []
        inner = 0
        for item in level:
            if isinstance(item, dict):
                total += OBJECT
                inner = 1
                below.extend(item.values())
            elif isinstance(item, list):
                total += LIST
                inner = 1
                below.extend(item)
            else:
                total += SCALAR
        levels += inner
        level = below
    return total, levels


def read_json(data: bytes | bytearray, limit: int = DEFAULT_LIMIT) -> Any:
    """The value of a JSON text in UTF-8. Raises ValueError, of which TooMuch and TooDeep are kinds.

    Bytes that are not UTF-8 become U+FFFD. Integers of more than 64 digits stay text.
    """
    start = len(_BOM) if data.startswith(_BOM) else 0
    if len(data) <= LARGE:
        if data.count(b"[") + data.count(b"{") > DEPTH and too_deep(data):
            raise TooDeep
        text = data[start:].decode("utf-8", "replace")
        try:
            if text[:1] == "{":  # as nearly always: without the decoder's two searches for white space
                value, end = _scan_once(text, 0)
                if end == len(text) or not text[end:].strip(" \t\n\r"):
                    return value
            return _DECODER.decode(text)
        except StopIteration:
            raise ValueError("the text ends too early, or holds what it may not") from None
        except RecursionError:  # the caller stands so deep that little is left
            raise TooDeep from None
    return _Reader(data, start, allowance(len(data), limit)).document()


def read_text(data: bytes | bytearray, charset: str = "") -> str:
    """Bytes as text in UTF-8, UTF-16 or Latin-1.

    Any other charset is read as UTF-8: its codec may be slow, or read files.

    A text that is not all ASCII is cut after 8 million characters.
    """
    name = charset.lower().replace("_", "-")
    if name.startswith("utf-16"):
        big = name == "utf-16be" or data[:2] == b"\xfe\xff"
        skip = 2 if data[:2] in (b"\xfe\xff", b"\xff\xfe") else 0
        return _decoded(data, skip, codecs.utf_16_be_decode if big else codecs.utf_16_le_decode)
    if name in ("latin-1", "latin1", "iso-8859-1", "iso8859-1"):
        return _decoded(data, 0, codecs.latin_1_decode)
    return _decoded(data, len(_BOM) if data[:3] == _BOM else 0, codecs.utf_8_decode)


def _decoded(data: bytes | bytearray, at: int, decode: Any) -> str:
    parts, size, ascii_only = [], 0, True
    while at < len(data):
        last = at + _STEP >= len(data)
        if decode is codecs.latin_1_decode:
            text, used = decode(data[at : at + _STEP], "replace")
        else:
            text, used = decode(data[at : at + _STEP], "replace", last)
        parts.append(text)
        at, size, ascii_only = at + used, size + len(text), ascii_only and text.isascii()
        if size > _WIDEST and not ascii_only:
            break
    return "".join(parts) if ascii_only else "".join(parts)[:_WIDEST]


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _DIGITS else digits


_scan_string: Any = json.decoder.scanstring  # type: ignore[attr-defined]  # typeshed lacks it
_DECODER = json.JSONDecoder(parse_int=_integer)
_scan_once: Any = _DECODER.scan_once  # type: ignore[attr-defined]  # typeshed lacks it


class _Window:
    """The next bytes of the text, for ``json`` to find a whole object or list in: that is ten times as fast."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data
        self._text = ""
        self._start = self._end = 0  # where in the data the text stands
        self._to_waste = 2 * len(data)  # bytes that may be looked at in vain, or the time would not be linear

    def value(self, at: int) -> tuple[Any, int] | None:
        """The value at a position in the data and its end; None if its end lies outside of the window."""
        found = self._scan(at) if self._start <= at < self._end else None
        if found is None:
            self._load(at)
            found = self._scan(at)
        return found

    def _load(self, at: int) -> None:
        """Move the window to ``at``.

        It ends before the first byte that is not ASCII, so that offsets in it are offsets in the data.
        """
        if self._to_waste <= 0:
            return
        strange = _STRANGE.search(self._data, at, at + _WINDOW)
        self._text = self._data[at : strange.start() if strange else at + _WINDOW].decode("ascii")
        self._start, self._end = at, at + len(self._text)

    def _scan(self, at: int) -> tuple[Any, int] | None:
        if self._to_waste <= 0:
            return None
        try:
            value, end = _scan_once(self._text, at - self._start)
        except (ValueError, StopIteration, RecursionError):
            self._to_waste -= self._end - at
            return None
        return value, end + self._start


class _Reader:
    """One JSON text, token by token."""

    def __init__(self, data: bytes | bytearray, start: int, room: int) -> None:
        self._data = data
        self._at = start
        self._room = room
        self._window = _Window(data)
        self._open: list[Any] = []  # the objects and lists that have not ended
        self._keys: dict[bytes, str] = {}

    def document(self) -> Any:
        value = self._value()
        while self._open:
            inner = self._open[-1]
            is_object = type(inner) is dict
            byte = self._next()
            if byte == (0x7D if is_object else 0x5D):
                self._at += 1
                self._open.pop()
                continue
            if inner:  # not the first: a comma is due
                if byte != 0x2C:
                    raise ValueError("a comma is missing")
                self._at += 1
            if is_object:
                key = self._key()
                inner[key] = self._value()
            else:
                inner.append(self._value())
        self._skip()
        if self._at < len(self._data):
            raise ValueError("more follows the value")
        return value

    def _value(self) -> Any:
        """The value that begins here. An object or a list is returned empty, and pushed to the open ones."""
        byte = self._next()
        if byte == 0x22:
            self._weigh(SCALAR)
            return self._text()
        if byte not in (0x7B, 0x5B):
            self._weigh(SCALAR)
            return self._scalar()
        whole = self._window.value(self._at)
        if whole is not None:
            value, self._at = whole
            units, levels = _measured(value)
            self._weigh(units)
            self._check_depth(levels)
            return value
        self._check_depth(1)
        value = {} if byte == 0x7B else []
        self._weigh(OBJECT if byte == 0x7B else LIST)
        self._at += 1
        self._open.append(value)
        return value

    def _check_depth(self, levels: int) -> None:
        if len(self._open) + levels > DEPTH:
            raise TooDeep

    def _weigh(self, units: int) -> None:
        self._room -= units
        if self._room < 0:
            raise TooMuch

    def _skip(self) -> None:
        while found := _SPACE.match(self._data, self._at):
            self._at = found.end()

    def _next(self) -> int:
        """The next byte that is not white space."""
        if self._at < len(self._data) and self._data[self._at] <= 0x20:
            self._skip()
        if self._at >= len(self._data):
            raise ValueError("the text ends too early")
        return self._data[self._at]

    def _key(self) -> str:
        self._next()
        found = _SHORT.match(self._data, self._at)
        if found is None:
            key = self._long()
        else:
            self._at = found.end()
            key = self._keys.get(found[1], "")
            if not key:
                key = self._keys[found[1]] = found[1].decode("utf-8", "replace")
        if self._next() != 0x3A:
            raise ValueError("a colon is missing")
        self._at += 1
        return key

    def _text(self) -> str:
        found = _SHORT.match(self._data, self._at)
        if found is None:
            return self._long()
        self._at = found.end()
        return found[1].decode("utf-8", "replace")

    def _long(self) -> str:
        """A string of any length, or one with escapes."""
        data, at = self._data, self._at + 1
        if data[self._at] != 0x22:
            raise ValueError("a text is missing")
        parts: list[str] = []
        size, ascii_only = 0, True
        while True:
            found = _PART.match(data, at, at + _STEP)
            end = self._cut(at, found.end() if found else at)
            part = data[at:end].decode("utf-8", "replace")
            if "\\" in part:
                part = _scan_string(f'{part}"', 0)[0]
            if parts and "\ud800" <= parts[-1][-1:] <= "\udbff" and "\udc00" <= part[:1] <= "\udfff":
                part = _scan_string(f'{json.dumps(parts[-1][-1] + part[0])[1:-1]}"', 0)[0] + part[1:]
                parts[-1] = parts[-1][:-1]
            parts.append(part)
            size, ascii_only = size + len(part), ascii_only and part.isascii()
            if size > _WIDEST and not ascii_only:
                raise TooMuch
            if data[end : end + 1] == b'"':
                self._at = end + 1
                return "".join(parts)
            if end == at:
                raise ValueError("a text does not end, or holds what it may not")
            at = end

    def _cut(self, start: int, end: int) -> int:
        """Where a part of a long string that matched up to ``end`` may be cut: never within a character."""
        data, back = self._data, end
        while end - start > 4 and end - back < 4 and back < len(data) and data[back] & 0xC0 == 0x80:
            back -= 1
        return back

    def _scalar(self) -> Any:
        found = _NUMBER.match(self._data, self._at)
        if found is not None:
            self._at = found.end()
            if found[1] or found[2]:
                return float(found[0])
            return _integer(found[0].decode())
        found = _WORD.match(self._data, self._at)
        if found is None:
            raise ValueError("no value begins here")
        self._at = found.end()
        word = bytes(found[0])
        return _WORDS[word] if word in _WORDS else float(word)
