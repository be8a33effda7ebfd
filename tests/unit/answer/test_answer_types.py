"""What ``response_schema`` may be besides a dict, and the object in which servers are asked for what is not one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
from airflow_chat_provider.core.answer.output_schema import load_output
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.result import result
from airflow_chat_provider.core.request.rules import check_rules
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.schema import load_response_schema

REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


class Cat(BaseModel):
    lives: int


class Dog(BaseModel):
    answer: str


class Tree(BaseModel):
    children: list[Tree] = []


@dataclass
class Point:
    x: int


class Movie(TypedDict):
    title: str


ADULT = Annotated[int, Field(ge=18)]

# A type, a value that fits, one that does not, and the key under which servers are asked for it.
TYPES: list[tuple[Any, Any, Any, str | None]] = [
    (list[Cat], [{"lives": 9}], [{"lives": "many"}], "items"),
    (TypeAdapter(list[Cat]), [{"lives": 9}], {"lives": 9}, "items"),
    (set[Literal["a", "b"]], ["a"], ["c"], "items"),
    (tuple[int, str], [1, "a"], [1], "items"),
    (Cat | Dog, {"answer": "woof"}, {"answer": 1}, "answer"),
    (Union[Cat, Dog], {"lives": 9}, {}, "answer"),  # noqa: UP007 - as older code writes it
    (Optional[Cat], None, 5, "answer"),  # noqa: UP045 - as above
    (Literal["good", "bad"], "good", "so so", "answer"),
    (ADULT, 18, 17, "answer"),
    (str, "hello", 5, "answer"),
    (Point, {"x": 1}, {"x": "one"}, None),
    (Movie, {"title": "Heat"}, {}, None),
    (dict[str, Cat], {"a": {"lives": 9}}, {"a": {}}, None),
    (Annotated[Cat, "a comment"], {"lives": 9}, {}, None),
    (Tree, {"children": [{"children": []}]}, {"children": [5]}, None),
    ({"type": "array", "items": {"type": "integer"}}, [1], ["a"], "items"),
    ({"enum": ["a", "b"]}, "a", "c", "answer"),
    ({"type": ["object", "null"], "properties": {"a": {}}, "required": ["a"]}, None, 5, "answer"),
    ({"properties": {"a": {"type": "integer"}}}, {"a": 1}, {"a": "b"}, None),
]


def reply_with(answer: Any) -> Reply:
    return Reply(200, {"choices": [{"finish_reason": "stop", "message": {"content": json.dumps(answer)}}]})


@pytest.mark.parametrize(("source", "good", "bad", "key"), TYPES, ids=str)
def test_a_type_is_asked_for_as_an_object_and_its_value_comes_back_without_it(
    source: Any, good: Any, bad: Any, key: str | None
) -> None:
    wanted = Wanted(load_response_schema(source), result_format="json")
    dialogue = Dialogue(REQUEST, wanted)
    asked = dialogue.request["response_format"]["json_schema"]["schema"]
    assert asked.get("type", "object") == "object"
    assert key is None or (list(asked["properties"]), asked["required"]) == ([key], [key])
    check_rules(dialogue.request, base_url="https://api.openai.com/v1")

    def around(value: Any) -> Any:
        return value if key is None else {key: value}

    assert dialogue.take(reply_with(around(bad))) is None
    final = dialogue.take(reply_with(around(good)))
    assert final is not None
    assert final.error is None
    assert result(final, "json") == good


@pytest.mark.parametrize(("source", "good", "key"), [(s, good, key) for s, good, _, key in TYPES if key], ids=str)
def test_a_server_that_answers_without_the_object_is_understood(source: Any, good: Any, key: str) -> None:
    dialogue = Dialogue(REQUEST, Wanted(load_response_schema(source), result_format="json"))
    final = dialogue.take(reply_with(good))
    assert final is not None
    assert result(final, "json") == good


def test_what_is_wrong_is_told_the_model_by_its_place_in_the_object_and_logged_by_that_in_the_schema() -> None:
    for source in (list[Cat], {"type": "array", "items": Cat.model_json_schema()}):
        dialogue = Dialogue(REQUEST, Wanted(load_response_schema(source)))
        assert dialogue.take(reply_with({"items": [{"lives": 1}, {"lives": []}]})) is None
        assert "$.items[1].lives: must be an integer" in dialogue.request["messages"][-1]["content"]
        assert "$[1].lives: must be an integer" in dialogue.asking_again


def test_every_form_of_the_schema_asks_for_the_object() -> None:
    for rung in range(3):
        request = Dialogue(REQUEST, Wanted(load_response_schema(list[Cat])), rung).request
        assert '"items"' in json.dumps(request).replace('\\"', '"').partition("properties")[2][:20]


def test_references_still_lead_to_their_targets() -> None:
    tree = {
        "type": "array",
        "items": {"anyOf": [{"type": "integer"}, {"$ref": "#"}, {"$ref": "#/$defs/name"}]},
        "$defs": {"name": {"type": "string"}},
    }
    output = load_response_schema(tree)
    assert output is not None
    asked = output.response_format[0]["json_schema"]["schema"]
    inner = load_output(asked)
    assert inner is not None
    assert inner.problem({"items": [1, "a", [2, "b", []]]}) is None
    assert inner.problem({"items": [1, [True]]}) is not None
    assert output.problem([1, "a", [2, "b", []]]) is None


def test_the_names_of_types_become_names_that_servers_take() -> None:
    outputs = map(load_response_schema, (list[Cat], Cat | Dog, TypeAdapter(list[Cat]), Point, Tree))
    names = [output.name for output in outputs if output is not None]
    assert names == ["list_Cat", "Cat_Dog", "list_Cat", "Point", "Tree"]


def test_a_schema_goes_through_a_journal_and_a_type_stays_in_the_worker() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    left = Wanted(load_response_schema(schema), result_format="json").to_dict()
    assert left is not None
    again = Dialogue(REQUEST, Wanted.from_dict(json.loads(json.dumps(left))))
    final = again.take(reply_with({"items": [1]}))
    assert final is not None
    assert result(final, "json") == [1]
    assert Wanted(load_response_schema(list[Cat])).to_dict() is None


class Plain:
    pass


def in_x(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": schema}}


BAD: list[tuple[Any, str]] = [
    (in_x({"required": True}), 'x.required must be a list of names: leave it out here, and write "required": ["x"]'),
    (in_x({"type": "int"}), "x.type is 'int', which is not a type: write \"integer\"; the types are 'array'"),
    (in_x({"type": "STRING"}), 'write "string"'),
    (in_x({"type": ["string", "nil"]}), "is 'nil', which is not a type: write \"null\""),
    (in_x({"type": "date"}), 'write "string" and beside it "format": "date"'),
    (in_x({"type": "zzz"}), "which is not a type: the types are"),
    (in_x({"type": str}), 'is the class str, not JSON: write "string"'),
    (in_x({"type": []}), "is an empty list"),
    (in_x({"type": ["null", "null"]}), "names a type twice"),
    (in_x({"type": 5}), "must be one of 'array'"),
    (in_x("string"), '$.properties.x must be a schema (an object), got a string; write {"type": "string"}'),
    (in_x("datetime"), 'write {"type": "string", "format": "date-time"}'),
    (in_x({"enum": "a"}), 'must be a list, got a string: write ["a"]'),
    (in_x({"minimum": "0"}), "$.properties.x.minimum must be a number, got a string"),
    (in_x({"anyOf": {"type": "string"}}), "must be an array, got an object"),
    (in_x({"format": {}}), "must be a string, got an object"),
    ({"type": "object", "properties": ["a"]}, "must be an object that has a schema for each name"),
    ({"type": "object", "required": "a"}, 'must be a list, got a string: write ["a"]'),
    ({"type": "object", "required": ["a", "a"]}, "has an item twice"),
    ({"type": "object", "additionalProperties": "false"}, "write it without quotes"),
    ({"type": "array", "items": ["string"]}, "must be one schema for all items, got an array"),
    ({"type": "object", "properties": {"type": "string"}}, "$.properties.type must be a schema (an object)"),
    ({"type": "object", "properties": {"x": Cat}}, "make a model class of the whole"),
    ({"type": "json_schema", "json_schema": {"schema": {}}}, 'give the schema in it, response_format["json_schema"]'),
    ({"name": "x", "schema": {"type": "object"}, "strict": True}, 'give its "schema" alone'),
    ({"name": "x", "parameters": {"type": "object"}}, 'give its "parameters" alone'),
    ({"mood": "string", "stars": "int"}, "it has no keyword of JSON Schema, only 'mood', 'stars'"),
    (Plain, "a plain class has no JSON Schema"),
    (list[Plain], "a class in it has no JSON Schema"),
]


@pytest.mark.parametrize(("schema", "says"), BAD, ids=str)
def test_a_bad_schema_is_told_what_is_wrong_and_what_to_write(schema: Any, says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load_response_schema(schema)
    assert says in caught.value.message
    assert caught.value.message.startswith("Correct response_schema")
    assert caught.value.path == "response_schema"


def test_the_same_is_said_of_a_file(tmp_path: Any) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"mood": "string"}')
    with pytest.raises(InvalidRequest, match=r"mine\.json.* no keyword of JSON Schema"):
        load_response_schema(str(path))
