"""The request schemas: which bodies they accept, and how an error reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.schema import DEFAULT_SCHEMA, SHIPPED
from airflow_chat_provider.schema import load_schema, validate_request
from tests.support.bodies import CASES, MINIMAL, NAMES, judge, shipped

OPENAI = "https://api.openai.com/v1"


def refusal(body: Any, schema: Any = DEFAULT_SCHEMA) -> InvalidRequest:
    """What OpenAI's own server is not sent."""
    with pytest.raises(InvalidRequest) as caught:
        validate_request(body, schema, base_url=OPENAI)
    return caught.value


def message(body: Any, schema: Any = DEFAULT_SCHEMA) -> str:
    return words_of(refusal(body, schema))


def words_of(error: InvalidRequest) -> str:
    """The error without what to do about it."""
    return str(error).partition(": ")[2].partition("; nothing was sent")[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_verdict_and_path_are_those_of_the_collection(case: dict[str, Any]) -> None:
    schema = NAMES[case["schema"]]
    assert judge(schema).is_valid(case["body"]) is case["valid"], "the collection contradicts the schema"
    if case["valid"]:
        validate_request(case["body"], schema, base_url=OPENAI)
    else:
        assert refusal(case["body"], schema).path == case["path"]


@pytest.mark.parametrize("case", [c for c in CASES if c["valid"]], ids=lambda case: case["name"])
def test_what_was_valid_in_2023_still_is(case: dict[str, Any]) -> None:
    validate_request(case["body"], "2026-11")


@pytest.mark.parametrize("schema", [*SHIPPED, DEFAULT_SCHEMA, {}, {"type": "object"}])
def test_a_minimal_request_is_valid(schema: Any) -> None:
    validate_request(MINIMAL, schema)


def test_without_a_schema_nothing_is_checked() -> None:
    assert load_schema(None) is None
    validate_request({"what": "ever"}, None)


ROLES = "'developer', 'system', 'user', 'assistant', 'tool', 'function'"
AS_TEXT = "to send it as text, end the template with '| tojson', or use json.dumps"
WORDINGS = [
    ({"temperature": "0.2"}, "type", "$.temperature: must be a number or null, got a string"),
    ({"temperature": ""}, "type", "$.temperature: must be a number or null, got an empty string"),
    ({"temperature": True}, "type", "$.temperature: must be a number or null, got true"),
    ({"temperature": [1]}, "type", "$.temperature: must be a number or null, got an array"),
    ({"temperature": {}}, "type", "$.temperature: must be a number or null, got an object"),
    ({"temperature": 2.5}, "maximum", "$.temperature: must be at most 2, got 2.5"),
    ({"temperature": -1}, "minimum", "$.temperature: must be at least 0, got -1"),
    ({"n": 10**40}, "maximum", "$.n: must be at most 128, got a huge integer"),
    ({"stop": list("abcde")}, "maxItems", "$.stop: must have at most 4 items, but has 5"),
    ({"stop": []}, "minItems", "$.stop: must have at least 1 item, but has 0"),
    (
        {"safety_identifier": "x" * 129},
        "maxLength",
        "$.safety_identifier: must have at most 128 characters, but has 129",
    ),
    ({"logit_bias": {"50256": "x"}}, "type", "$.logit_bias['50256']: must be an integer, got a string"),
    ({"verbosity": "hihg"}, "enum", "$.verbosity: must be one of 'low', 'medium', 'high'; did you mean 'high'?"),
    ({"tool_choice": "any"}, "enum", "$.tool_choice: must be one of 'none', 'auto', 'required'"),
    (
        {"audio": {"voice": {"id": "v", "nmae": 1}, "format": "mp3"}},
        "anyOf",
        "$.audio.voice: has none of the allowed forms, got an object",
    ),
    (
        {"messages": [{"role": "uesr", "content": "Hi"}]},
        "enum",
        f"$.messages[0].role: must be one of {ROLES}; did you mean 'user'?",
    ),
    ({"messages": [{"content": "Hi"}]}, "required", "$.messages[0]: 'role' is missing"),
    (
        {"messages": [{"role": "user", "contents": "Hi"}]},
        "required",
        "$.messages[0]: 'content' is missing; did you write 'contents' instead?",
    ),
    ({"messages": ["Hi"]}, "type", "$.messages[0]: must be an object, got a string"),
    (
        {"messages": [{"role": "tool", "tool_call_id": {}, "content": "x"}]},
        "type",
        f"$.messages[0].tool_call_id: must be a string, got an object; {AS_TEXT}",
    ),
]


@pytest.mark.parametrize(("change", "keyword", "words"), WORDINGS)
def test_an_error_says_where_what_is_allowed_and_what_came(change: dict[str, Any], keyword: str, words: str) -> None:
    error = refusal({**MINIMAL, **change})
    assert (error.keyword, words_of(error)) == (keyword, words)
    assert words.startswith(f"{error.path}: ")


def test_at_most_five_errors_are_listed_and_the_rest_is_mentioned() -> None:
    body = {**MINIMAL, "n": 0, "top_p": 2, "seed": "x", "stop": [], "tools": 1, "user": 1}
    assert message(body).count("$.") == 5
    assert message(body).endswith("; (and more after the first 5)")
    del body["user"]
    assert message(body).count("$.") == 5
    assert "and more" not in message(body)


def test_a_long_enum_is_cut_but_its_nearest_value_is_named() -> None:
    schema = {"enum": [f"model-{number:02}" for number in range(40)]}
    text = message("modle-39", schema)
    assert "'model-11', ...; did you mean 'model-39'?" in text
    assert "model-12" not in text


USER_WORDINGS = [
    (shipped("2023-12"), {**MINIMAL, "tools": None}, "$.tools: must be an array, got null; leave the key out instead"),
    ({"const": 5}, 6, "must be 5"),
    ({"const": {"a": 1}}, 6, "must be the value in the schema"),
    ({"enum": [1, 2]}, 3, "must be one of 1, 2, got 3"),
    ({"enum": [1, 2]}, None, "must be one of 1, 2, got null"),
    ({"pattern": "^a+$"}, "b", "must match the pattern '^a+$'"),
    ({"exclusiveMinimum": 0}, 0, "must be more than 0, got 0"),
    ({"exclusiveMaximum": 1}, 1.0, "must be less than 1, got 1.0"),
    ({"multipleOf": 2}, 3, "must be a multiple of 2, got 3"),
    ({"minLength": 2}, "a", "must have at least 2 characters, but has 1"),
    ({"minProperties": 1}, {}, "must have at least 1 key, but has 0"),
    ({"maxProperties": 0}, {"a": 1}, "must have at most 0 keys, but has 1"),
    ({"uniqueItems": True}, [1, 1], "breaks the schema's rule 'uniqueItems'"),
    ({"not": {}}, 1, "breaks the schema's rule 'not'"),
    ({"oneOf": [{"minimum": 0}, {"maximum": 9}]}, 5, "matches more than one of the allowed forms"),
    ({"anyOf": [{"minimum": 9}, {"maximum": 0}]}, 5, "has none of the allowed forms, got 5"),
    (
        {"anyOf": [{"type": "string"}, {"type": ["integer", "null"]}]},
        0.5,
        "must be a string, an integer or null, got 0.5",
    ),
    ({"anyOf": [False]}, {}, "must be"),
    (
        {"properties": {"size": {}}, "additionalProperties": False},
        {"sise": 1},
        "has a key that is not allowed: 'sise'; did you mean 'size'?",
    ),
    ({"patternProperties": {"^x-": {}}, "additionalProperties": False}, {"x-a": 1, "b": 1}, "not allowed: 'b'"),
]


@pytest.mark.parametrize(("schema", "instance", "words"), USER_WORDINGS)
def test_a_users_own_schema_gets_the_same_kind_of_words(schema: Any, instance: Any, words: str) -> None:
    assert words in message(instance, schema)


def test_a_property_that_a_schema_forbids_is_named() -> None:
    error = refusal({"a": 1}, {"properties": {"a": False}})
    assert (error.keyword, "is not allowed here" in str(error)) == ("false", True)


TREE = {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}
PETS = {
    "$defs": {
        "cat": {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}},
        "dog": {"type": "object", "properties": {"kind": {"const": "dog"}}, "required": ["name"]},
    },
    "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
    "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/cat", "dog": "#/$defs/dog"}},
}


