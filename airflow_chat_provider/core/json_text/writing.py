"""Values of JSON made safe for XCom, and written in short steps.

``json.dumps`` holds up all other threads until it is done.

The metadata database refuses NUL, lone surrogates, NaN and integers over 64 bits, and it does so after the answer was
paid for. Airflow's readers turn dicts with Airflow's own keys into objects. ``sanitize`` replaces each of these by text
that shows the original.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

from airflow_chat_provider.core.types import JSON, JSONObject

STEP = 1 << 18
"""Characters of a text that are looked at in one step."""
_FEW, _SHORT = 5_000, 100_000  # values, and characters of them together, that take a few milliseconds


def small(value: JSON) -> bool:
    """Is ``value`` small enough to be walked through and written in one step on an event loop?"""
    values, size, stack = 0, 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            values += len(item)
            size += sum(map(len, item)) if values <= _FEW else 0
            stack.extend(item.values() if values <= _FEW else ())
        elif isinstance(item, list):
            values += len(item)
            stack.extend(item if values <= _FEW else ())
        elif isinstance(item, str):
            size += len(item)
        if values > _FEW or size > _SHORT:
            return False
    return True


def write_json(value: JSON, *, ascii_only: bool = True) -> str:
    """The compact JSON of plain data. Raises RecursionError, and ValueError for an integer with too many digits."""
    if small(value):
        return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))
    parts: list[str] = []
    _write(value, encode_basestring_ascii if ascii_only else encode_basestring, parts.append)
    return "".join(parts)


def _write(value: JSON, quote: Callable[[str], str], put: Callable[[str], object]) -> None:
    if isinstance(value, str):
        _write_text(value, quote, put)
    elif isinstance(value, dict):
        opening = "{"
        for key, item in value.items():
            put(opening)
            _write_text(key, quote, put)
            put(":")
            _write(item, quote, put)
            opening = ","
        put("{}" if opening == "{" else "}")
    elif isinstance(value, list):
        opening = "["
        for item in value:
            put(opening)
            _write(item, quote, put)
            opening = ","
        put("[]" if opening == "[" else "]")
    elif value is None or isinstance(value, bool):
        put({None: "null", True: "true", False: "false"}[value])
    else:
        put(json.dumps(value))


def _write_text(text: str, quote: Callable[[str], str], put: Callable[[str], object]) -> None:
    if len(text) <= STEP:
        put(quote(text))
        return
    put('"')
    for start in range(0, len(text), STEP):
        put(quote(text[start : start + STEP])[1:-1])
    put('"')


_RESERVED = frozenset({"__classname__", "__version__", "__data__", "__id__", "__type", "__var", "__cls"})
_BAD_TEXT = re.compile("[\x00\ud800-\udfff]")
_LIMIT = 2**63
_DEPTH = 60  # Airflow's serializer and the API server's validator recurse; they give up somewhere above this


def sanitize(value: JSON) -> tuple[Any, list[str]]:
    """``value`` in a form that XCom can store, and what was changed (``"NUL"``, ``"NaN"``, ...), each kind once.

    Returns the same object if nothing had to change, so that a large answer is not held twice.
    """
    changed: dict[str, None] = {}
    return _clean([value], changed, -1)[0], list(changed)


def _clean(holder: Any, changed: dict[str, None], depth: int) -> Any:
    """A list or a dict with clean items. Nearly all items are clean already, and need no call."""
    clean = holder
    if isinstance(holder, dict):
        names = "".join(holder)
        if not (_RESERVED.isdisjoint(holder) and names.isascii() and "\x00" not in names):
            clean = _renamed(holder, changed)
    for key, item in list(clean.items()) if isinstance(clean, dict) else enumerate(clean):
        if isinstance(item, str):
            new: JSON = item if item.isascii() and "\x00" not in item else _text(item, changed)
        elif isinstance(item, dict | list):
            new = _clean(item, changed, depth + 1) if depth + 1 < _DEPTH else _json(item, changed)
        elif isinstance(item, int | float):
            new = item if -_LIMIT <= item < _LIMIT else _number(item, changed)
        else:
            continue
        if new is not item:
            clean = clean.copy() if clean is holder else clean
            clean[key] = new
    return clean


def _renamed(value: JSONObject, changed: dict[str, None]) -> JSONObject:
    """An object with clean keys; the same object if they are clean already."""
    clean: JSONObject = {}
    for key, item in value.items():
        name = _text(key, changed)
        if key in _RESERVED:
            changed[f"the key {key!r} (kept as {'_' + key!r})"] = None
            name = "_" + key
        while name != key and (name in value or name in clean):
            name = "_" + name
        clean[name] = item
    return clean if clean.keys() != value.keys() else value


def _number(value: int | float, changed: dict[str, None]) -> JSON:  # noqa: PYI041 - mypy tells the two apart
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        changed["NaN or infinity (kept as text)"] = None
        return str(value)
    changed["an integer over 64 bits (kept as text)"] = None
    try:
        return str(value)
    except ValueError:  # Python refuses to write out more than 4,300 digits
        return hex(value)


def _json(value: JSON, changed: dict[str, None]) -> str:
    changed["nesting over 60 levels (kept as JSON text)"] = None
    try:
        return _text(write_json(value, ascii_only=False), changed)
    except (ValueError, RecursionError):  # a number too long, or nested too deep even for that
        return "..."


def _is_good(text: str) -> bool:
    if text.isascii():
        return "\x00" not in text
    return not any(_BAD_TEXT.search(text, start, start + STEP) for start in range(0, len(text), STEP))


def _text(value: str, changed: dict[str, None]) -> str:
    if _is_good(value):
        return value
    changed["NUL or half a surrogate pair (replaced by U+FFFD)"] = None
    return "".join(_BAD_TEXT.sub("\ufffd", value[start : start + STEP]) for start in range(0, len(value), STEP))
