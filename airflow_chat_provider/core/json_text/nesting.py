"""How deep JSON may be nested, and what is wrong with a text that is not JSON: the same on every Python.

Python's own limit lies between some hundred levels and many thousand. It depends on the version and on the depth of the
caller's stack. So the brackets of a text are counted before it is parsed.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

DEPTH = 200
"""Levels: deeper than any request that a server takes, shallow enough for Python's own recursion."""
LEVELS = f"more than {DEPTH} levels"
_OTHERS = bytes(set(range(256)) - set(b'"[]{}'))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_STEPS = {ord("["): 1, ord("]"): -1}
_NOT_SPACE = re.compile(r"[^ \t\n\r]")


class TooDeep(ValueError):
    """The text is nested more than ``DEPTH`` deep."""


def too_deep(text: str | bytes | bytearray) -> bool:
    """Is a JSON text nested more than ``DEPTH`` levels deep?

    The time is linear in its size: 2 µs for a common answer.
    """
    if isinstance(text, str):
        if text.count("[") + text.count("{") <= DEPTH:
            return False
        text = text.encode("utf-8", "surrogatepass")
    elif text.count(b"[") + text.count(b"{") <= DEPTH:
        return False
    brackets = rest = _brackets(text)
    room = DEPTH
    while rest.count(b"[") > room:
        shorter = rest.replace(b"[]", b"")  # without the innermost level: mostly all that is needed, and quick
        if 4 * len(shorter) > 3 * len(rest):
            return max(accumulate(map(_STEPS.__getitem__, brackets))) > DEPTH
        rest, room = shorter, room - 1
    return False


def _brackets(text: bytes | bytearray) -> bytes:
    """The brackets outside of strings, with ``{}`` written as ``[]``."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes in a row are an empty string, or the end of one and the begin of the next: both may go.
    marks = bytes(text).translate(_ONE_KIND, _OTHERS).replace(b'""', b"")
    return b"".join(marks.split(b'"')[::2])


def loads(text: str | bytes | bytearray, **options: Any) -> Any:
    """Like ``json.loads``, but raises TooDeep before the parser reaches its own limit."""
    if too_deep(text):
        raise TooDeep
    try:
        return json.loads(text, **options)
    except RecursionError:  # the caller stands so deep that little is left
        raise TooDeep from None


def fault(error: json.JSONDecodeError) -> tuple[str, int, int]:
    """The message, line and column of a syntax error.

    Python 3.13 has a message and a position of its own for a trailing comma; here they are those of the older versions.
    """
    if not error.msg.startswith("Illegal trailing comma"):
        return error.msg, error.lineno, error.colno
    found = _NOT_SPACE.search(error.doc, error.pos + 1)
    at = found.start() if found else len(error.doc)
    words = "Expecting value" if error.doc[at : at + 1] == "]" else "Expecting property name enclosed in double quotes"
    moved = json.JSONDecodeError(words, error.doc, at)
    return moved.msg, moved.lineno, moved.colno


def is_panic(error: BaseException) -> bool:
    """Is this a panic of a library written in Rust?

    rpds panics if Python's stack is full. A panic is not an ``Exception``.
    """
    return type(error).__name__ == "PanicException"
