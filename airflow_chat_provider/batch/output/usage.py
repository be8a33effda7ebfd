"""Sums of what servers say that their answers took. Whatever a server sends, the sum is small, plain and true to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

_NAME = re.compile(r"(?!__)[\w.:/ -]{1,64}", re.ASCII)  # Airflow reads keys with two underscores as its own
_NAMES = 32  # in one object; a server could have a new one in each answer
_DEPTH = 2  # prompt_tokens_details.cached_tokens
MOST = 2**53  # of one answer; what is more is an error of the server's
_TOP = 2**63 - 1  # of a sum: XCom's databases take no larger integer


@lru_cache(256)
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def counted(usage: Any, depth: int = 0) -> dict[str, Any]:
    """The counts in a ``usage``, in objects in it too: all that are numbers of 0 or more."""
    found: dict[str, Any] = {}
    if not isinstance(usage, Mapping) or depth == _DEPTH:
        return found
    for name, value in islice(usage.items(), _NAMES):
        if type(name) is not str or not _is_name(name):
            continue
        if type(value) is int or type(value) is float:
            if 0 <= value <= MOST:
                found[name] = value
        elif isinstance(value, Mapping):
            inner = counted(value, depth + 1)
            if inner:
                found[name] = inner
    return found


def add(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add counts to counts, name by name. A name that is a number in one and an object in the other stays as it was."""
    for name, value in more.items():
        had = total.get(name)
        if had is None and len(total) >= _NAMES:
            continue
        if isinstance(value, dict):
            if had is None or isinstance(had, dict):
                add(total.setdefault(name, {}), value)
        elif not isinstance(had, dict):
            total[name] = min(_TOP, (had or 0) + value)


def together(one: Any, other: Any) -> Any:
    """Two usages as one: as it came where there is one alone, else the sum of their counts."""
    if not one or not other:
        return one or other
    total: dict[str, Any] = {}
    add(total, counted(one))
    add(total, counted(other))
    return total
