"""What a template left empty is left out of the request, where nothing can be meant by it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.request.prepare import filled, fold
from airflow_chat_provider.schema import load_schema
from tests.support.bodies import MINIMAL

USER = {"role": "user", "content": "Hi"}
FUNCTION = {"type": "function", "function": {"name": "f"}}


def fill(more: dict[str, Any], schema: Any = "2026-11") -> tuple[dict[str, Any], list[str]]:
    """What of ``more`` is left, and the paths that are warned of."""
    request, warnings = filled({**MINIMAL, **more}, load_schema(schema))
    assert all("is not sent, because it is an empty text" in warning for warning in warnings)
    return {key: request[key] for key in more if key in request}, [warning.split(" ")[0] for warning in warnings]


@pytest.mark.parametrize(
    "more",
    [
        {"user": None},
        {"tools": None},
        {"tool_choice": None},
        {"response_format": None},
        {"parallel_tool_calls": None},
    ],
    ids=str,
)
def test_none_where_no_null_may_stand_is_left_out(more: dict[str, Any]) -> None:
    assert fill(more) == ({}, [])


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": None},
        {"stop": None},
        {"top_k": None},  # not in the schema
        {"stop": [None]},  # an element is not a property
        {"model": None},  # needed
        {"messages": None},
        {"messages": [{"role": "user", "content": None}]},
    ],
    ids=str,
)
def test_none_stays_where_null_may_stand_or_something_is_needed(more: dict[str, Any]) -> None:
    assert fill(more) == (more, [])


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ({"messages": [{**USER, "name": None}]}, {"messages": [USER]}),
        (
            {"messages": [{"role": "assistant", "content": "a", "tool_calls": None, "function_call": None}]},
            {"messages": [{"role": "assistant", "content": "a", "function_call": None}]},
        ),
        ({"tools": [{**FUNCTION, "function": {"name": "f", "description": None}}]}, {"tools": [FUNCTION]}),
        ({"metadata": {"a": None, "b": "x"}}, {"metadata": {"b": "x"}}),
    ],
    ids=str,
)
def test_none_is_left_out_however_deep(more: dict[str, Any], left: dict[str, Any]) -> None:
    found, _ = fill(more)
    assert {key: found[key] for key in left} == left


@pytest.mark.parametrize("empty", ["", " ", "\n"])
@pytest.mark.parametrize("name", ["temperature", "max_tokens", "logprobs", "tools", "metadata", "model"])
def test_an_empty_text_is_not_set_where_another_type_is_due_and_warned_of(name: str, empty: str) -> None:
    assert fill({name: empty}) == ({}, [f"$.{name}"])


@pytest.mark.parametrize("name", ["stop", "reasoning_effort", "tool_choice", "service_tier"])
def test_an_empty_text_is_not_set_where_no_empty_text_may_stand(name: str) -> None:
    assert fill({name: ""}) == ({}, [f"$.{name}"])


@pytest.mark.parametrize(
    "more",
    [
        {"stop": "\n"},
        {"stop": ["", "a"]},
        {"user": ""},
        {"messages": [{"role": "user", "content": ""}]},
        {"metadata": {"a": ""}},
        {"grammar": ""},
    ],
    ids=str,
)
def test_a_text_that_may_be_meant_stays(more: dict[str, Any]) -> None:
    assert fill(more) == (more, [])


def test_without_a_schema_only_model_and_stop_are_known_to_be_empty() -> None:
    assert fill({"model": "", "stop": "", "temperature": "", "user": None}, None) == (
        {"temperature": "", "user": None},
        ["$.model", "$.stop"],
    )


def test_an_empty_model_argument_wins_over_no_model() -> None:
    empty: list[str] = []
    assert fold({"model": "m"}, model=" ", prompt="Hi", empty=empty)["model"] == "m"
    assert empty == ["model"]
    assert filled({"model": "m"}, None, empty)[1][0].startswith("model is not sent, because ")


def test_a_schema_of_ones_own_decides_too() -> None:
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": "integer"},
            "c": {"enum": ["x"]},
            "d": {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "string", "minLength": 2}]},
            "e": {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "string"}]},
        },
    }
    request, warnings = filled({"a": "", "b": "", "c": "", "d": "", "e": ""}, load_schema(schema))
    assert request == {"a": "", "c": "", "e": ""}
    assert len(warnings) == 2


def test_what_is_whole_stays_the_same_object() -> None:
    request = {**MINIMAL, "messages": [USER], "temperature": 0.5, "metadata": {"a": "b"}}
    assert filled(request, load_schema("2026-11"))[0] is request
