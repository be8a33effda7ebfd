"""What a schema's references lead to is found out when it is loaded: later an answer has been paid for."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.answer.output_schema import Tools, load_output
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.schema import load_schema

CITY = {"$defs": {"City": {"type": "object", "properties": {"zip": {"type": "string"}}, "required": ["zip"]}}}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"


def of_request(schema: dict[str, Any]) -> None:
    load_schema(schema)


def of_answer(schema: dict[str, Any]) -> None:
    load_output(schema)


def of_tool(schema: dict[str, Any]) -> None:
    Tools({"tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}]})


def of_function(schema: dict[str, Any]) -> None:
    Tools({"functions": [{"name": "weather", "parameters": schema}]})


BROKEN: list[tuple[dict[str, Any], str]] = [
    (
        {**CITY, "properties": {"city": {"$ref": "#/definitions/City"}}},
        "its reference '#/definitions/City' at $.properties.city leads nowhere; did you mean '#/$defs/City'?",
    ),
    ({**CITY, "items": {"$ref": "#/$defs/Citty"}}, "did you mean '#/$defs/City'?"),
    ({"definitions": {"City": {}}, "items": {"$ref": "#/$defs/City"}}, "did you mean '#/definitions/City'?"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"x": {"$ref": "#/$defs/b"}}}}}, "'#/$defs/b'"),
    ({"$ref": "https://example.com/city.json"}, "leads nowhere, because nothing is fetched: copy that schema"),
    ({"$ref": "city.json"}, "nothing is fetched"),
    ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
    ({"$ref": "#city"}, "'#city' at $ leads nowhere"),
    ({"$dynamicRef": "#city"}, "'#city' at $ leads nowhere"),
    ({"$ref": "#/anyOf/first", "anyOf": [{}]}, "leads nowhere"),
    ({"items": {"$ref": "#/title/0"}, "title": "x"}, "leads to a value that is not a schema"),
    ({"items": {"$ref": "#/title"}, "title": "x"}, "leads to a value that is not a schema"),
    ({"items": {"$ref": "#/required"}, "required": ["x"]}, "leads to a value that is not a schema"),
    (
        {"items": {"$ref": "#/x-shared/city"}, "x-shared": {"city": {"type": "objekt"}}},
        """$.type is 'objekt', which is not a type: write "object"; the types are 'array', 'boolean', 'integer',""",
    ),
    (
        {"$schema": DRAFT_7, "items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": 5}}},
        "type must be one of 'array', 'boolean', 'integer',",
    ),
    (
        {"oneOf": [{}], "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/components/schemas/Cat"}}},
        "'#/components/schemas/Cat'",
    ),
    ({"$ref": "#"}, "refers to itself without end"),
    ({"allOf": [{"$ref": "#"}]}, "refers to itself without end"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "without end"),
    ({"items": {"anyOf": [{"type": "null"}, {"$ref": "#/items"}]}}, "without end"),
    ({"dependentSchemas": {"a": {"$ref": "#"}}}, "without end"),
    ({"$schema": DRAFT_2019, "allOf": [{"$recursiveRef": "#"}]}, "without end"),
    ({"$schema": ["x"]}, "its $schema is not text"),
    ({"not": {"$id": "http://[bad", "items": {"$ref": "x"}}}, "leads nowhere"),
]


@pytest.mark.parametrize("load", [of_request, of_answer, of_tool, of_function])
@pytest.mark.parametrize(("schema", "words"), BROKEN)
def test_a_reference_that_leads_nowhere_or_to_no_end_is_refused_when_the_schema_is_loaded(
    load: Any, schema: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("the core must not use the network"))
    with pytest.raises(InvalidRequest) as caught:
        load(schema)
    assert words in caught.value.message
    assert caught.value.keyword == "schema"


def test_an_unusable_schema_of_a_tool_is_named_by_the_tool() -> None:
    with pytest.raises(InvalidRequest, match="Correct the parameters of tool 'weather': its reference '#/x'"):
        of_tool({"$ref": "#/x"})


GOOD: list[tuple[dict[str, Any], Any, Any]] = [
    ({**CITY, "$ref": "#/$defs/City"}, {"zip": "1"}, {}),
    ({"definitions": CITY["$defs"], "$ref": "#/definitions/City"}, {"zip": "1"}, {}),
    ({"$defs": {"a": {"$anchor": "here", "type": "null"}}, "items": {"$ref": "#here"}}, [None], [1]),
    ({"$id": "http://x/a", "$defs": {"b": {"$id": "b", "type": "null"}}, "items": {"$ref": "b"}}, [None], [1]),
    (
        {"$id": "http://x/a/", "$defs": {"b": {"$id": "b/", "items": {"$ref": "c"}}, "c": {"$id": "b/c", "const": 1}}}
        | {"items": {"$ref": "b/"}},
        [[1]],
        [[2]],
    ),
    ({"$id": "http://x/a", "items": {"$id": "b", "$defs": {"c": {"const": 1}}, "$ref": "#/$defs/c"}}, [1], [2]),
    ({"x-shared": {"city": {"type": "null"}}, "items": {"$ref": "#/x-shared/city"}}, [None], [1]),
    ({"$defs": {"a/b~": {"type": "null"}}, "items": {"$ref": "#/$defs/a~1b~0"}}, [None], [1]),
    (
        {"$defs": {"yes": True, "no": False}, "prefixItems": [{"$ref": "#/$defs/yes"}, {"$ref": "#/$defs/no"}]},
        [1],
        [1, 2],
    ),
    ({"properties": {"children": {"items": {"$ref": "#"}}}, "required": ["n"]}, {"n": 1}, {"n": 1, "children": [{}]}),
    ({"$dynamicAnchor": "t", "items": {"$dynamicRef": "#t"}, "type": "array"}, [[[]]], [[1]]),
    ({"$schema": DRAFT_2019, "items": {"$recursiveRef": "#"}, "type": "array"}, [[[]]], [[1]]),
    ({"$schema": DRAFT_7, "definitions": {"a": {"type": "null"}}, "$ref": "#/definitions/a", "minimum": 9}, None, 1),
    ({"properties": {"$ref": {"type": "string"}}}, {"$ref": "x"}, {"$ref": 5}),
    ({"const": {"$ref": "#/nowhere"}}, {"$ref": "#/nowhere"}, {}),
    ({"$defs": {"unused": {"$ref": "#/nowhere"}}, "type": "null"}, None, 1),
    (
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "items": {"$ref": "#"}, "type": "array"},
        [[]],
        [[5]],
    ),
]


@pytest.mark.parametrize(("schema", "good", "bad"), GOOD)
def test_what_references_lead_to_is_what_counts(schema: dict[str, Any], good: Any, bad: Any) -> None:
    output = load_output(schema)
    assert output is not None
    assert output.problem(good) is None
    assert output.problem(bad) is not None


def test_a_schema_that_is_nested_too_deep_to_be_read_is_refused_and_takes_nothing_down() -> None:
    schema: dict[str, Any] = {}
    for _ in range(400):
        schema = {"items": schema}
    with pytest.raises(InvalidRequest, match="nested too deep"):
        load_output(schema)
