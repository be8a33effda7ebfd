"""Errors against the shipped schema, told apart: what every server refuses, and what only OpenAI refuses.

The schema marks its open places with ``x-open`` and ``x-elsewhere``; its ``$comment`` explains them. All of this runs
only for a request that breaks the schema.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import Any, Literal, Self, cast

from jsonschema import ValidationError

from airflow_chat_provider.core.paths import join, join_known
from airflow_chat_provider.core.request.coerce import Node
from airflow_chat_provider.core.request.wording import describe, kind, one_of
from airflow_chat_provider.core.spelling import misspelling
from airflow_chat_provider.core.types import JSON

Strictness = Literal["strict", "marked", "open"]
"""What is an error: all that breaks the schema; all but its open places; or only what every server refuses."""

Path = tuple[str | int, ...]

_BECOMES: dict[Strictness, str] = {
    "marked": "it is sent unchanged, but not to OpenAI or Azure",
    "open": "it is sent unchanged, because request_schema is 'open'",
}
_NULL = "it is sent unchanged: leave it out if the server refuses it"
# What is longer, or has anything else in it, may be a secret or a prompt.
_NAME_LIKE = r"[$a-z][a-z0-9_.:]{0,30}"
_MOST_KINDS = 10


class Remark(str):
    """A warning. ``kind`` is equal for warnings that say the same about another place or another request."""

    __slots__ = ("kind",)
    kind: str

    def __new__(cls, text: str, kind: str) -> Self:
        remark = super().__new__(cls, text)
        remark.kind = kind
        return remark


class Remarks:
    """Collects warnings: one for each kind of place, with the number of such places."""

    def __init__(self, names: Container[object], strictness: Strictness) -> None:
        self._names = names
        self._remedy = _BECOMES.get(strictness, "")
        self._first: dict[str, tuple[str, str, str]] = {}
        self._paths: dict[str, Path] = {}
        self._places: dict[str, int] = {}

    def add(self, error: ValidationError, *, is_null: bool) -> None:
        """Note an error that is let pass."""
        path = tuple(error.absolute_path)
        keyword = "null" if is_null else str(error.validator)
        kind = keyword + join_known((key for key in path if not isinstance(key, int)), self._names)
        if kind not in self._first:
            remedy = _NULL if is_null else self._remedy
            self._first[kind] = (join(path), _problem(error, is_null=is_null), remedy)
        if self._paths.get(kind) != path:  # two keywords may fail at one place, one after the other
            self._paths[kind] = path
            self._places[kind] = self._places.get(kind, 0) + 1

    def told(self) -> list[Remark]:
        """One sentence for each kind, up to ten."""
        told = [self._sentence(kind) for kind in list(self._first)[:_MOST_KINDS]]
        if more := len(self._first) - len(told):
            told.append(Remark(f"$ breaks OpenAI's schema in {more} more ways; {self._remedy}.", ""))
        return told

    def _sentence(self, kind: str) -> Remark:
        path, problem, remedy = self._first[kind]
        places = self._places[kind]
        first_of = f" (the first of {places} such places)" if places > 1 else ""
        return Remark(f"{path} {problem}{first_of}; {remedy}.", kind)


def is_open(error: ValidationError) -> bool:
    """Does the schema list here what OpenAI knows, while another server may know more?"""
    marks = error.schema.get("x-open", ()) if isinstance(error.schema, dict) else ()
    if error.validator not in marks:
        return False
    return error.validator != "enum" or (isinstance(error.instance, str) and not _is_misspelt_role(error))


def is_needless_null(error: ValidationError, request: JSON, node: Node) -> bool:
    """Is it a null for an optional property? ``model_dump()`` of client libraries writes many."""
    if error.instance is not None or not error.absolute_path:
        return False
    *above, last = error.absolute_path
    holder, value = node, cast("Any", request)
    for key in above:
        below = _below(holder, value).child(key)
        if below is None:
            return False
        holder, value = below, value[key]
    return isinstance(last, str) and not (holder.requires(last) or _below(holder, value).requires(last))


def _below(node: Node, value: object) -> Node:
    return node.branch(value) if node.by and isinstance(value, dict) else node


def is_refused_everywhere(error: ValidationError) -> bool:
    """Does no server accept it: no messages, a message without a role, a model that is not a text?"""
    path = tuple(error.absolute_path)
    if path[:1] == ("model",):
        return error.instance is not None
    if path and path[0] != "messages":
        return False
    if len(path) in (0, 2):  # the request, or a message
        return error.validator == "type" or error.validator_value in ("messages", "role")
    return len(path) == 1 or (path[2:] == ("role",) and not isinstance(error.instance, str))


def kinds_elsewhere(error: ValidationError, request: JSON) -> Iterator[tuple[Any, Any, Path]]:
    """For a kind that OpenAI takes at other places only: its schema there, the value and its path."""
    kinds = error.schema.get("x-elsewhere") if isinstance(error.schema, dict) else None
    if not kinds or not isinstance(error.instance, str) or error.instance not in kinds:
        return
    *path, _ = error.absolute_path
    value: Any = request
    for key in path:
        value = value[key]
    yield kinds[error.instance], value, tuple(path)


def _is_misspelt_role(error: ValidationError) -> bool:
    """A server with more roles still knows these. With a misspelt one it would lose the message, or refuse it."""
    roles = cast("list[object]", error.validator_value)
    return error.absolute_path[-1] == "role" and misspelling(str(error.instance), roles) is not None


def _problem(error: ValidationError, *, is_null: bool) -> str:
    keyword, known, value = error.validator, cast("Any", error.validator_value), error.instance
    if is_null:
        return "is null, but OpenAI's schema allows no null here"
    if not is_open(error):
        return f"does not fit OpenAI's schema ({describe(error)})"
    if keyword == "required":
        return f"lacks {known!r}, which OpenAI requires"
    if keyword == "type":
        return f"is {kind(value)}, but OpenAI takes {one_of(known)}"
    if keyword != "enum":
        return "has a form that OpenAI does not know"
    meant = misspelling(str(value), known)
    named = f"is {value!r}, which" if re.fullmatch(_NAME_LIKE, str(value)) else "has a value that"
    return f"{named} OpenAI does not know" + (f" (did you mean {meant!r}?)" if meant is not None else "")
