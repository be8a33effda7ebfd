"""A broken rule of a schema in our own words: made of path, keyword and allowed value, never of a text in the data.

``quote`` allows a number or a key of the data. They help the author of a request; of an answer, nothing is shown.

Errors against the shipped schema are told apart here, too: what every server refuses, and what only OpenAI refuses. The
schema marks its open places with ``x-open`` and ``x-elsewhere``; its ``$comment`` explains them. All of this runs only
for a value that breaks its schema.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import Any, Literal, Self, cast

from jsonschema import SchemaError, ValidationError

from airflow_chat_provider.core.paths import join, join_known, warning_text
from airflow_chat_provider.core.request.coerce import Node, Path
from airflow_chat_provider.core.spelling import close_to, misspelling
from airflow_chat_provider.core.types import JSON

_ARTICLE = {"integer": "an", "array": "an", "object": "an", "null": ""}
_LISTED = 12


def kind(value: object, *, quote: bool = True) -> str:
    """A value's JSON type with its article. A number or a boolean, which cannot hold a prompt, is shown itself."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower() if quote else "a boolean"
    if isinstance(value, int | float):
        return _number(value) if quote else "a number"
    if isinstance(value, str):
        return "a string" if value else "an empty string"
    if isinstance(value, dict):
        return "an object"
    return "an array" if isinstance(value, list) else f"a {type(value).__name__}"


def _number(value: int | float) -> str:  # noqa: PYI041 - mypy takes an int for a float, not for one of both
    return str(value) if isinstance(value, float) or abs(value) < 10**30 else "a huge integer"


def one_of(names: list[Any] | str) -> str:
    """``a string or null``. In draft 3 schemas can stand among the types; they have no name."""
    names = [names] if isinstance(names, str) else names  # the schema of schemas writes a single type as text
    words = [f"{_ARTICLE.get(name, 'a')} {name}".strip() for name in names if isinstance(name, str)]
    return " or ".join(([", ".join(words[:-1])] if words[:-1] else []) + words[-1:])


_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
    "multipleOf": "a multiple of",
}
_COUNTS = {
    "minItems": ("at least", "item"),
    "maxItems": ("at most", "item"),
    "minLength": ("at least", "character"),
    "maxLength": ("at most", "character"),
    "minProperties": ("at least", "key"),
    "maxProperties": ("at most", "key"),
}


def describe(error: ValidationError | SchemaError, *, quote: bool = True) -> str:
    """What is wrong with the value at the error's path, in words that follow the path."""
    keyword, value, instance = str(error.validator), cast("Any", error.validator_value), cast("Any", error.instance)
    if keyword == "type":
        return _type(value, instance, quote=quote)
    if keyword == "enum":
        return _enum(value, instance, quote=quote)
    if keyword == "required":
        return _required(value, instance, error.schema, quote=quote)
    if keyword == "additionalProperties":
        return _extra(value, cast("Any", error.schema), quote=quote)
    return _in_words(keyword, value, instance, kind(instance, quote=quote))


def _in_words(keyword: str, value: object, instance: Any, got: str) -> str:
    if keyword in _BOUNDS:
        return f"must be {_BOUNDS[keyword]} {value}, got {got}"
    if keyword in _COUNTS:
        words, unit = _COUNTS[keyword]
        return f"must have {words} {value} {unit if value == 1 else f'{unit}s'}, but has {len(instance)}"
    if keyword in ("oneOf", "anyOf"):
        several = isinstance(value, int) and value > 1  # how many fit
        return "matches more than one of the allowed forms" if several else f"has none of the allowed forms, got {got}"
    if keyword == "const":
        return "must be the value in the schema" if isinstance(value, dict | list) else f"must be {value!r}"
    if keyword == "pattern":
        return f"must match the pattern {value!r}"
    return "is not allowed here" if keyword == "false" else f"breaks the schema's rule {keyword!r}"


def _type(types: Any, instance: object, *, quote: bool) -> str:
    hint = ""
    if isinstance(instance, dict | list) and "string" in types and quote:
        hint = "; to send it as text, end the template with '| tojson', or use json.dumps"
    elif instance is None:
        hint = "; leave the key out instead"
    return f"must be {one_of(types)}, got {kind(instance, quote=quote)}{hint}"


