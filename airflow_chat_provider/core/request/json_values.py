"""JSON's own types: making them of what a task was given, and bytes of them."""

from __future__ import annotations

import json
import math
from collections import UserString
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.json_text.nesting import DEPTH
from airflow_chat_provider.core.paths import step
from airflow_chat_provider.core.request.python_values import NotJson, as_json, checked, number
from airflow_chat_provider.core.request.validator import UNKNOWN

_BITS = 14_000  # Python refuses to write out more than 4,300 digits


def plain(value: Any, path: str = "$", depth: int = 0, *, exact: bool = False) -> Any:
    """``value`` in JSON's own types: any mapping a dict, any sequence a list; InvalidRequest names what has no form.

    The same object where nothing had to change. ``UNKNOWN`` passes. ``exact``: so does a Decimal, which ``typed`` makes
    a text or a number of, whichever is due.
    """
    if value is None or value is UNKNOWN or type(value) in (str, bool):
        return value
    if depth > DEPTH:
        raise InvalidRequest(f"{path}: is nested more than {DEPTH} deep", path=path, keyword="json")
    if isinstance(value, Mapping):
        return _plain_object(value, path, depth, exact=exact)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview | UserString):
        new = [plain(item, f"{path}[{index}]", depth + 1, exact=exact) for index, item in enumerate(value)]
        return value if type(value) is list and all(map(_same, new, value)) else new
    return _plain_scalar(value, path, depth, exact=exact)


def opened(value: Any) -> Any:
    """An instance of a model's or a dataclass as a dict, an iterator as a list, as far as one looks at it."""
    if value is None or value is UNKNOWN or isinstance(value, Mapping | Sequence | int | float):
        return value
    try:
        return as_json(value)
    except NotJson:
        return value  # what it is wanted for says what it should be


def _plain_object(value: Mapping[Any, Any], path: str, depth: int, *, exact: bool) -> dict[str, Any]:
    new = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidRequest(
                f"{path}: has a key that is a {type(key).__name__}; JSON keys are text",
                path=path,
                keyword="json",
            )
        scalar = item is None or type(item) is str
        new[key] = item if scalar else plain(item, path + step(key), depth + 1, exact=exact)
    return value if type(value) is dict and all(map(_same, new.values(), value.values())) else new


def _same(a: Any, b: Any) -> bool:
    return a is b


def _plain_scalar(value: Any, path: str, depth: int, *, exact: bool) -> Any:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        if value.bit_length() > _BITS:
            raise InvalidRequest(f"{path}: is a number that is too long", path=path, keyword="json")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest(f"{path}: is {value}, which JSON cannot hold", path=path, keyword="json")
        return value if type(value) is float else float(value)
    try:
        if isinstance(value, Decimal):
            return checked(value) if exact else number(checked(value))
        return plain(as_json(value), path, depth + 1, exact=exact)
    except NotJson as error:
        raise InvalidRequest(f"{path}: {error}", path=path, keyword="json") from None


def encode(request: dict[str, Any]) -> bytes:
    """The request's bytes: UTF-8, nothing escaped that need not be."""
    try:
        return json.dumps(request, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        path = _surrogate(request, "$")
        raise InvalidRequest(
            f"{path}: holds half of a surrogate pair, which is no text", path=path, keyword="json"
        ) from None


def _surrogate(value: Any, path: str) -> str | None:
    if isinstance(value, dict):
        bad = (path if _surrogate(key, path) else _surrogate(item, path + step(key)) for key, item in value.items())
        return next(filter(None, bad), None)
    if isinstance(value, list):
        return next(filter(None, (_surrogate(item, f"{path}[{i}]") for i, item in enumerate(value))), None)
    lone = isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value)
    return path if lone else None
