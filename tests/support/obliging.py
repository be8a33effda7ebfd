"""A model that does what it is asked: JSON that fits the schema, a call of a tool that it must call, or else a text."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.testing import Received, Reply, replies


def obliging(request: Received) -> Reply:
    """For `ChatServer.default`."""
    return answer_to(request.json)


def answer_to(asked: dict[str, Any]) -> Reply:
    """For `BatchServer.answer`."""
    tools = asked.get("tools") or ()
    if tools and asked.get("tool_choice") not in (None, "auto", "none"):
        function = tools[0]["function"]
        return replies.tool_calls([(function["name"], fitting(function.get("parameters", {})))])
    form = asked.get("response_format") or {}
    if form.get("type") == "json_schema":
        return replies.ok_json(fitting(form["json_schema"]["schema"]))
    if form.get("type") == "json_object":
        return replies.ok_json({})
    return replies.stream("A short answer.") if asked.get("stream") else replies.ok("A short answer.")


def fitting(schema: Any, root: Any = None) -> Any:
    """The simplest value that fits a schema, of those that documents and examples have."""
    root = schema if root is None else root
    if "$ref" in schema:
        return fitting(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema:
            return fitting(schema[keyword][0], root)
    kind = schema.get("type", "object")
    return _BY_TYPE[kind if isinstance(kind, str) else kind[0]](schema, root)


def _object(schema: Any, root: Any) -> dict[str, Any]:
    return {name: fitting(below, root) for name, below in schema.get("properties", {}).items()}


def _string(schema: Any, root: Any) -> str:
    if schema.get("format") == "date":
        return "2026-11-27"
    shortest, longest = int(schema.get("minLength", 0)), schema.get("maxLength")
    return "text".ljust(shortest, ".")[:longest]


_BY_TYPE = {
    "object": _object,
    "array": lambda schema, root: [fitting(schema.get("items", {}), root)] * max(1, schema.get("minItems", 1)),
    "string": _string,
    "integer": lambda schema, root: schema.get("minimum", 1),
    "number": lambda schema, root: schema.get("minimum", 1.5),
    "boolean": lambda schema, root: True,
    "null": lambda schema, root: None,
}
