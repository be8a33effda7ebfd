"""A value that only a template knows passes every keyword; what is known beside it does not."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.keywords import checks_of
from airflow_chat_provider.core.request.validator import UNKNOWN, holds_unknown
from airflow_chat_provider.schema import validate_request

# Each with a value that no text, number, list or object meets.
STRICTEST: dict[str, Any] = {
    "$dynamicRef": "#/$defs/none",
    "$ref": "#/$defs/none",
    "additionalProperties": False,
    "allOf": [{"type": "null"}],
    "anyOf": [{"type": "null"}, {"const": 5}],
    "const": 5,
    "contains": {"type": "null"},
    "dependentRequired": {"a": ["b"]},
    "dependentSchemas": {"a": {"type": "null"}},
    "enum": [5],
    "exclusiveMaximum": 0,
    "exclusiveMinimum": 9,
    "format": "date",
    "if": {},
    "items": {"type": "null"},
    "maxItems": 0,
    "maxLength": 0,
    "maxProperties": 0,
    "maximum": 0,
    "minItems": 9,
    "minLength": 9,
    "minProperties": 9,
    "minimum": 9,
    "multipleOf": 7,
    "not": {},
    "oneOf": [{}, {}],
    "pattern": "^$",
    "patternProperties": {".": {"type": "null"}},
    "prefixItems": [{"type": "null"}],
    "properties": {"a": {"type": "null"}},
    "propertyNames": {"maxLength": 0},
    "required": ["a"],
    "type": "null",
    "unevaluatedItems": {"type": "null"},
    "unevaluatedProperties": {"type": "null"},
    "uniqueItems": True,
}


def test_every_keyword_of_the_draft_is_in_the_table() -> None:
    # Those of older drafts stay in the validator's own list.
    older = {"additionalItems", "dependencies", "definitions", "extends", "disallow", "divisibleBy", "$recursiveRef"}
    assert set(Draft202012Validator.VALIDATORS) - older == set(STRICTEST)


@pytest.mark.parametrize("keyword", STRICTEST)
def test_an_unknown_value_passes_each_keyword(keyword: str) -> None:
    schema = {keyword: STRICTEST[keyword], "then": {"type": "null"}, "$defs": {"none": {"type": "null"}}}
    validate_request(UNKNOWN, schema)
    validate_request({"a": UNKNOWN}, {"properties": {"a": schema}, "$defs": schema["$defs"]})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": [5]}, [UNKNOWN]),
        ({"enum": [{"a": 5}]}, {"a": UNKNOWN}),
        ({"not": {"required": ["a"]}}, {"a": UNKNOWN}),
        ({"contains": {"const": 5}}, [1, UNKNOWN]),
        ({"uniqueItems": True}, [UNKNOWN, UNKNOWN]),
        ({"if": {"properties": {"a": {"const": 1}}}, "then": False}, {"a": UNKNOWN}),
        ({"oneOf": [{"required": ["a"]}, {"properties": {"a": {}}}]}, {"a": UNKNOWN}),
        ({"anyOf": [{"const": [1]}, {"const": [2]}]}, [UNKNOWN]),
        (
            {
                "if": {"properties": {"a": {"const": 1}}},
                "else": {"properties": {"b": {}}},
                "unevaluatedProperties": False,
            },
            {"a": UNKNOWN, "b": 1},
        ),
    ],
)
def test_a_value_that_is_partly_unknown_passes_what_compares_it_whole(schema: Any, value: Any) -> None:
    validate_request(value, schema)


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        ({"model": UNKNOWN, "messages": []}, "$.messages"),
        ({"messages": UNKNOWN}, "$"),
        ({"model": "m", "messages": [UNKNOWN, {"role": "uesr", "content": UNKNOWN}]}, "$.messages[1].role"),
        ({"model": "m", "messages": [{"role": UNKNOWN}, {"role": "user"}]}, "$.messages[1]"),
        ({"model": "m", "messages": UNKNOWN, "stop": [UNKNOWN] * 5}, "$.stop"),
        ({"model": "m", "messages": UNKNOWN, "logit_bias": {"1": UNKNOWN, "2": "x"}}, "$.logit_bias['2']"),
    ],
)
def test_what_is_known_is_judged_beside_what_is_not(request_: Any, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate_request(request_)
    assert caught.value.path == path
    assert "Unknown" not in str(caught.value)


def test_an_older_draft_has_no_keywords_that_it_did_not_know() -> None:
    assert "unevaluatedProperties" not in checks_of(Draft7Validator)
    assert "const" in checks_of(Draft7Validator)


def test_an_unknown_value_has_a_readable_repr() -> None:
    assert repr(UNKNOWN) == "<known when the task runs>"
    assert holds_unknown([{"a": [UNKNOWN]}])
    assert not holds_unknown([{"a": [None, "x"]}])
