"""Rules of the JSON Schemas inside a request: parameters of functions, and the schema of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_chat_provider.core.request.rules.report import Report, as_dict, as_list, child, unsure

# Deeper and larger than any schema that a server takes; the limits keep a hostile or circular one harmless.
_DEEPEST = 64
_MOST_SCHEMAS = 20_000
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
_SINGLE = frozenset({"items", "additionalProperties", "contains", "not", "if", "then", "else"})
_STRICT_REMEDY = "correct the schema, or leave strict out"

Trail = tuple[str | int, ...]


def check_parameters(function: dict[str, Any], path: str, report: Report) -> None:
    parameters = function.get("parameters")
    if not isinstance(parameters, dict):
        return
    path = f"{path}.parameters"
    _check_root(parameters, path, report)
    check_schema(parameters, path, report, strict=function.get("strict") is True)


def check_schema(schema: dict[str, Any], path: str, report: Report, *, strict: bool) -> None:
    for node, trail in _subschemas(schema):
        if _is(node, "array") and "items" not in node and "prefixItems" not in node:
            problem, remedy = "is an array without items", "say what the array holds"
            report.refused_by_openai("array_without_items", _at(path, trail), problem, remedy)
        if strict and (_is(node, "object") or "properties" in node):
            _check_strict(node, _at(path, trail), report)


def _check_root(parameters: dict[str, Any], path: str, report: Report) -> None:
    if unsure(parameters.get("type")):
        return
    if not _is(parameters, "object"):
        problem, remedy = "has no type object at its root", 'set its "type" to "object"'
        report.refused_by_openai("parameters_root", path, problem, remedy)
    elif "properties" not in parameters:
        problem, remedy = "is an object without properties, which some servers refuse", 'add "properties": {}'
        report.warn("parameters_properties", path, problem, remedy)


def _check_strict(node: dict[str, Any], path: str, report: Report) -> None:
    if node.get("additionalProperties") is not False and not unsure(node.get("additionalProperties")):
        problem = "is an object of a strict schema without additionalProperties: false"
        report.refused_by_openai("strict_schema", path, problem, _STRICT_REMEDY)
    if unsure(node.get("required"), *as_list(node.get("required"))):
        return
    required = {name for name in as_list(node.get("required")) if isinstance(name, str)}
    missing = next((name for name in as_dict(node.get("properties")) if name not in required), None)
    if missing is not None:
        problem = "is a property of a strict schema that is not in required"
        place = child(f"{path}.properties", missing)
        report.refused_by_openai("strict_schema", place, problem, _STRICT_REMEDY)


def _is(node: dict[str, Any], kind: str) -> bool:
    stated = node.get("type")
    return stated == kind or (isinstance(stated, list) and kind in stated)


def _at(path: str, trail: Trail) -> str:
    for step in trail:
        path = f"{path}[{step}]" if isinstance(step, int) else child(path, step)
    return path


def _subschemas(root: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Trail]]:
    """The schema and all schemas in it, in the order of the document. Each object comes once, so that circles end."""
    stack: list[tuple[dict[str, Any], Trail]] = [(root, ())]
    seen: set[int] = set()
    while stack and len(seen) < _MOST_SCHEMAS:
        node, trail = stack.pop()
        if id(node) in seen or len(trail) > _DEEPEST:
            continue
        seen.add(id(node))
        yield node, trail
        stack.extend(reversed(list(_children(node, trail))))


def _children(node: dict[str, Any], trail: Trail) -> Iterator[tuple[dict[str, Any], Trail]]:
    for keyword, value in node.items():
        if isinstance(value, dict):
            if keyword in _SINGLE:
                yield value, (*trail, keyword)
            elif keyword in _MAPS:
                yield from ((v, (*trail, keyword, name)) for name, v in value.items() if isinstance(v, dict))
        elif isinstance(value, list) and keyword in _LISTS:
            yield from ((v, (*trail, keyword, i)) for i, v in enumerate(value) if isinstance(v, dict))
