"""Calls of tools as servers write them: what is read of them, and how the next request has them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_chat_provider.core.answer.output_schema import Tools
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.result import Delivery, outcome
from airflow_chat_provider.core.messages import conversation_message
from airflow_chat_provider.core.request.prepare import finish
from airflow_chat_provider.schema import load_schema

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "get_time"}},
    {"type": "custom", "custom": {"name": "say"}},
]
REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS}
ROME = '{"city": "Rome"}'


def call(arguments: Any = ROME, name: Any = "get_weather", **fields: Any) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}, **fields}


def without(key: str, of: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in of.items() if name != key}


def left(*calls: Any, finish_reason: str = "tool_calls", **message: Any) -> Any:
    answer = {"role": "assistant", "content": None, "tool_calls": list(calls), **message}
    body = {"choices": [{"index": 0, "message": answer, "finish_reason": finish_reason}]}
    return outcome(Delivery("tool_calls"), REQUEST, Reply(200, body), {})


def sent(*calls: Any) -> list[dict[str, Any]]:
    """The calls in the messages XCom, which the next task takes, with a tool's answer for each."""
    messages = left(*calls).xcoms["messages"]
    turn = messages[-1]
    answers = [{"role": "tool", "tool_call_id": one["id"], "content": "21"} for one in turn["tool_calls"]]
    request = {**REQUEST, "messages": [*messages, *answers]}
    assert finish(request, load_schema("2026-11"), base_url="http://gpu-1:8000/v1")[0] == request
    return list(turn["tool_calls"])


@pytest.mark.parametrize(
    "odd",
    [
        call(type=None),
        call(type=""),
        call(type="null"),
        call(type="tool_call"),
        call(type=["function"]),
        without("type", call()),
        call(index=0),
        call(name=" get_weather\n"),
        {"id": "call_1", "name": "get_weather", "arguments": ROME},
    ],
)
def test_a_call_is_known_by_what_it_holds(odd: dict[str, Any]) -> None:
    found = left(odd)
    assert found.value == [{"id": "call_1", "name": "get_weather", "arguments": {"city": "Rome"}}]
    assert found.warnings == ()
    assert sent(odd) == [call()]


def test_a_custom_call_without_a_type_is_one_too() -> None:
    custom = {"id": "call_1", "custom": {"name": "say", "input": "Hi {there"}}
    assert left(custom).value == [{"id": "call_1", "name": "say", "arguments": "Hi {there"}]
    assert conversation_message({"tool_calls": [custom]})["tool_calls"] == [{**custom, "type": "custom"}]


def test_calls_count_whatever_the_finish_reason_says() -> None:
    assert left(call(), finish_reason="stop").value[0]["arguments"] == {"city": "Rome"}


@pytest.mark.parametrize(
    ("arguments", "how"),
    [
        ({"city": "Rome"}, "came as an object"),
        (json.dumps(ROME), "came as JSON text within JSON text"),
    ],
)
def test_arguments_in_another_form_are_read_and_told_by_name(arguments: Any, how: str) -> None:
    found = left(call(arguments))
    assert found.value[0]["arguments"] == {"city": "Rome"}
    (warning,) = found.warnings
    assert how in warning
    assert "get_weather" in warning
    assert "Rome" not in warning
    assert sent(call(arguments)) == [call()]


@pytest.mark.parametrize("arguments", [{"city": "Rome"}, json.dumps(ROME)])
def test_a_task_that_reads_no_calls_tells_where_messages_differs_from_body(arguments: Any) -> None:
    answer = {"role": "assistant", "content": None, "tool_calls": [call("{}", "get_time"), call(arguments, id="b")]}
    body = {"choices": [{"index": 0, "message": answer, "finish_reason": "tool_calls"}]}
    (warning,) = outcome(Delivery("raw"), REQUEST, Reply(200, body), {}).warnings
    assert warning.startswith("messages holds choices[0].message.tool_calls[1] in the form that requests take")
    assert outcome(Delivery("raw", push_messages=False), REQUEST, Reply(200, body), {}).warnings == ()


