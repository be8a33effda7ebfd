"""The tokens that servers say an answer took, and their sums: small and plain, whatever servers send."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice

from airflow_chat_provider.core.types import JSON, JSONObject

LARGEST = 2**53
"""The largest count of one answer; a larger one is the server's mistake."""
_LARGEST_SUM = 2**63 - 1  # the databases under XCom take no larger integer
_NAME = r"(?a)(?!__)[\w.:/ -]{1,64}"  # Airflow reads keys with two underscores as its own
_NAMES = 32  # in one object: a server could send a new name with each answer
_DEPTH = 2  # prompt_tokens_details.cached_tokens


def counted(usage: JSON, depth: int = 0) -> JSONObject:
    """All counts in a ``usage``, in its inner objects too: those of 0 or more, under plain names."""
    found: JSONObject = {}
    if not isinstance(usage, dict) or depth == _DEPTH:
        return found
    for name, value in islice(usage.items(), _NAMES):
        if type(name) is not str or not _is_name(name):
            continue
        if type(value) is int or type(value) is float:
            if 0 <= value <= LARGEST:
                found[name] = value
        elif isinstance(value, dict):
            inner = counted(value, depth + 1)
            if inner:
                found[name] = inner
    return found


@lru_cache(256)
def _is_name(name: str) -> bool:
    return re.fullmatch(_NAME, name) is not None


def add(total: JSONObject, more: JSONObject) -> None:
    """Add counts to ``total``, name by name. A name that is a number in one and an object in the other stays as it is.

    Whatever servers send, the sum stays small and plain.
    """
    for name, value in more.items():
        had = total.get(name)
        if had is None and len(total) >= _NAMES:
            continue
        if isinstance(value, dict):
            if had is None or isinstance(had, dict):
                add(total.setdefault(name, {}), value)
        elif not isinstance(had, dict):
            total[name] = min(_LARGEST_SUM, (had or 0) + value)


def together(one: JSON, other: JSON) -> JSON:
    """The sum of two usages. If only one of them says anything, that one as it came."""
    if not one or not other:
        return one or other
    total: JSONObject = {}
    add(total, counted(one))
    add(total, counted(other))
    return total
