"""Python's everyday values as JSON has them: what XCom, Jinja and a DAG's author have beside text and numbers.

Told by what they can do, not by their class: pandas, numpy and pendulum are not imported for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections import UserString
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from decimal import Decimal
from enum import Enum
from itertools import islice
from numbers import Integral, Real
from typing import Any

_MANY = 1_000_000  # items of an iterator, which may have no end
_TIMES: dict[str, Any] = {"M": str, "m": "timedelta64[us]"}  # numpy's kinds, and what to have in their place
_DIGITS = 4_000  # fewer than Python refuses to write out


class NotJson(ValueError):
    """Why a value cannot stand in JSON, in words that follow its path."""


def as_json(value: Any) -> Any:
    """A value that JSON does not know as one that it knows, or as a Decimal; its members are left as they are."""
    for converted in _CONVERSIONS:
        try:
            found = converted(value)
        except NotJson:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a class of the user's raises; its words may quote data
            raise NotJson(f"is a {type(value).__name__}, which cannot be read ({type(error).__name__})") from None
        if found is not value:
            return found
    name = type(value).__name__
    hint = "end the template with '| string' to send it as text"
    if isinstance(value, set | frozenset):
        hint = "list it"
    elif isinstance(value, bytes | bytearray | memoryview):
        hint = "decode it to text"
    raise NotJson(f"is a {name}, which JSON cannot hold; {hint}")


def checked(value: Decimal) -> Decimal:
    """A decimal that can be written out, and read as a number."""
    if not value.is_finite():
        raise NotJson(f"is {value}, which JSON cannot hold")
    exponent = int(value.as_tuple().exponent)
    if abs(value.adjusted()) > _DIGITS or abs(exponent) > _DIGITS or not (exponent >= 0 or math.isfinite(float(value))):
        raise NotJson("is a number that is too long")
    return value


def digits(value: Decimal) -> str:
    """A decimal as text: all its digits, without an exponent."""
    return format(value, "f")


def number(value: Decimal, *, whole: bool = False) -> int | float:
    """A decimal as a number: an int where it is written without a fraction, or is ``whole`` and has to be."""
    integral = value == value.to_integral_value()
    as_float = float(value)
    if integral and (whole or int(value.as_tuple().exponent) >= 0 or as_float != value):
        return int(value)
    return as_float


def _text(value: Any) -> Any:
    if isinstance(value, UserString):
        return str(value)
    if callable(getattr(type(value), "__fspath__", None)):
        path = value.__fspath__()
        return path if isinstance(path, str) else value
    return str(value) if type(value).__name__ == "UUID" and hasattr(value, "hex") else value


def _moment(value: Any) -> Any:
    """Dates, times and pandas' Timestamps in ISO 8601; a length of time too."""
    if isinstance(value, type):
        return value
    if callable(getattr(value, "isoformat", None)):
        if value != value:  # noqa: PLR0124 - pandas' NaT
            raise NotJson(f"is {value}, which is no time")
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


def _number(value: Any) -> Any:
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _items(value: Any) -> Any:
    if not isinstance(value, Iterator | ItemsView | KeysView | ValuesView):
        return value
    items = list(islice(value, _MANY + 1))
    if len(items) > _MANY:
        raise NotJson(f"is a {type(value).__name__} of more than {_MANY:,} items")
    return items


def _model(value: Any) -> Any:
    """Instances of Pydantic's models, without what is None in them; of dataclasses and attrs classes."""
    if isinstance(value, type):
        return value
    if callable(getattr(value, "model_dump", None)):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    attributes = getattr(type(value), "__attrs_attrs__", None)
    return {field.name: getattr(value, field.name) for field in attributes} if attributes is not None else value


def _member(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


_CONVERSIONS = (_member, _model, _text, _moment, _array, _items, _number)
