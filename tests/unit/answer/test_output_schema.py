"""What is said of an answer in exceptions and logs holds nothing of it; what the model is told may."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
from airflow_chat_provider.core.answer.output_schema import Schema, load_output
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.request.schema import Problem
from tests.support.fuzzing import fuzz

CARD = 4111111111111111
SICK = "Jane Doe has cancer"
UNNAMED = "<a key that the schema does not name>"
REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def problem_of(schema: Schema, value: Any) -> Problem:
    output = load_output(schema)
    assert output is not None
    problem = output.problem(value)
    assert problem is not None
    assert not [part for part in ("4111", "Jane", "cancer") if part in problem.said]
    return problem


def items(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"people": {"type": "array", "items": schema}}}


SAID: list[tuple[dict[str, Any], Any, str]] = [
    ({"maximum": 10}, CARD, "$: must be at most 10, got a number"),
    ({"multipleOf": 10}, CARD, "$: must be a multiple of 10, got a number"),
    ({"type": "string"}, CARD, "$: must be a string, got a number"),
    ({"type": "string"}, True, "$: must be a string, got a boolean"),
    ({"enum": ["a", "b"]}, CARD, "$: must be one of 'a', 'b', got a number"),
    ({"enum": ["a", "b"]}, SICK, "$: must be one of 'a', 'b'"),
    ({"const": 1}, CARD, "$: must be 1"),
    ({"anyOf": [{"minimum": CARD + 1}, {"maximum": 0}]}, CARD, "$: has none of the allowed forms, got a number"),
    ({"pattern": "^a$"}, SICK, "$: must match the pattern '^a$'"),
    ({"maxLength": 3}, SICK, "$: must have at most 3 characters, but has 19"),
    ({"additionalProperties": False}, {SICK: 1}, "$: has a key that is not allowed"),
    ({"additionalProperties": False}, {SICK: 1, "x": 2}, "$: has 2 keys that are not allowed"),
    (
        {"properties": {"size": {}}, "additionalProperties": False},
        {"sise": 1},
        "$: has a key that is not allowed; did you mean 'size'?",
    ),
    ({"required": ["size"]}, {"sise": 1}, "$: 'size' is missing"),
    ({"additionalProperties": {"type": "string"}}, {SICK: 1}, f"$.{UNNAMED}: must be a string, got a number"),
    ({"patternProperties": {"^J": {"type": "string"}}}, {SICK: 1}, f"$.{UNNAMED}: must be a string, got a number"),
    ({"propertyNames": {"maxLength": 3}}, {SICK: 1}, "$: must have at most 3 characters, but has 19"),
    ({"unevaluatedProperties": False}, {SICK: 1}, "$: breaks the schema's rule 'unevaluatedProperties'"),
    ({"unevaluatedProperties": {"type": "null"}}, {SICK: 1}, f"$.{UNNAMED}: must be null, got a number"),
    ({"contains": {"type": "null"}}, [SICK], "$: breaks the schema's rule 'contains'"),
    ({"not": {"type": "string"}}, SICK, "$: breaks the schema's rule 'not'"),
    ({"uniqueItems": True}, [SICK, SICK], "$: breaks the schema's rule 'uniqueItems'"),
    (
        items({"additionalProperties": {"type": "string"}}),
        {"people": [{}, {}, {SICK: CARD}]},
        f"$.people[2].{UNNAMED}: must be a string, got a number",
    ),
    (
        {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": CARD + 1, "exclusiveMinimum": True},
        CARD,
        f"$: must be at least {CARD + 1}, got a number",
    ),
]


@pytest.mark.parametrize(("schema", "value", "said"), SAID)
def test_a_problem_names_the_schemas_own_names_and_positions_and_nothing_of_the_answer(
    schema: dict[str, Any], value: Any, said: str
) -> None:
    output = load_output(schema)
    assert output is not None
    problem = output.problem(value)
    assert problem is not None
    assert problem.said == said
    assert "Jane" not in problem.said


def test_the_model_is_told_its_own_wrong_key_or_number() -> None:
    assert problem_of({"maximum": 10}, CARD).told == f"$: must be at most 10, got {CARD}"
    assert problem_of({"additionalProperties": False}, {SICK: 1}).told == f"$: has a key that is not allowed: {SICK!r}"


class Colour(Enum):
    RED = "red"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")
    age: Annotated[int, Field(le=10)] = 0
    born: date | None = None
    seen: datetime | None = None
    hour: time | None = None
    lasts: timedelta | None = None
    money: Decimal | None = None
    key: UUID | None = None
    page: AnyUrl | None = None
    colour: Colour | None = None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    scores: dict[str, int] = {}
    names: list[Annotated[str, Field(max_length=3)]] = []
    both: int | list[int] = 0

    @field_validator("age")
    @classmethod
    def quotes(cls, value: int) -> int:
        if value == 7:
            raise ValueError(f"{SICK} at {value}")
        if value == 8:
            raise PydanticCustomError("jane", SICK + " {age}", {"age": value})
        if value == 9:
            raise KeyError(SICK)
        return value

    @model_validator(mode="after")
    def of_the_whole(self) -> Person:
        assert self.age != 6, SICK
        return self


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ({"age": 7}, "$.age: breaks a rule of the model class (value_error)"),
        ({"age": 8}, "$.age: breaks a rule of the model class (its own)"),
        ({"age": 9}, "the model class fails on it (KeyError)"),
        ({"age": 6}, "$: breaks a rule of the model class (assertion_error)"),
        ({"born": SICK}, "$.born: breaks a rule of the model class (date_from_datetime_parsing)"),
        ({"seen": SICK}, "$.seen"),
        ({"hour": SICK}, "$.hour"),
        ({"lasts": SICK}, "$.lasts"),
        ({"key": SICK}, "$.key: breaks a rule of the model class (uuid_parsing)"),
        ({"page": SICK}, "$.page"),
    ],
)
def test_the_error_of_a_model_class_does_not_quote_the_answer(answer: Any, place: str) -> None:
    assert problem_of(Person, answer).said.startswith(place)


class Loose(BaseModel):
    """A class whose schema lets pass what the class itself refuses."""

    person: Person

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:  # type: ignore[override]
        return {"title": "Loose", "properties": {"person": {}}, "$defs": {"Person": Person.model_json_schema()}}


@pytest.mark.parametrize(
    ("person", "said"),
    [
        ({"age": CARD}, "$.person.age: Input should be less than or equal to 10"),
        ({"age": SICK}, "$.person.age: Input should be a valid integer, unable to parse string as an integer"),
        ({SICK: 1}, f"$.person.{UNNAMED}: Extra inputs are not permitted"),
        ({"colour": SICK}, "$.person.colour: Input should be 'red'"),
        ({"pet": {"kind": SICK}}, "$.person.pet: breaks a rule of the model class (union_tag_invalid)"),
        ({"pet": {"kind": "cat"}}, "$.person.pet.lives: Field required"),
        ({"scores": {SICK: SICK}}, f"$.person.scores.{UNNAMED}: Input should be a valid integer"),
        ({"names": ["a", SICK]}, "$.person.names[1]: String should have at most 3 characters"),
        ({"both": [CARD, SICK]}, "$.person.both: Input should be a valid integer; $.person.both[1]: Input"),
    ],
)
def test_the_error_of_a_model_class_has_its_own_names_and_positions(person: Any, said: str) -> None:
    assert problem_of(Loose, {"person": person}).said.startswith(said)


TEXTS = st.sampled_from([SICK, "kestrel-7f3a", "\x1b[31m"])
ANSWERS = st.recursive(
    TEXTS | st.just(CARD) | st.booleans() | st.none() | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXTS | st.sampled_from([*Person.model_fields, "person"]), inner, max_size=4)
    ),
    max_leaves=12,
)
SCHEMAS: list[Any] = [Person, Loose, *(schema for schema, _, _ in SAID)]
QUICK = fuzz(150)


@QUICK
@given(schema=st.sampled_from(SCHEMAS), answer=ANSWERS, last=st.booleans())
def test_errors_and_log_lines_never_quote_an_answer(schema: Any, answer: Any, last: bool) -> None:
    dialogue = Dialogue(REQUEST, Wanted(load_output(schema), retries=0 if last else 1, result_format="json"))
    choice = {"finish_reason": "stop", "message": {"content": json.dumps(answer)}}
    reply = dialogue.take(Reply(200, {"choices": [choice]}))
    said = f"{dialogue.asking_again} {dialogue.rejected}" if reply is None else str(reply.error or "")
    assert not [part for part in ("4111", "Jane", "kestrel", "\x1b") if part in said]


@QUICK
@given(name=TEXTS, arguments=ANSWERS, last=st.booleans())
def test_errors_and_log_lines_never_quote_a_tool_call(name: str, arguments: Any, last: bool) -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"maximum": 1}}
    function = {"name": "weather", "parameters": parameters}
    request = {**REQUEST, "tools": [{"type": "function", "function": function}]}
    dialogue = Dialogue(request, Wanted(tools=True, retries=0 if last else 1, result_format="tool_calls"))
    made_up = {"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}
    wrong = {"id": "d", "type": "function", "function": {"name": "weather", "arguments": json.dumps(arguments)}}
    choice = {"finish_reason": "tool_calls", "message": {"tool_calls": [made_up, wrong]}}
    reply = dialogue.take(Reply(200, {"choices": [choice]}))
    said = f"{dialogue.asking_again} {dialogue.rejected}" if reply is None else str(reply.error)
    assert "it calls a tool that was not offered; the request offers weather" in said
    assert not [part for part in ("4111", "Jane", "kestrel", "\x1b") if part in said]


def test_a_correction_quotes_the_answer_to_the_model_alone() -> None:
    dialogue = Dialogue(REQUEST, Wanted(load_output({"maximum": 10}), result_format="json"))
    choice = {"finish_reason": "stop", "message": {"content": str(CARD)}}
    assert dialogue.take(Reply(200, {"choices": [choice]})) is None
    assert f"got {CARD}" in dialogue.request["messages"][-1]["content"]
    assert str(CARD) not in dialogue.asking_again
