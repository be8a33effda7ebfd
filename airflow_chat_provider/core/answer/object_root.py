"""An answer's schema in the form that servers take: with an object at its root.

OpenAI refuses any other root, and ``json_object`` gives objects alone. So a list is asked for as ``{"items": [...]}``,
and anything else that is not an object as ``{"answer": ...}``.
"""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.types import JSONObject

_OF_THE_ROOT = ("$defs", "definitions", "$schema", "$id", "id")
"""What has to stand at the root: references lead there."""
_DEFINITIONS = ("#/$defs/", "#/definitions/")
_ANY_VALUE = ("anyOf", "oneOf", "enum", "const")


def with_object_root(schema: JSONObject) -> JSONObject:
    """A schema whose root is a reference to an object (that of a recursive model) with that object at its root."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not schema.keys() <= {"$ref", *_OF_THE_ROOT}:
        return schema
    for place in _DEFINITIONS:
        holder = schema.get(place.split("/")[1])
        target = holder.get(reference.removeprefix(place)) if isinstance(holder, dict) else None
        if reference.startswith(place) and isinstance(target, dict) and target.get("type") == "object":
            return {**{key: value for key, value in schema.items() if key != "$ref"}, **target}
    return schema


def key_for(schema: JSONObject) -> str | None:
    """The key under which a value is asked for; None if the schema has an object at its root, or says of no type."""
    kind = schema.get("type")
    if kind == "array":
        return "items"
    if kind == "object" or (kind is None and "properties" in schema):
        return None
    return "answer" if kind is not None or any(keyword in schema for keyword in (*_ANY_VALUE, "$ref")) else None


def wrapped(schema: JSONObject, key: str) -> JSONObject:
    """The schema of an object that has the value under ``key``."""
    root = {name: schema[name] for name in _OF_THE_ROOT if name in schema}
    inner = {name: value for name, value in schema.items() if name not in _OF_THE_ROOT}
    moved = f"#/properties/{key}"
    return {
        "type": "object",
        "properties": {key: _moved(inner, moved)},
        "required": [key],
        "additionalProperties": False,
        **{name: _moved(value, moved) for name, value in root.items()},
    }


def _moved(node: Any, to: str) -> Any:
    """A part of the schema whose references to its root, or into it, lead to where that has gone."""
    if isinstance(node, list):
        return [_moved(item, to) for item in node]
    if not isinstance(node, dict):
        return node
    moved = {name: _moved(value, to) for name, value in node.items()}
    reference = node.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        moved["$ref"] = reference if reference.startswith(_DEFINITIONS) else to + reference.removeprefix("#")
    return moved
