"""Python values converted to JSON's own types, and to bytes.

XCom, Jinja and authors of DAGs have many more types. They are recognised by what they can do, not by their class, so
that pandas, numpy and pendulum need not be imported.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import UserString
from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from decimal import Decimal
from enum import Enum
from itertools import islice
from numbers import Integral, Real
from typing import Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.json_text.nesting import DEPTH
from airflow_chat_provider.core.paths import error_text, step
from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.core.spelling import with_article

_BITS = 14_000  # of an integer: Python refuses to write out more than 4,300 digits
_MANY = 1_000_000  # items of an iterator, which may have no end
_TIMES: dict[str, Any] = {"M": str, "m": "timedelta64[us]"}  # numpy's kinds, and what to have in their place
_DIGITS = 4_000  # of a decimal: fewer than Python refuses to write out
_TEXT = {str}
_A_NUMBER = "give a finite number, or leave the key out"
_TOO_LONG = ("has too many digits", "round the number, or send it as text")


class NotJson(ValueError):
    """Why a value cannot stand in JSON. Has two texts: a problem that can follow the path, and a remedy."""


def _not_json(path: str, problem: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(error_text(path, problem, remedy), path=path, keyword="json")


def plain(value: object, *, exact: bool = False) -> Any:
    """``value`` in JSON's own types: mappings become dicts, sequences lists. Raises InvalidRequest.

    Returns the same object if nothing had to change. ``UNKNOWN`` passes. With ``exact`` a Decimal passes, too:
    ``typed`` turns it into text or a number, whichever the schema wants.
    """
    return value if _is_plain(value) else _plain(value, "$", 0, exact=exact)


def _is_plain(value: Any) -> bool:
    """Does it hold only JSON's own types already, as nearly every request does?

    One loop, without a call for each leaf.
    """
    stack = [([value], -1)]
    while stack:
        holder, depth = stack.pop()
        for item in holder:
            kind = type(item)
            if kind is str or item is None or kind is bool or item is UNKNOWN:
                continue
            if kind is dict or kind is list:
                if depth >= DEPTH or (kind is dict and not {*map(type, item)} <= _TEXT):
                    return False
                stack.append((item.values() if kind is dict else item, depth + 1))
            elif not ((kind is int and item.bit_length() <= _BITS) or (kind is float and math.isfinite(item))):
                return False
    return True


def _plain(value: object, path: str, depth: int, *, exact: bool) -> Any:
    if value is None or value is UNKNOWN or type(value) in (str, bool):
        return value
    if depth > DEPTH:
        raise _not_json(path, f"is nested more than {DEPTH} levels deep", "flatten the value")
    if isinstance(value, Mapping):
        return _plain_object(value, path, depth, exact=exact)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview | UserString):
        return [_plain(item, f"{path}[{index}]", depth + 1, exact=exact) for index, item in enumerate(value)]
    return _plain_scalar(value, path, depth, exact=exact)


def opened(value: object) -> Any:
    """A model or dataclass as a dict, an iterator as a list; only the outermost value."""
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
            problem = f"has a key that is {with_article(type(key).__name__)}, and JSON keys are text"
            raise _not_json(path, problem, "convert the key to text")
        scalar = item is None or type(item) is str
        new[key] = item if scalar else _plain(item, path + step(key), depth + 1, exact=exact)
    return new


def _plain_scalar(value: object, path: str, depth: int, *, exact: bool) -> Any:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        if value.bit_length() > _BITS:
            raise _not_json(path, *_TOO_LONG)
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _not_json(path, f"is {value}, which JSON cannot hold", _A_NUMBER)
        return value if type(value) is float else float(value)
    try:
        if isinstance(value, Decimal):
            return checked(value) if exact else number(checked(value))
        return _plain(as_json(value), path, depth + 1, exact=exact)
    except NotJson as error:
        raise _not_json(path, *error.args) from None


def encode(request: dict[str, Any]) -> bytes:
    """The request in UTF-8, with no escapes that JSON does not need.

    Raises InvalidRequest for half of a surrogate pair.
    """
    try:
        return json.dumps(request, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        path = _surrogate(request, "$")
        problem = "holds half of a surrogate pair, which is not a character"
        raise _not_json(str(path), problem, "remove the broken character") from None


def _surrogate(value: object, path: str) -> str | None:
    if isinstance(value, dict):
        bad = (path if _surrogate(key, path) else _surrogate(item, path + step(key)) for key, item in value.items())
        return next(filter(None, bad), None)
    if isinstance(value, list):
        return next(filter(None, (_surrogate(item, f"{path}[{i}]") for i, item in enumerate(value))), None)
    lone = isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value)
    return path if lone else None


def as_json(value: object) -> Any:
    """A value converted to a type that JSON has, or to a Decimal; what it holds stays as it is. Raises NotJson."""
    for converted in _CONVERSIONS:
        try:
            found = converted(value)
        except NotJson:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a class of the user's raises; its words may quote data
            problem = f"is {with_article(type(value).__name__)}, and reading it failed with {type(error).__name__}"
            raise NotJson(problem, "convert it to text, a number, a list or a dict") from None
        if found is not value:
            return found
    remedy = "end the template with '| string' to send the value as text"
    if isinstance(value, set | frozenset):
        remedy = "convert the value to a list"
    elif isinstance(value, bytes | bytearray | memoryview):
        remedy = "decode the value to text"
    elif isinstance(value, type):
        remedy = "give the class as response_schema, or write its JSON Schema here"
    elif callable(value):
        remedy = "call the function (under @task.chat_completion, when the task runs), or describe it as a tool"
    raise NotJson(f"is {with_article(type(value).__name__)}, which JSON cannot hold", remedy)


def checked(value: Decimal) -> Decimal:
    """The decimal, if it can be written out and read as a number. Raises NotJson."""
    if not value.is_finite():
        raise NotJson(f"is {value}, which JSON cannot hold", _A_NUMBER)
    exponent = int(value.as_tuple().exponent)
    if abs(value.adjusted()) > _DIGITS or abs(exponent) > _DIGITS or not (exponent >= 0 or math.isfinite(float(value))):
        raise NotJson(*_TOO_LONG)
    return value


def number(value: Decimal, *, whole: bool = False) -> int | float:
    """A decimal as a number: an int if it has no fraction, or if ``whole`` asks for one."""
    integral = value == value.to_integral_value()
    as_float = float(value)
    if integral and (whole or int(value.as_tuple().exponent) >= 0 or as_float != value):
        return int(value)
    return as_float


def _text(value: object) -> Any:
    if isinstance(value, UserString):
        return str(value)
    if callable(getattr(type(value), "__fspath__", None)):
        path = getattr(value, "__fspath__")()  # noqa: B009 - mypy knows no protocol for it here
        return path if isinstance(path, str) else value
    return str(value) if type(value).__name__ == "UUID" and hasattr(value, "hex") else value


def _moment(value: Any) -> Any:
    """Dates, times, pandas' Timestamps and durations in ISO 8601."""
    if isinstance(value, type):
        return value
    if callable(getattr(value, "isoformat", None)):
        if value != value:  # noqa: PLR0124 - pandas' NaT
            raise NotJson(f"is {value}, which is not a time", "give a time, or leave the key out")
        return str(value.isoformat())
    return _duration(value) if callable(getattr(value, "total_seconds", None)) else value


