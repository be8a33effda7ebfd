"""Values as they are built: when two are equal, and whether one has changed since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_chat_provider.core.json_text.nesting import DEPTH as _DEPTH  # a value that holds itself ends there

_CONTAINERS = (dict, list, tuple)
_SCALARS = (str, int, float, bool, type(None))


def leaves(value: Any) -> Iterator[Any]:
    """All in ``value`` that is no container, in no order; a container that is met again is passed over."""
    stack, seen = [value], set[int]()
    while stack:
        item = stack.pop()
        if not isinstance(item, Mapping | list | tuple):
            yield item
        elif id(item) not in seen:
            seen.add(id(item))
            stack.extend(item.values() if isinstance(item, Mapping) else item)


def equal(a: Any, b: Any, depth: int = 0) -> bool:
    """Are they equal in JSON's own types? Of what is none of these, only a thing itself is equal to it."""
    if a is b:
        return True
    if type(a) is not type(b) or depth > _DEPTH:
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(key in b and equal(item, b[key], depth + 1) for key, item in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y, depth + 1) for x, y in zip(a, b, strict=True))
    return isinstance(a, _SCALARS) and a == b


def outline(value: Any, depth: int = 0) -> Any:
    """A copy of the dicts and lists in ``value``, with all else in them as it is: by it a change is seen."""
    kind = type(value)
    if kind not in _CONTAINERS or depth > _DEPTH:
        return value
    copied: Any = value.copy() if kind is dict else list(value)
    for key, item in copied.items() if kind is dict else enumerate(copied):
        if type(item) in _CONTAINERS:
            copied[key] = outline(item, depth + 1)
    return copied


def unchanged(value: Any, was: Any, depth: int = 0) -> bool:
    """Is ``value`` what it was when ``was`` was made its outline?"""
    kind = type(value)
    if value is was or kind not in _CONTAINERS or depth > _DEPTH:
        return value is was
    if type(was) is not (dict if kind is dict else list) or len(value) != len(was):
        return False
    for key, item in value.items() if kind is dict else enumerate(value):
        try:
            old = was[key]
        except KeyError:
            return False
        if item is not old and not unchanged(item, old, depth + 1):
            return False
    return True