@pytest.mark.parametrize("arguments", ["", " ", None, "null", "{}", {}, [], '""', "[]"])
def test_no_arguments_are_an_empty_object_in_the_next_request(arguments: Any) -> None:
    assert left(call(arguments, "get_time")).value[0]["arguments"] == {}
    assert sent(call(arguments, "get_time")) == [call("{}", "get_time")]


@pytest.mark.parametrize("arguments", ["{no json", '{"city": ', "5", '"Rome"', "[1]", 5, [1], True, float("nan")])
def test_arguments_that_are_no_object_are_a_problem_and_no_failure(arguments: Any) -> None:
    (found,) = Tools(REQUEST).calls({"tool_calls": [call(arguments)]})
    assert found.problem is not None
    assert isinstance(sent(call(arguments))[0]["function"]["arguments"], str)


def test_text_of_a_model_stays_exactly_as_it_was_written() -> None:
    spaced = '{ "city":\n"Rome" }'
    assert sent(call(spaced)) == [call(spaced)]


@pytest.mark.parametrize("ids", [("", ""), (None, None), ("a", "a"), ("", "b"), (7, "7"), (True, {})])
def test_each_call_has_an_id_of_its_own_that_any_server_takes(ids: tuple[Any, Any]) -> None:
    calls = [call(id=ids[0]), call('{"city": "Oslo"}', id=ids[1])]
    found = left(*calls)
    names = [one["id"] for one in found.value]
    assert len(set(names)) == 2
    assert all(isinstance(name, str) and name for name in names)
    assert [one["id"] for one in sent(*calls)] == names
    made = [name for name in names if name not in ("a", "b", "7")]
    assert all(name.isalnum() and len(name) == 9 for name in made)
    assert len(found.warnings) == len(made)
    assert left(*calls).value == found.value


def test_what_a_gateway_needs_back_stays_with_the_call() -> None:
    signed = call(extra_content={"google": {"thought_signature": "s"}}, provider_specific_fields={"a": 1}, index=3)
    assert sent(signed) == [without("index", signed)]


def test_a_call_of_a_servers_own_kind_keeps_it() -> None:
    search = call("{}", "$web_search", type="builtin_function")
    assert conversation_message({"tool_calls": [search]})["tool_calls"] == [search]


@pytest.mark.parametrize("calls", [None, [], {}, [None], ["x"], [{}], [{"id": "c", "function": {"name": None}}]])
def test_what_calls_nothing_is_no_call_in_the_next_request(calls: Any) -> None:
    assert conversation_message({"content": None, "tool_calls": calls}) == {"role": "assistant", "content": ""}


def test_a_call_of_nothing_is_not_taken_for_an_answer() -> None:
    (found,) = Tools(REQUEST).calls({"tool_calls": [{}]})
    assert found.problem is not None


def test_a_deprecated_call_is_in_the_form_of_requests_too() -> None:
    turn = conversation_message(
        {"content": None, "function_call": {"name": "get_weather", "arguments": {"city": "Rome"}}}
    )
    assert turn["function_call"] == {"name": "get_weather", "arguments": ROME}
    assert conversation_message({"content": "Hi", "function_call": {"name": None, "arguments": ""}}) == {
        "role": "assistant",
        "content": "Hi",
    }


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ('<tool_call>{"name": "get_weather"}</tool_call>', True),
        ('[TOOL_CALLS][{"name": "get_weather"}]', True),
        ("It is sunny.", False),
    ],
)
def test_a_call_that_the_server_took_for_text_is_told_of(text: str, is_told: bool) -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    found = outcome(Delivery("tool_calls"), REQUEST, Reply(200, body), {})
    assert found.value == []
    assert any("--tool-call-parser" in warning for warning in found.warnings) is is_told