@pytest.mark.parametrize(
    ("schema", "good", "bad", "path"),
    [
        (TREE, [[], [[]]], [[], ["x"]], "$[1][0]"),
        (PETS, {"kind": "cat", "lives": 9}, {"kind": "cat", "lives": "nine"}, "$.lives"),
        (PETS, {"kind": "dog", "name": "Rex"}, {"kind": "dog"}, "$"),
        (PETS, {"kind": "dog", "name": "Rex"}, {"kind": "cow"}, "$.kind"),
        (PETS, {"kind": "dog", "name": "Rex"}, {"name": "Rex"}, "$"),
        ({"type": "integer", "nullable": True}, None, "x", "$"),
        ({"enum": ["a"], "nullable": True}, None, "x", "$"),
        ({"enum": [1, 2]}, 1, "x", "$"),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "const": 2}, 1, "x", "$"),
        ({"discriminator": {"propertyName": "kind"}, "oneOf": [{"required": ["a"]}]}, {"a": 1, "kind": "x"}, {}, "$"),
        ({"discriminator": "kind", "oneOf": [{"required": ["a"]}]}, {"a": 1}, {}, "$"),  # as Swagger 2 wrote it
        ({"discriminator": {}, "oneOf": [{"required": ["a"]}]}, {"a": 1}, {}, "$"),
    ],
)
def test_a_users_schema_may_use_references_drafts_and_openapis_keywords(
    schema: Any, good: Any, bad: Any, path: str
) -> None:
    validate_request(good, schema)
    assert refusal(bad, schema).path == path


