"""A broken schema rule in our own words: from path, keyword and allowed value, never from a text of the data.

``quote``: may a number or a key of the data be shown? They help whoever wrote it; of an answer nothing is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jsonschema import SchemaError, ValidationError

from airflow_chat_provider.core.spelling import close_to, misspelling

_ARTICLE = {"integer": "an", "array": "an", "object": "an", "null": ""}
_LISTED = 12


def kind(value: Any, *, quote: bool = True) -> str:
    """A value's JSON type with its article; numbers and booleans, which hold no prompt, with their value."""
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


def with_article(name: str) -> str:
    """``a str``, ``an int``: the name of a class, for whoever wrote the value."""
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _number(value: int | float) -> str:  # noqa: PYI041 - mypy takes an int for a float, not for one of both
    return str(value) if isinstance(value, float) or abs(value) < 10**30 else "a huge integer"


def one_of(names: list[Any]) -> str:
    """``a string or null``. Draft 3 has schemas among the types, which have no name."""
    words = [f"{_ARTICLE.get(name, 'a')} {name}".strip() for name in names if isinstance(name, str)]
    return " or ".join(([", ".join(words[:-1])] if words[:-1] else []) + words[-1:])


class _Broken:
    """What the words are made of."""

    def __init__(self, error: ValidationError | SchemaError, *, quote: bool) -> None:
        self.value: Any = error.validator_value
        self.instance: Any = error.instance
        self.schema: Any = error.schema
        self.quote = quote

    @property
    def got(self) -> str:
        return kind(self.instance, quote=self.quote)


def _type(broken: _Broken) -> str:
    hint = ""
    if isinstance(broken.instance, dict | list) and "string" in broken.value and broken.quote:
        hint = "; end the template with '| tojson' to send it as text"
    elif broken.instance is None:
        hint = "; leave the key out instead"
    return f"must be {one_of(broken.value)}, got {broken.got}{hint}"


def _enum(broken: _Broken) -> str:
    allowed, instance = broken.value, broken.instance
    shown = ", ".join(repr(item) for item in allowed[:_LISTED]) + (", ..." if len(allowed) > _LISTED else "")
    if not isinstance(instance, str):
        return f"must be one of {shown}, got {broken.got}"
    meant = misspelling(instance, allowed)
    return f"must be one of {shown}" + (f"; did you mean {meant!r}?" if meant is not None else "")


def _required(broken: _Broken) -> str:
    if not isinstance(broken.value, str):  # the path of draft 3 names it
        return "is missing"
    missing = f"{broken.value!r} is missing"
    if not broken.quote:
        return missing
    known = set(broken.schema.get("properties", ())) if isinstance(broken.schema, dict) else set()
    strange = [key for key in broken.instance if isinstance(key, str) and key not in known]
    close = close_to(broken.value, strange, 0.7)
    return missing + (f"; did you write {close[0]!r} instead?" if close else "")


def _choice(broken: _Broken) -> str:
    several = isinstance(broken.value, int) and broken.value > 1
    return "matches more than one of the allowed forms" if several else f"{broken.got} in none of the allowed forms"


def _extra(broken: _Broken) -> str:
    names = [name for name in broken.value if isinstance(name, str)] if isinstance(broken.value, list) else []
    close = [match for name in names[:3] for match in close_to(name, list(broken.schema.get("properties", ())))]
    meant = f"; did you mean {close[0]!r}?" if close else ""
    if not broken.quote:
        return f"has {'a key that is' if len(names) == 1 else f'{len(names)} keys that are'} not allowed{meant}"
    listed = ", ".join(repr(name[:64]) for name in names[:3])
    return f"has keys that are not allowed: {listed}{meant}"


def _bound(words: str) -> Callable[[_Broken], str]:
    return lambda broken: f"must be {words} {broken.value}, got {broken.got}"


def _count(words: str, unit: str) -> Callable[[_Broken], str]:
    def text(broken: _Broken) -> str:
        plural = unit if broken.value == 1 else f"{unit}s"
        return f"must have {words} {broken.value} {plural}, has {len(broken.instance)}"

    return text


def _const(broken: _Broken) -> str:
    return f"must be {broken.value!r}" if not isinstance(broken.value, dict | list) else "must be fixed"


_WORDS: dict[str, Callable[[_Broken], str]] = {
    "type": _type,
    "enum": _enum,
    "required": _required,
    "oneOf": _choice,
    "anyOf": _choice,
    "additionalProperties": _extra,
    "minimum": _bound("at least"),
    "maximum": _bound("at most"),
    "exclusiveMinimum": _bound("more than"),
    "exclusiveMaximum": _bound("less than"),
    "multipleOf": _bound("a multiple of"),
    "minItems": _count("at least", "item"),
    "maxItems": _count("at most", "item"),
    "minLength": _count("at least", "character"),
    "maxLength": _count("at most", "character"),
    "minProperties": _count("at least", "key"),
    "maxProperties": _count("at most", "key"),
    "const": _const,
    "false": lambda _: "is not allowed here",
    "pattern": lambda broken: f"must match the pattern {broken.value!r}",
}


def describe(error: ValidationError | SchemaError, *, quote: bool = True) -> str:
    """What is wrong with the value at the error's path."""
    words = _WORDS.get(str(error.validator))
    if words is None:
        return f"breaks the schema's rule {str(error.validator)!r}"
    return words(_Broken(error, quote=quote))
