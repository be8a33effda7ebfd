"""When JSON values are equal, and a number is another one's multiple: in time that their size decides."""

from __future__ import annotations

import json
import math
from typing import Any


def form(value: Any) -> str:
    """The same text for equal values, of whatever size: 1.0 is 1, and true is not."""
    return json.dumps(_normal(value), sort_keys=True)


def _normal(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    return list(map(_normal, value)) if isinstance(value, list) else value


def repeats(items: list[Any]) -> bool:
    """Is an item there twice? jsonschema compares each with each where they cannot be sorted."""
    return len(set(map(form, items))) < len(items)


def is_multiple(number: Any, of: Any) -> bool:
    """As the numbers are written: 0.3 is a multiple of 0.1, although the floats next to them are not."""
    if isinstance(number, float) and not math.isfinite(number):
        return False
    if isinstance(number, int) and isinstance(of, int):
        return number % of == 0
    from fractions import Fraction

    one, other = (Fraction(value if isinstance(value, int) else repr(value)) for value in (number, of))
    return (one / other).denominator == 1
