"""JSON written in short steps: ``json.dumps`` holds up all other threads until it is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring, encode_basestring_ascii

from airflow_chat_provider.core.types import JSON

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
