"""Values in the type that the schema states at their path, and what is never touched."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.request.coerce import Node, typed
from airflow_chat_provider.core.request.schema import SHIPPED
from airflow_chat_provider.schema import load_schema


def convert(value: Any, schema: Any) -> Any:
    return typed(value, Node.from_schema(schema))


def of(*names: str, **more: Any) -> dict[str, Any]:
    return {"type": names[0] if len(names) == 1 else list(names), **more}


NUMBER, INTEGER, BOOLEAN = of("number"), of("integer"), of("boolean")
STRING, ARRAY, OBJECT = of("string"), of("array"), of("object")

CONVERSIONS = [
    ("0.2", NUMBER, 0.2),
    (" 7 ", NUMBER, 7),
    ("1e3", NUMBER, 1000.0),
    ("42", INTEGER, 42),
    ("42.0", INTEGER, 42),
    (42.0, INTEGER, 42),
    ("-3", of("integer", "null"), -3),
    ("null", of("integer", "null"), None),
    ("None", of("integer", "null"), None),
    ("None", of("integer", nullable=True), None),
    ("true", BOOLEAN, True),
    ("False", BOOLEAN, False),
    ('["a", 1]', ARRAY, ["a", 1]),
    ("['a', 'b']", ARRAY, ["a", "b"]),
    ("('a', 'b')", ARRAY, ["a", "b"]),
    ('{"a": null}', OBJECT, {"a": None}),
    ("{'a': None}", OBJECT, {"a": None}),
    (42, STRING, "42"),
    (0.5, of("string", "null"), "0.5"),
    (True, STRING, "True"),
    (True, of("string", "array"), "True"),
    (42, of("string", "array"), "42"),
    ("[1, '2']", of("array", items=STRING), ["1", "2"]),
    ('{"n": "5"}', of("object", properties={"n": INTEGER}), {"n": 5}),
    ({"a": "5"}, of("object", additionalProperties=INTEGER), {"a": 5}),
    ([{"a": "5"}], of("array", items=of("object", properties={"a": INTEGER})), [{"a": 5}]),
    ("5", {"anyOf": [INTEGER, of("null")]}, 5),
    ("5", {"oneOf": [{"anyOf": [of("null")]}, INTEGER]}, 5),
]


@pytest.mark.parametrize(("value", "schema", "expected"), CONVERSIONS)
def test_a_value_takes_the_type_that_is_due(value: Any, schema: Any, expected: Any) -> None:
    found = convert(value, schema)
    assert (found, type(found)) == (expected, type(expected))
    assert convert(found, schema) == found


UNTOUCHED = [
    ("42", STRING),
    ("null", of("string", "null")),
    ('["a"]', of("string", "array")),
    ("true", of("string", "boolean")),
    ("42", {}),
    ("42", {"enum": [42]}),  # no type is stated
    ("42", {"anyOf": [NUMBER, {}]}),
    ("42", {"anyOf": [NUMBER, True]}),
    ("warm", NUMBER),
    ("", NUMBER),
    ("0.5", INTEGER),
    ("true", NUMBER),
    ("1", BOOLEAN),
    ("NaN", NUMBER),
    ("1e999", NUMBER),
    ("-Infinity", of("number", "null")),
    pytest.param("9" * 5000, INTEGER, id="too long to read"),
    pytest.param(10**5000, STRING, id="too long to write"),
    ("{{ params.t }}", NUMBER),
    pytest.param("[" * 5000, ARRAY, id="nested too deep to read"),
    ("__import__('os').getcwd()", OBJECT),
    ("{1, 2}", ARRAY),
    ("b'x'", NUMBER),
    ("x\x00", NUMBER),
    pytest.param("['" + "x" * 1_000_000 + "']", ARRAY, id="a literal that nobody wrote by hand"),
    (None, STRING),
    (None, NUMBER),
    (True, NUMBER),
    (0.5, INTEGER),
    (float("inf"), INTEGER),
    ([42], STRING),
    ({"a": 1}, STRING),
    ([1], OBJECT),
    ({"a": "5"}, OBJECT),
    ({"a": "5"}, of("object", additionalProperties=True)),
    ({"a": "5"}, of("object", additionalProperties=False)),
    ({"a": "5"}, of("object", additionalProperties=NUMBER, patternProperties={"^a": STRING})),
    (["5"], ARRAY),
    (["5"], of("array", items=True)),
    (["5"], of("array", items=NUMBER, prefixItems=[STRING])),
    (["5"], of("array", items=[STRING], additionalItems=NUMBER)),
    ({"a": {"b": "5"}}, of("object", properties={"a": NUMBER})),
    # The second form lets anything be there, and the value may be meant for it.
    ({"a": "5"}, {"anyOf": [of("object", properties={"a": NUMBER}), OBJECT]}),
    (["5"], {"anyOf": [of("array", items=NUMBER), ARRAY]}),
]


@pytest.mark.parametrize(("value", "schema"), UNTOUCHED)
def test_what_may_stand_or_cannot_be_converted_is_the_same_object(value: Any, schema: Any) -> None:
    assert convert(value, schema) is value


REFERENCES = [
    ({"$ref": "#/$defs/n", "$defs": {"n": NUMBER}}, "5", 5),
    ({"$ref": "#/$defs/a~1b~0c%20d", "$defs": {"a/b~c d": NUMBER}}, "5", 5),
    ({"properties": {"x": {"$ref": "#/anyOf/1"}}, "anyOf": [{}, NUMBER]}, {"x": "5"}, {"x": 5}),
    ({"$ref": "https://example.com/n.json"}, "5", "5"),
    ({"$ref": "n.json"}, "5", "5"),
    ({"$ref": "#/$defs/none"}, "5", "5"),
    ({"$ref": "#/anyOf/x", "anyOf": [NUMBER]}, "5", "5"),
    ({"$ref": "#/type/x", "type": "number"}, "5", "5"),
    ({"anyOf": [NUMBER, {"$ref": "https://example.com/n.json"}]}, "5", "5"),
    # An anchor is not looked up; the root, which it is not, must not be taken for it.
    ({"type": "object", "properties": {"x": {"$ref": "#text"}}}, {"x": '{"a": 1}'}, {"x": '{"a": 1}'}),
    ({"$ref": "#"}, "5", "5"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "5", "5"),
]


@pytest.mark.parametrize(("schema", "value", "expected"), REFERENCES)
def test_references_within_the_schema_are_followed_and_others_say_nothing(
    schema: Any, value: Any, expected: Any
) -> None:
    assert convert(value, schema) == expected


def test_a_recursive_schema_is_followed_as_deep_as_the_value_goes() -> None:
    tree = of("object", properties={"n": INTEGER, "below": of("array", items={"$ref": "#"})})
    value = {"n": "1", "below": [{"n": "2", "below": '[{"n": "3"}]'}]}
    assert convert(value, tree) == {"n": 1, "below": [{"n": 2, "below": [{"n": 3}]}]}


PETS = {
    "$defs": {
        "cat": of("object", properties={"kind": STRING, "lives": INTEGER}),
        "dog": of("object", properties={"kind": STRING, "lives": STRING}),
    },
    "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
    "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/cat", "dog": "#/$defs/dog"}},
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"kind": "cat", "lives": "9"}, {"kind": "cat", "lives": 9}),
        ('{"kind": "cat", "lives": "9"}', {"kind": "cat", "lives": 9}),
        ({"kind": "dog", "lives": "9"}, {"kind": "dog", "lives": "9"}),
        ({"kind": "dog", "lives": 9}, {"kind": "dog", "lives": "9"}),
        ({"kind": "cow", "lives": "9"}, {"kind": "cow", "lives": "9"}),
        ({"kind": ["cat"], "lives": "9"}, {"kind": ["cat"], "lives": "9"}),
        ({"lives": "9"}, {"lives": "9"}),
    ],
)
def test_the_discriminator_says_which_branch_is_due(value: Any, expected: Any) -> None:
    assert convert(value, PETS) == expected


def test_without_a_discriminator_value_the_default_branch_is_due() -> None:
    schema = {**PETS, "discriminator": {**PETS["discriminator"], "defaultMapping": "#/$defs/cat"}}  # type: ignore[dict-item]
    assert convert({"lives": "9"}, schema) == {"lives": 9}


@pytest.mark.parametrize("discriminator", ["kind", {}, {"propertyName": 5}, {"propertyName": "kind"}, None])
def test_a_discriminator_without_a_mapping_says_nothing(discriminator: Any) -> None:
    schema = {**PETS, "discriminator": discriminator}
    assert convert({"kind": "cat", "lives": "x"}, schema) == {"kind": "cat", "lives": "x"}


REQUEST = {
    "model": 4,
    "messages": '[{"role": "user", "content": 42}]',
    "temperature": "0.2",
    "n": "2",
    "stream": "False",
    "stop": '["a", "5"]',
    "seed": 7.0,
    "max_tokens": "none",
    "logit_bias": {"50256": "-100"},
    "tools": [{"type": "function", "function": {"name": 5, "parameters": '{"type": "object"}'}}],
    "tool_choice": "auto",
    "response_format": '{"type": "json_object"}',
    "top_k": "40",
}
TYPED = {
    "model": "4",
    "messages": [{"role": "user", "content": "42"}],
    "temperature": 0.2,
    "n": 2,
    "stream": False,
    "stop": '["a", "5"]',  # may be text
    "seed": 7,
    "max_tokens": "none",  # for validation to name
    "logit_bias": {"50256": -100},
    "tools": [{"type": "function", "function": {"name": "5", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "response_format": {"type": "json_object"},
    "top_k": "40",  # the schema does not know it
}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_rendered_request_is_typed_by_a_shipped_schema(name: str) -> None:
    schema = load_schema(name)
    assert schema is not None
    found = schema.typed(REQUEST)
    assert found == TYPED
    assert [type(value) for value in found.values()] == [type(value) for value in TYPED.values()]
    assert REQUEST["temperature"] == "0.2", "the argument is not changed"
    assert schema.typed(found) is found


def test_messages_are_typed_by_their_role_and_parts_by_their_type() -> None:
    schema = load_schema("2026-11")
    assert schema is not None
    call = {"id": 1, "type": "function", "function": {"name": "f", "arguments": 5}}
    parts = [{"type": "text", "text": 5}, {"type": "file", "file": '{"file_id": 7}'}]
    request = {
        "messages": [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": "null", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": 1, "content": 5},
        ]
    }
    assert schema.typed(request)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "5"}, {"type": "file", "file": {"file_id": "7"}}]},
        {
            "role": "assistant",
            "content": "null",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "5"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "5"},
    ]
