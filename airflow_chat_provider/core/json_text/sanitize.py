"""What a server sent, made safe for XCom.

The metadata database refuses NUL, lone surrogates, NaN and integers over 64 bits, and it does so after the answer was
paid for. Airflow's readers turn dicts with Airflow's own keys into objects. Each of these is replaced by text that
shows the original.
"""

from __future__ import annotations

import math
import re
from typing import Any

from airflow_chat_provider.core.json_text.writing import STEP, write_json
from airflow_chat_provider.core.types import JSON, JSONObject

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
