"""A user's schema judges as jsonschema does, whatever its draft, and with an end to the work."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema.validators import validator_for

from airflow_chat_provider.core.answer.output_schema import load_output
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.schema import load_schema

DRAFTS = [
    "http://json-schema.org/draft-03/schema#",
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
]
NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, 2, 2.5, -3, 10**30, "", "a", "ab", "c"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
TYPES = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])
COUNTS = st.integers(0, 3)


def keywords(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects of keywords as all drafts since the sixth have them; what a draft does not know it ignores."""
    some, named = st.lists(schemas, min_size=1, max_size=3), st.dictionaries(NAMES, schemas, max_size=2)
    optional = {
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), st.sampled_from([0, 1, 2.5])),
        **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"), COUNTS),
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), some),
        **dict.fromkeys(("properties", "dependentSchemas", "patternProperties"), named),
        **dict.fromkeys(("additionalProperties", "contains", "items", "not", "if", "then", "else"), schemas),
        **dict.fromkeys(("propertyNames", "unevaluatedItems", "unevaluatedProperties", "additionalItems"), schemas),
        **dict.fromkeys(("minContains", "maxContains"), COUNTS),
        "const": VALUES,
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, unique=True, max_size=2), max_size=2),
        "enum": st.lists(VALUES, min_size=1, max_size=25, unique_by=json.dumps),
        "multipleOf": st.sampled_from([1, 2, 3]),
        "pattern": st.sampled_from(["a", "^b", "^.$"]),
        "required": st.lists(NAMES, unique=True, max_size=2),
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
        "uniqueItems": st.booleans(),
    }
    return st.fixed_dictionaries({}, optional=optional).flatmap(few)