def _duration(value: Any) -> str:
    micros = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    seconds, micros = divmod(micros, 1_000_000)
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3_600)
    minutes, seconds = divmod(seconds, 60)
    fraction = f".{micros:06}".rstrip("0") if micros else ""
    time = "".join(
        f"{count}{unit}"
        for count, unit in ((hours, "H"), (minutes, "M"), (f"{seconds}{fraction}", "S"))
        if count not in (0, "0")
    )
    return f"{sign}P" + (f"{days}D" if days else "") + (f"T{time}" if time else "" if days else "T0S")


def _array(value: Any) -> Any:
    """numpy's scalars and arrays, pandas' series."""
    if isinstance(value, type | memoryview) or not callable(getattr(value, "tolist", None)):
        return value
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in _TIMES:  # nanoseconds are integers to Python
        value = value.astype(_TIMES[kind])
    return value.tolist()


def _as_number(value: object) -> Any:
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _items(value: Any) -> Any:
    if not isinstance(value, Iterator | ItemsView | KeysView | ValuesView):
        return value
    items = list(islice(value, _MANY + 1))
    if len(items) > _MANY:
        problem = f"is {with_article(type(value).__name__)} of more than {_MANY:,} items"
        raise NotJson(problem, "give a list, or an iterator that ends")
    return items


def _model(value: Any) -> Any:
    """An instance of a Pydantic model (without its None values), a dataclass or an attrs class as a dict."""
    if isinstance(value, type):
        return value
    if callable(getattr(value, "model_dump", None)):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    attributes = getattr(type(value), "__attrs_attrs__", None)
    return {field.name: getattr(value, field.name) for field in attributes} if attributes is not None else value


def _member(value: object) -> Any:
    return value.value if isinstance(value, Enum) else value


_CONVERSIONS = (_member, _model, _text, _moment, _array, _items, _as_number)
