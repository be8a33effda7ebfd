"""Which values are known only once a task runs: texts with a template in them, and Airflow's references."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

IsTemplate: TypeAlias = Callable[[object], bool]
_DEFAULT_MARKERS = ("{{", "{%", "{#")
_MARKERS = ("variable_start_string", "block_start_string", "comment_start_string")


def markers(options: Mapping[str, Any] | None = None) -> IsTemplate:
    """A function that says whether a leaf is known only once it is rendered.

    :param options: Jinja's options: a DAG's ``jinja_environment_kwargs``, or the attributes of an environment
    """
    given = options or {}
    if given.get("line_statement_prefix") or given.get("line_comment_prefix"):
        return lambda value: isinstance(value, str) or is_reference(value)  # any line of a text may be a statement
    a, b, c = (given.get(name, default) for name, default in zip(_MARKERS, _DEFAULT_MARKERS, strict=True))
    # Searching for one character is 20 times faster than for two, and most texts do not contain it.
    first = a[:1] if a[:1] == b[:1] == c[:1] else ""

    def is_template(value: object) -> bool:
        if isinstance(value, str):
            return first in value and (a in value or b in value or c in value)
        return is_reference(value)

    return is_template


def is_reference(value: object) -> bool:
    """True for a value that Airflow resolves in a run: an XComArg, the argument of a mapped group, a literal."""
    if type(value) in (dict, list, int, float, bool, type(None)):
        return False
    return not isinstance(value, os.PathLike) and callable(getattr(value, "resolve", None))


def holds_template(value: object, is_template: IsTemplate) -> bool:
    """True if any leaf of ``value`` is a template or a reference."""
    stack, seen = [value], set[int]()  # a value may contain itself: it is refused later, with its place
    while stack:
        item = stack.pop()
        if not isinstance(item, Mapping | list | tuple):
            if is_template(item):
                return True
        elif id(item) not in seen:
            seen.add(id(item))
            stack.extend(item.values() if isinstance(item, Mapping) else item)
    return False