BAD_SCHEMAS = [
    ("2024-01", "does not exist"),
    ("gpt.yaml", "does not exist"),
    ("/nonexistent/schema.json", "the file cannot be read (No such file or directory)"),
    ({"type": "strnig"}, "$.type is 'strnig', which is not a type: write \"string\""),
    ({"pattern": "["}, "its pattern '[' at $.pattern"),
    ({"enum": {1, 2}}, "$.enum is a set, which JSON cannot hold"),
]


@pytest.mark.parametrize(("source", "words"), BAD_SCHEMAS)
def test_a_schema_that_is_none_is_refused_when_it_is_loaded(source: Any, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load_schema(source)
    assert words in str(caught.value)
    assert (caught.value.path, caught.value.keyword) == ("request_schema", "schema")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "Expecting property name enclosed in double quotes at line 1, column 2"),
        (b"[]", "it is not a JSON object"),
        (b'"\xff"', "the file is not UTF-8"),
    ],
)
def test_a_file_that_holds_no_schema_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=f"mine.json.*{words}"):
        load_schema(str(path))


def test_a_schema_may_be_the_path_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"required": ["tier"]}), "utf-8")
    for source in (path, str(path)):
        assert refusal({}, source).keyword == "required"


@pytest.mark.parametrize("reference", ["https://example.com/schema.json", "#/$defs/none", "other.json", "file:///etc"])
def test_a_reference_that_leads_out_of_the_schema_is_an_error_and_fetches_nothing(
    reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("the core must not use the network"))
    error = refusal({"a": 1}, {"properties": {"a": {"$ref": reference}}})
    assert (error.path, error.keyword) == ("request_schema", "schema")
    assert "leads nowhere" in str(error)


def test_a_schema_that_refers_to_itself_without_end_is_an_error() -> None:
    assert "refers to itself without end" in str(refusal({}, {"$ref": "#"}))


def test_a_loaded_schema_knows_its_properties_and_is_kept() -> None:
    loaded = load_schema("2023-12")
    assert loaded is not None
    assert {"model", "messages", "functions"} <= loaded.properties
    assert "max_completion_tokens" not in loaded.properties
    assert load_schema("2023-12") is loaded
    assert load_schema({"type": "object"}) is load_schema({"type": "object"})


PART = {"type": "text", "text": "Hi"}
MESSAGE = {"role": "user", "content": "Hi"}
WAY_OUT = "; nothing was sent, and request_schema='open' sends it as it is"
JOIN = 'Join the list of texts into one text with "\\n".join(...)'


@pytest.mark.parametrize("schema", SHIPPED)
@pytest.mark.parametrize(
    ("messages", "remedy"),
    [
        ([{"role": "user", "content": ["a", "b"]}], JOIN),
        ([{"role": "user", "content": [PART, "b"]}], JOIN),
        ([{"role": "system", "content": ["a", "b"]}, MESSAGE], JOIN),
        (["a", "b"], JOIN),
        (
            [{"role": "user", "content": [MESSAGE]}],
            "Give the messages as messages: a prompt is a text or a list of parts",
        ),
        ([PART], 'Put the parts into a message, {"role": "user", "content": [...]}'),
        (MESSAGE, "Put the message into a list"),
        ([{"role": "user", "content": PART}], "Put the part into a list"),
        ([{"role": "user", "content": [7]}], None),
        ([{"role": "user", "content": {"a": 1}}], None),
    ],
)
def test_messages_in_a_shape_that_is_often_taken_for_another_are_told_what_to_do(
    messages: Any, remedy: str | None, schema: str
) -> None:
    error = str(refusal({"model": "m", "messages": messages}, schema))
    assert error.startswith(f"{remedy or 'Correct the request'}: $.messages")
    assert error.endswith("; nothing was sent") or (schema != "2023-12" and error.endswith(WAY_OUT))