def _enum(allowed: list[Any], instance: object, *, quote: bool) -> str:
    shown = ", ".join(repr(item) for item in allowed[:_LISTED]) + (", ..." if len(allowed) > _LISTED else "")
    if not isinstance(instance, str):
        return f"must be one of {shown}, got {kind(instance, quote=quote)}"
    meant = misspelling(instance, allowed)
    return f"must be one of {shown}" + (f"; did you mean {meant!r}?" if meant is not None else "")


def _required(name: object, instance: Any, schema: object, *, quote: bool) -> str:
    if not isinstance(name, str):  # the path of draft 3 names it
        return "is missing"
    if not quote:
        return f"{name!r} is missing"
    known = set(schema.get("properties", ())) if isinstance(schema, dict) else set()
    close = close_to(name, [key for key in instance if isinstance(key, str) and key not in known], 0.7)
    return f"{name!r} is missing" + (f"; did you write {close[0]!r} instead?" if close else "")


def _extra(extra: object, schema: Any, *, quote: bool) -> str:
    names = [name for name in extra if isinstance(name, str)] if isinstance(extra, list) else []
    close = [match for name in names[:3] for match in close_to(name, list(schema.get("properties", ())))]
    meant = f"; did you mean {close[0]!r}?" if close else ""
    one = "has a key that is not allowed"
    if not quote:
        return (one if len(names) == 1 else f"has {len(names)} keys that are not allowed") + meant
    listed = ", ".join(repr(name[:64]) for name in names[:3])
    return f"{one if len(names) == 1 else 'has keys that are not allowed'}: {listed}{meant}"


# Messages in a shape that is often taken for another: what to do about it is the start of the error.
_AS_FUNCTION = 'Put name, description and parameters under "function"'
_NO_MESSAGES = "Give prompt or messages"
_JOIN = 'Join the list of texts into one text with "\\n".join(...)'
_AS_MESSAGES = "Give the messages as messages: a prompt is a text or a list of parts"
_AS_CONTENT = 'Put the parts into a message, {"role": "user", "content": [...]}'
_SENT = "; nothing was sent"
_AS_IT_IS = "; nothing was sent, and request_schema='open' sends it as it is"


def with_remedy(error: ValidationError, wrong: str, *, may_pass: bool) -> str:
    """What to do, then ``wrong``. For requests only: a hint tells something about the content.

    ``may_pass``: some servers accept such a request.
    """
    return f"{_remedy(error) or 'Correct the request'}: {wrong}{_AS_IT_IS if may_pass else _SENT}"


def _remedy(error: ValidationError) -> str | None:
    value: Any = error.instance
    due: Any = error.validator_value
    path: list[Any] = [None, None, *error.absolute_path]
    key, last = path[-2:]
    if last is None and error.validator == "required" and due == "messages":
        return _NO_MESSAGES
    if isinstance(last, int):
        return _remedy_in_list(key, value, error)
    if last == "content" and isinstance(value, list) and any(isinstance(item, str) for item in value):
        return _JOIN  # where a schema takes text alone
    if last == "messages" and isinstance(value, dict) and "role" in value:
        return "Put the message into a list"
    if last != "content" or not isinstance(value, dict):
        return None
    if "role" in value:
        return _AS_MESSAGES
    return "Put the part into a list" if "type" in value and "array" in due else None


def _remedy_in_list(key: Any, value: Any, error: ValidationError) -> str | None:
    """The same for a message, a part or a tool."""
    if key in ("messages", "content") and isinstance(value, str) and error.validator == "type":
        return _JOIN
    if not isinstance(value, dict):
        return None
    if key == "content" and "role" in value:
        return _AS_MESSAGES
    if key == "messages" and "type" in value and "role" not in value:
        return _AS_CONTENT
    lacks_function = key == "tools" and error.validator == "required" and error.validator_value == "function"
    return _AS_FUNCTION if lacks_function and "name" in value else None


Strictness = Literal["strict", "marked", "open"]
"""What is an error: all that breaks the schema; all but its open places; or only what every server refuses."""

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
        kinds = list(self._first)
        told = [Remark(warning_text(*self._first[kind], self._places[kind]), kind) for kind in kinds[:_MOST_KINDS]]
        if more := len(kinds) - len(told):
            told.append(Remark(f"$ breaks OpenAI's schema in {more} more ways; {self._remedy}.", ""))
        return told


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
