"""A broken schema rule in our own words: from path, keyword and allowed value, never from the data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from jsonschema import SchemaError, ValidationError

_ARTICLE = {"integer": "an", "array": "an", "object": "an", "null": ""}
_LISTED = 12


def close_to(name: str, names: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """The one of ``names`` that ``name`` may be a misspelling of, if there is one."""
    from difflib import get_close_matches  # only on the way to an error

    return get_close_matches(name, list(names), 1, cutoff)


def kind(value: Any) -> str:
    """A value's JSON type with its article; numbers and booleans, which hold no prompt, with their value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value) if isinstance(value, float) or abs(value) < 10**30 else "a huge integer"
    if isinstance(value, str):
        return "a string" if value else "an empty string"
    if isinstance(value, dict):
        return "an object"
    return "an array" if isinstance(value, list) else f"a {type(value).__name__}"


def one_of(names: list[str]) -> str:
    """``a string or null``."""
    words = [f"{_ARTICLE.get(name, 'a')} {name}".strip() for name in names]
    return " or ".join(([", ".join(words[:-1])] if words[:-1] else []) + words[-1:])


def _type(value: Any, instance: Any, _: Any) -> str:
    hint = ""
    if isinstance(instance, dict | list) and "string" in value:
        hint = "; end the template with '| tojson' to send it as text"
    elif instance is None:
        hint = "; leave the key out instead"
    return f"must be {one_of(value)}, got {kind(instance)}{hint}"


def _enum(value: Any, instance: Any, _: Any) -> str:
    shown = ", ".join(repr(item) for item in value[:_LISTED]) + (", ..." if len(value) > _LISTED else "")
    names = [item for item in value if isinstance(item, str)]
    close = close_to(instance, names) if isinstance(instance, str) else []
    got = "" if isinstance(instance, str) else f", got {kind(instance)}"
    return f"must be one of {shown}{got}" + (f"; did you mean {close[0]!r}?" if close else "")


def _required(value: Any, instance: Any, schema: Any) -> str:
    known = set(schema.get("properties", ())) if isinstance(schema, dict) else set()
    strange = [key for key in instance if isinstance(key, str) and key not in known]
    close = close_to(value, strange, 0.7)
    return f"{value!r} is missing" + (f"; did you mean it by {close[0]!r}?" if close else "")


def _choice(value: Any, instance: Any, _: Any) -> str:
    return "matches more than one of the allowed forms" if value else f"{kind(instance)} in none of the allowed forms"


def _extra(_: Any, instance: Any, schema: Any) -> str:
    known = list(schema.get("properties", ()))
    patterns = schema.get("patternProperties", ())
    names = [key for key in instance if key not in known and not any(re.search(p, key) for p in patterns)][:3]
    close = [match for name in names for match in close_to(name, known)]
    listed = ", ".join(repr(name[:64]) for name in names)
    return f"has keys that are not allowed: {listed}" + (f"; did you mean {close[0]!r}?" if close else "")


def _bound(words: str) -> Callable[[Any, Any, Any], str]:
    return lambda value, instance, _: f"must be {words} {value}, got {kind(instance)}"


def _count(words: str, unit: str) -> Callable[[Any, Any, Any], str]:
    def text(value: Any, instance: Any, _: Any) -> str:
        plural = unit if value == 1 else f"{unit}s"
        return f"must have {words} {value} {plural}, has {len(instance)}"

    return text


_WORDS: dict[str, Callable[[Any, Any, Any], str]] = {
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
    "const": lambda value, *_: f"must be {value!r}" if not isinstance(value, dict | list) else "must be fixed",
    "None": lambda *_: "is not allowed here",  # the schema `false` has no keyword
    "pattern": lambda value, *_: f"must match the pattern {value!r}",
}


def describe(error: ValidationError | SchemaError) -> str:
    """What is wrong with the value at the error's path."""
    words = _WORDS.get(str(error.validator))
    if words is None:
        return f"breaks the schema's rule {str(error.validator)!r}"
    return words(error.validator_value, error.instance, error.schema)