def few(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """At most four of the keywords: with all of them nothing is ever valid."""
    keys = st.lists(st.sampled_from(sorted(schema)), unique=True, max_size=4) if schema else st.just([])
    return keys.map(lambda chosen: {key: schema[key] for key in chosen})


SCHEMAS = st.recursive(st.booleans() | st.builds(lambda name: {"type": name}, TYPES), keywords, max_leaves=6)


@settings(max_examples=300, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(schema=SCHEMAS, value=VALUES, draft=st.sampled_from(DRAFTS[2:]), by_reference=st.booleans())
def test_the_verdict_is_that_of_plain_jsonschema(schema: Any, value: Any, draft: str, by_reference: bool) -> None:
    whole = {"$schema": draft, "definitions": {"it": schema}, "properties": {"it": {"$ref": "#/definitions/it"}}}
    if not by_reference:
        whole["properties"] = {"it": schema}
    assert accepts(whole, {"it": value}) is validator_for(whole)(whole).is_valid({"it": value})


def accepts(schema: Any, value: Any) -> bool:
    loaded = load_schema(schema)
    assert loaded is not None
    return loaded.problem(value) is None


@pytest.mark.parametrize(
    ("draft", "schema", "value"),
    [
        (0, {"type": ["string", {"minimum": 5}]}, 7),
        (0, {"type": ["string", {"minimum": 5}]}, 3),
        (0, {"disallow": ["string"]}, "a"),
        (0, {"extends": {"type": "string"}}, 5),
        (0, {"properties": {"a": {"required": True}}}, {}),
        (0, {"type": "any"}, 5),
        (0, {"divisibleBy": 2}, 3),
        (0, {"dependencies": {"a": "b"}}, {"a": 1}),
        (1, {"minimum": 5, "exclusiveMinimum": True}, 5),
        (1, {"type": "integer"}, 1.0),
        (1, {"items": [{"type": "string"}], "additionalItems": False}, ["a", 1]),
        (2, {"type": "integer"}, 1.0),
        (3, {"items": [{"type": "string"}, {"type": "null"}]}, ["a", 1]),
        (3, {"dependencies": {"a": ["b"]}}, {"a": 1}),
        (3, {"contains": {"type": "null"}}, [1]),
        (4, {"items": [{}], "unevaluatedItems": False}, [1, 2]),
        (4, {"items": [{}], "additionalItems": {}, "unevaluatedItems": False}, [1, 2]),
        (5, {"prefixItems": [{}], "unevaluatedItems": False}, [1, 2]),
        (5, {"contains": {"type": "null"}, "unevaluatedItems": False}, [None, 2]),
    ],
)
def test_the_verdict_on_what_few_drafts_have_is_that_of_plain_jsonschema(draft: int, schema: Any, value: Any) -> None:
    whole = {"$schema": DRAFTS[draft], **schema}
    assert accepts(whole, value) is validator_for(whole)(whole).is_valid(value)


def test_a_multiple_is_one_of_the_numbers_as_they_are_written() -> None:
    assert accepts({"multipleOf": 0.1}, 0.3)
    assert accepts({"multipleOf": 0.01}, 10**400)
    assert accepts({"multipleOf": 1e-300}, 1e308)
    assert not accepts({"multipleOf": 0.1}, 0.35)
    assert not accepts({"multipleOf": 0.1}, float("inf"))
    assert not accepts({"multipleOf": 3}, float("nan"))


def union(keyword: str) -> dict[str, Any]:
    """Trees whose branches differ in a key that is looked at last: each level tries both, each with both below."""
    arms = [
        {
            "type": "object",
            "properties": {"left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"}, "op": {"const": op}},
            "required": ["op"],
        }
        for op in ("and", "or")
    ]
    return {"$defs": {"node": {keyword: arms}}, "$ref": "#/$defs/node"}


def nested(depth: int, key: str, **beside: Any) -> dict[str, Any]:
    value: dict[str, Any] = dict(beside)
    for _ in range(depth):
        value = {**beside, key: value}
    return value


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
def test_a_union_of_trees_is_checked_as_deep_as_an_answer_goes(keyword: str) -> None:
    # Each level doubles the work of who tries each branch anew: no test would see the end of 60.
    assert accepts(union(keyword), nested(60, "left", op="or", right={"op": "and"}))
    assert not accepts(union(keyword), nested(60, "left", op="or", right={"op": "xor"}))


DOUBLED = {"$defs": {"n": {"allOf": [{"properties": {"c": {"$ref": "#/$defs/n"}}}] * 2}}, "$ref": "#/$defs/n"}
TREE = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}


def deep(levels: int) -> Any:
    return json.loads('{"children": [' * levels + "]}" * levels)


@pytest.mark.parametrize(
    ("schema", "value"), [(DOUBLED, nested(60, "c")), (TREE, deep(400))], ids=["without an end", "400 levels"]
)
def test_what_cannot_be_checked_is_a_problem_of_the_answer_and_an_error_of_the_request(schema: Any, value: Any) -> None:
    output = load_output(schema)
    assert output is not None
    problem = output.problem(value)
    assert problem is not None
    assert problem.said == problem.told == "it is too large or nested too deep to be checked"
    loaded = load_schema(schema)
    assert loaded is not None
    with pytest.raises(InvalidRequest, match="it is too large or nested too deep for request_schema"):
        loaded.validate(value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"uniqueItems": True}, [{"a": number} for number in range(30_000)]),
        ({"items": {"enum": [*range(3000)]}}, [2999] * 30_000),
        ({"items": {"enum": [f"value {number}" for number in range(3000)]}}, ["value 2999"] * 30_000),
        ({"prefixItems": [{}], "contains": {"type": "integer"}, "unevaluatedItems": False}, [*range(30_000)]),
    ],
    ids=["uniqueItems", "enum of numbers", "enum of texts", "unevaluatedItems"],
)
def test_a_long_answer_is_not_compared_each_with_each(schema: Any, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # What jsonschema compares by: one of its functions that is called for each pair.
    monkeypatch.setattr("jsonschema._utils.equal", lambda *_: pytest.fail("values are compared one by one"))
    assert accepts(schema, value)
