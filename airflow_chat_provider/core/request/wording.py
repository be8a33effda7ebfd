"""A broken rule of a schema in our own words: made of path, keyword and allowed value, never of a text in the data.

``quote`` allows a number or a key of the data. They help the author of a request; of an answer, nothing is shown.
"""

from __future__ import annotations

from typing import Any, cast

from jsonschema import SchemaError, ValidationError

from airflow_chat_provider.core.spelling import close_to, misspelling

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


def one_of(names: list[Any]) -> str:
    """``a string or null``. In draft 3 schemas can stand among the types; they have no name."""
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
        hint = "; end the template with '| tojson' to send it as text"
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
_JOIN = 'Join the list of texts into one text with "\\n".join(...)'
_AS_MESSAGES = "Give the messages as messages: a prompt is a text or a list of parts"
_AS_CONTENT = 'Put the parts into a message, {"role": "user", "content": [...]}'
_WAY_OUT = ", or send it as it is with request_schema='open'"
_AS_IT_IS = " (request_schema='open' sends it as it is)"


def with_remedy(error: ValidationError, wrong: str, *, may_pass: bool) -> str:
    """What to do, then ``wrong``. For requests only: a hint tells something about the content.

    ``may_pass``: some servers accept such a request.
    """
    found = _remedy(error)
    if found is None:
        return f"Correct the request{_WAY_OUT if may_pass else ''}; nothing was sent: {wrong}"
    return f"{found}; nothing was sent: {wrong}" + (_AS_IT_IS if may_pass else "")


def _remedy(error: ValidationError) -> str | None:
    value: Any = error.instance
    due: Any = error.validator_value
    path: list[Any] = [None, None, *error.absolute_path]
    key, last = path[-2:]
    if isinstance(last, int):  # in a list of messages, or of parts
        if key in ("messages", "content") and isinstance(value, str) and error.validator == "type":
            return _JOIN
        if key == "content" and isinstance(value, dict) and "role" in value:
            return _AS_MESSAGES
        is_part = key == "messages" and isinstance(value, dict) and "type" in value and "role" not in value
        return _AS_CONTENT if is_part else None
    if last == "content" and isinstance(value, list) and any(isinstance(item, str) for item in value):
        return _JOIN  # where a schema takes text alone
    if last == "messages" and isinstance(value, dict) and "role" in value:
        return "Put the message into a list"
    is_part = last == "content" and isinstance(value, dict) and "type" in value and "array" in due
    return "Put the part into a list" if is_part else None
