"""Requests that a schema accepts, for the property tests: as much of JSON Schema as the schema of 2023-12 uses."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def valid(schema: Any, root: Any) -> st.SearchStrategy[Any]:
    """Values that ``schema`` accepts; their objects have no keys but those that it names."""
    if "$ref" in schema:
        return valid(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    for keyword in ("oneOf", "anyOf"):
        if keyword in schema:
            return st.one_of(*(valid(branch, root) for branch in schema[keyword]))
    values = st.sampled_from(schema["enum"]) if "enum" in schema else _BY_TYPE[schema["type"]](schema, root)
    return st.none() | values if schema.get("nullable") else values


def _object(schema: Any, root: Any) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        extra = schema["additionalProperties"]
        return st.dictionaries(st.text(max_size=5), JSON if extra is True else valid(extra, root), max_size=3)
    known = {name: valid(below, root) for name, below in schema["properties"].items()}
    required = set(schema.get("required", ()))
    optional = {name: values for name, values in known.items() if name not in required}
    return st.fixed_dictionaries({name: known[name] for name in sorted(required)}, optional=optional)


def _array(schema: Any, root: Any) -> st.SearchStrategy[Any]:
    few = min(schema.get("maxItems", 3), 3)
    return st.lists(valid(schema["items"], root), min_size=schema.get("minItems", 0), max_size=few)


def _integer(schema: Any, root: Any) -> st.SearchStrategy[Any]:
    whole = st.integers(schema.get("minimum"), schema.get("maximum"))
    small = st.integers(max(-9, schema.get("minimum", -9)), min(9, schema.get("maximum", 9)))
    return whole | small.map(float)  # 5.0 is an integer to JSON Schema


_BY_TYPE = {
    "object": _object,
    "array": _array,
    "integer": _integer,
    "number": lambda schema, root: st.floats(schema["minimum"], schema["maximum"]) | _integer(schema, root),
    "string": lambda schema, root: st.text(max_size=10),
    "boolean": lambda schema, root: st.booleans(),
}
