"""Patterns take a time that grows with the text: those of answers, of tools and of requests."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from airflow_chat_provider.core.answer.output_schema import Tools, load_output
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.schema import load_schema, validate_request

# Python's engine needs longer than anybody lives for each of these: a test that hangs is a test that fails.
TRAP = "^(a+)+$"
TEXT = "a" * 5000 + "!"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": TRAP}, TEXT),
        ({"propertyNames": {"pattern": TRAP}}, {TEXT: 1}),
        ({"patternProperties": {TRAP: False}, "additionalProperties": False}, {TEXT: 1}),
        ({"patternProperties": {TRAP: {}}, "unevaluatedProperties": False}, {TEXT: 1}),
        ({"allOf": [{"patternProperties": {TRAP: {}}}], "unevaluatedProperties": False}, {TEXT: 1}),
        ({"if": {"pattern": TRAP}, "else": False}, TEXT),
        ({"contains": {"pattern": TRAP}}, [TEXT]),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "pattern": TRAP}, TEXT),
        # A reference to the root, whose $schema would bring jsonschema's own validator back.
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", "items": {"$ref": "#"}, "pattern": TRAP}, [TEXT]),
    ],
)
def test_a_pattern_that_backtracks_ends(schema: dict[str, Any], value: Any) -> None:
    output = load_output(schema)
    assert output is not None
    assert output.problem(value) is not None
    with pytest.raises(InvalidRequest):
        validate_request(value, schema)


def test_a_pattern_in_a_tool_ends() -> None:
    parameters = {"type": "object", "properties": {"name": {"pattern": TRAP}}}
    tools = Tools({"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]})
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": f'{{"name": "{TEXT}"}}'}}
    (found,) = tools.calls({"tool_calls": [call]})
    assert found.problem is not None


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("b", "abc", "ac"),  # anywhere in the text
        ("^a$", "a", "a\n"),  # as JSON Schema means it: not before a line's end
        (r"^\p{L}+$", "größe", "5"),  # of ECMAScript, which Python does not know
        (r"^\d{4}-\d{2}$", "2026-11", "2026-1"),
        (r"\/", "a/b", "ab"),
        (r"^\u0041$", "A", "B"),
    ],
)
def test_a_pattern_means_what_json_schema_says(pattern: str, matching: str, other: str) -> None:
    validate_request(matching, {"pattern": pattern})
    with pytest.raises(InvalidRequest):
        validate_request(other, {"pattern": pattern})


@pytest.mark.parametrize(
    ("schema", "where", "why"),
    [
        ({"pattern": "^(?!bad)"}, "'^(?!bad)' at $.pattern", "look-around"),
        ({"properties": {"a b": {"pattern": r"(a)\1"}}}, "at $.properties['a b'].pattern", "backreferences"),
        ({"patternProperties": {"(?=x)": {}}}, "at $.patternProperties", "look-around"),
        (
            {"$defs": {"a": {"pattern": r"\w{1,5000}"}}, "items": {"$ref": "#/$defs/a"}},
            "at $['$defs'].a.pattern",
            "size",
        ),
        (
            {"items": [{}, {"pattern": "["}], "$schema": "http://json-schema.org/draft-07/schema#"},
            "at $.items[1].p",
            "",
        ),
    ],
)
def test_a_pattern_that_cannot_be_matched_in_linear_time_is_refused_when_the_schema_is_loaded(
    schema: dict[str, Any], where: str, why: str
) -> None:
    for load in (load_schema, load_output):
        with pytest.raises(InvalidRequest) as caught:
            load(schema)
        assert where in caught.value.message
        assert why in caught.value.message


def test_a_class_matches_its_own_patterns_by_its_own_engine() -> None:
    class Code(BaseModel):
        model_config = ConfigDict(regex_engine="python-re")
        code: str = Field(pattern="^(?!0)[0-9]+$")

    output = load_output(Code)
    assert output is not None
    assert output.problem({"code": "12"}) is None
    assert output.problem({"code": "01"}) is not None


def test_a_text_that_is_too_long_for_a_large_pattern_is_not_matched() -> None:
    output = load_output({"pattern": "^[a-z]{1,500}$|x.{100}y"})
    assert output is not None
    problem = output.problem("ab x" * 1_000_000)
    assert problem is not None
    assert "too large" in problem.said
