"""``unevaluatedItems`` and ``unevaluatedProperties``: what no other keyword has looked at.

Written anew because jsonschema's look references up, match by Python's ``re``, and search lists item by item.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_chat_provider.core.request.patterns import matches
from airflow_chat_provider.core.request.walk import Errors, Run, Schema, failure, fits, walk

_ALL_KEYS = ("additionalProperties", "unevaluatedProperties")


def unevaluated_properties(run: Run, subschema: Schema, instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, dict):
        seen = _seen(run, instance, {key: value for key, value in schema.items() if key != "unevaluatedProperties"})
        yield from _rest(
            run, subschema, instance, "unevaluatedProperties", [key for key in instance if key not in seen]
        )


def unevaluated_items(run: Run, subschema: Schema, instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, list):
        seen = _seen(run, instance, {key: value for key, value in schema.items() if key != "unevaluatedItems"})
        rest = [index for index in range(len(instance)) if index not in seen]
        yield from _rest(run, subschema, instance, "unevaluatedItems", rest)


def _rest(run: Run, subschema: Schema, instance: Any, keyword: str, places: list[Any]) -> Errors:
    if subschema is False and places:
        yield failure(keyword, places, instance, subschema)
    elif subschema is not False:
        for place in places:
            yield from walk(run, instance[place], subschema, place)


def _seen(run: Run, instance: Any, schema: Schema) -> set[Any]:
    """The keys, or the indices, that a schema looks at."""
    if not isinstance(schema, dict):
        return set()
    run.step()
    seen = _keys(instance, schema) if isinstance(instance, dict) else _indices(run, instance, schema)
    for same in _in_place(run, instance, schema):
        seen |= _seen(run, instance, same)
    return seen


def _in_place(run: Run, instance: Any, schema: dict[str, Any]) -> Iterator[Schema]:
    """The schemas in this one that look at the same value, and fit."""
    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        if keyword in schema:
            yield schema[keyword]
    for keyword in ("allOf", "anyOf", "oneOf"):
        yield from (branch for branch in schema.get(keyword, ()) if fits(run, instance, branch))
    if "if" in schema:
        holds = fits(run, instance, schema["if"])
        if holds:
            yield schema["if"]
        yield schema.get("then" if holds else "else", True)
    for key, dependent in schema.get("dependentSchemas", {}).items():
        if key in instance:
            yield dependent


def _keys(instance: dict[str, Any], schema: dict[str, Any]) -> set[Any]:
    if any(keyword in schema for keyword in _ALL_KEYS):
        return set(instance)
    seen = set(instance).intersection(schema.get("properties", ()))
    patterns = schema.get("patternProperties", ())
    return seen | {key for key in instance if any(matches(pattern, key) for pattern in patterns)}


def _indices(run: Run, instance: list[Any], schema: dict[str, Any]) -> set[Any]:
    items = schema.get("items")
    if "unevaluatedItems" in schema or (
        items is not None and ("additionalItems" in schema or not isinstance(items, list))
    ):
        return set(range(len(instance)))
    first = max(len(schema.get("prefixItems", ())), len(items or ()))
    seen = set(range(min(first, len(instance))))
    if "contains" in schema:
        seen |= {index for index, item in enumerate(instance) if fits(run, item, schema["contains"])}
    return seen
