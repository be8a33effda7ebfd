"""What a server sent, made safe for XCom.

The metadata database refuses NUL, lone surrogates, NaN and integers over 64 bits, after the bill was paid; Airflow's
readers turn dicts with its own keys into objects. Each is replaced by text that shows what was there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from airflow_chat_provider.core.json_text.writing import STEP, write_json
from airflow_chat_provider.core.types import JSON, JSONObject

_RESERVED = frozenset({"__classname__", "__version__", "__data__", "__id__", "__type", "__var", "__cls"})
_BAD_TEXT = re.compile("[\x00\ud800-\udfff]")
_LIMIT = 2**63
_DEPTH = 60  # Airflow's serializer and the API server's validator recurse; they give up somewhere above this


def sanitize(value: JSON) -> tuple[Any, list[str]]:
    """``value`` as XCom can keep it, and what was changed (``"NUL"``, ``"NaN"``, ...), once each.

    The same object where nothing had to be changed: of a large answer there should not be two.
    """
    if _is_clean(value):
        return value, []
    changed: dict[str, None] = {}
    return _clean(value, changed, 0), list(changed)


def _is_clean(value: JSON) -> bool:
    """Can XCom keep it as it is, as nearly every answer? Told in one loop, without a call for each value."""
    stack: list[tuple[Iterable[JSON], int]] = [([value], 0)]
    while stack:
        values, depth = stack.pop()
        for item in values:
            if isinstance(item, str):
                is_clean = (item.isascii() and "\x00" not in item) or not _is_bad(item)
            elif isinstance(item, dict):
                is_clean = depth < _DEPTH and _RESERVED.isdisjoint(item) and not _is_bad("".join(item))
                stack.append((item.values(), depth + 1))
            elif isinstance(item, list):
                is_clean = depth < _DEPTH
                stack.append((item, depth + 1))
            else:
                is_clean = _fits(item) if isinstance(item, int | float) else True
            if not is_clean:
                return False
    return True


def _fits(value: float) -> bool:
    """Can the database keep the number?"""
    return math.isfinite(value) if type(value) is float else -_LIMIT <= value < _LIMIT


def _clean(value: JSON, changed: dict[str, None], depth: int) -> JSON:
    if isinstance(value, str):
        return _text(value, changed)
    if isinstance(value, dict | list) and depth >= _DEPTH:
        changed["nesting over 60 levels (kept as JSON text)"] = None
        return _text(_json(value), changed)
    if isinstance(value, dict):
        return _object(value, changed, depth)
    if isinstance(value, list):
        return _list(value, changed, depth)
    if not isinstance(value, int | float) or _fits(value):
        return value
    if isinstance(value, float):
        changed["NaN or infinity (kept as text)"] = None
        return str(value)
    changed["an integer over 64 bits (kept as text)"] = None
    return _digits(value)


def _list(value: list[Any], changed: dict[str, None], depth: int) -> list[Any]:
    clean = value
    for index, item in enumerate(value):
        new = _clean(item, changed, depth + 1)
        if new is not item:
            clean = [*value] if clean is value else clean
            clean[index] = new
    return clean


def _object(value: JSONObject, changed: dict[str, None], depth: int) -> JSONObject:
    names = {key: _key(key, changed) for key in value}
    items = {key: _clean(item, changed, depth + 1) for key, item in value.items()}
    if all(names[key] is key and items[key] is item for key, item in value.items()):
        return value
    clean: dict[str, Any] = {}
    for key, item in items.items():
        name = names[key]
        while name != key and (name in value or name in clean):
            name = "_" + name
        clean[name] = item
    return clean


def _json(value: JSON) -> str:
    try:
        return write_json(value, ascii_only=False)
    except (ValueError, RecursionError):  # a number too long, or nested too deep even for that
        return "..."


def _is_bad(text: str) -> bool:
    if text.isascii():
        return "\x00" in text
    return any(_BAD_TEXT.search(text, start, start + STEP) for start in range(0, len(text), STEP))


def _text(value: str, changed: dict[str, None]) -> str:
    if not _is_bad(value):
        return value
    changed["NUL or half a surrogate pair (replaced by U+FFFD)"] = None
    return "".join(_BAD_TEXT.sub("\ufffd", value[start : start + STEP]) for start in range(0, len(value), STEP))


def _key(key: str, changed: dict[str, None]) -> str:
    if key in _RESERVED:
        changed[f"the key {key!r} (kept as {'_' + key!r})"] = None
        return "_" + key
    return _text(key, changed)


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to write out more than 4,300 digits
        return hex(value)
