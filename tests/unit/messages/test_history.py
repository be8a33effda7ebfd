"""A reply as part of the next request: its reasoning, its images, and the message that it goes on from."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
from airflow_chat_provider.core.answer.output_schema import load_output
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.result import Delivery, outcome
from airflow_chat_provider.core.messages import begun, conversation, conversation_message, fitted_to_server
from airflow_chat_provider.core.request.prepare import finish
from airflow_chat_provider.schema import load_schema

OPENAI, AZURE = "https://api.openai.com/v1", "https://x.openai.azure.com/openai/v1"
MISTRAL, GROQ, CEREBRAS = "https://api.mistral.ai/v1", "https://api.groq.com/openai/v1", "https://api.cerebras.ai/v1"
DEEPSEEK, LOCAL = "https://api.deepseek.com/v1", "http://gpu-1:8000/v1"
CALL = {"id": "c12345678", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SIGNED = {**CALL, "extra_content": {"google": {"thought_signature": "s"}}}
THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
ALL = {
    "reasoning_content": "hm",
    "reasoning": "hm",
    "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
    "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
    "extra_content": {"google": {"thought_signature": "s"}},
    "provider_specific_fields": {"thought_signatures": ["s"]},
    "images": [IMAGE],
}
USER = {"role": "user", "content": "Hi"}


def turn(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "Hello", **fields}


def sent(message: Any, base_url: str | None, schema: str | None = "2026-11") -> tuple[Any, list[str]]:
    answers = [{"role": "tool", "tool_call_id": call["id"], "content": "21"} for call in message.get("tool_calls", ())]
    request = {"model": "m", "messages": [USER, message, *answers, USER]}
    prepared, warnings = finish(request, load_schema(schema), base_url=base_url)
    return prepared["messages"][1], [warning for warning in warnings if "is not sent" in warning]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("calls", [{}, {"tool_calls": [CALL]}])
def test_reasoning_stays_in_the_conversation(name: str, calls: dict[str, Any]) -> None:
    message = turn(**{name: ALL[name]}, **calls)
    assert conversation_message({**message, "token_ids": [1], "index": 0}) == message
    for base_url in (DEEPSEEK, LOCAL, None):
        assert sent(message, base_url) == (message, [])


def test_thinking_parts_stay_in_the_conversation() -> None:
    content = [THINKING, {"type": "text", "text": "391"}]
    assert conversation_message({"content": content})["content"] == content


@pytest.mark.parametrize(
    ("part", "is_told"),
    [
        ({"type": "tool_use", "id": "c"}, True),
        ({"type": ["text"]}, True),
        ("b", True),
        ({"type": "text", "text": None}, True),
        ({"text": "b"}, False),
        ({"type": "output_text", "text": "b"}, False),
    ],
)
def test_parts_that_no_request_has_leave_the_text_and_that_is_told(part: Any, is_told: bool) -> None:
    message = {"content": [part, {"type": "text", "text": "a"}]}
    assert conversation_message(message)["content"] == ("a" if is_told else "ba")
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    warnings = outcome(Delivery("text"), {"messages": [USER]}, Reply(200, body), {}).warnings
    assert any("messages holds only its text" in warning for warning in warnings) is is_told


def test_an_image_among_the_parts_stays_in_the_conversation() -> None:
    content = [{"type": "text", "text": "Here."}, IMAGE]
    assert conversation_message({"content": content})["content"] == content
    fitting, warnings = fitted_to_server({"messages": [turn(content=content)]}, OPENAI)
    assert fitting["messages"][0]["content"] == "Here."
    assert "image_url" in warnings[0]


@pytest.mark.parametrize(
    ("content", "text"), [({"a": 1}, '{"a": 1}'), (391, "391"), (True, "true"), ({"type": "text", "text": "Hi"}, "Hi")]
)
def test_a_content_that_is_no_text_is_text_in_the_next_request(content: Any, text: str) -> None:
    assert conversation_message({"content": content}) == {"role": "assistant", "content": text}


def test_reasoning_that_is_empty_stays_beside_a_call() -> None:
    # DeepSeek wants the field back, even where there is nothing in it.
    message = {"role": "assistant", "reasoning_content": "", "tool_calls": [CALL]}
    assert conversation_message({**message, "content": None}) == message


@pytest.mark.parametrize(
    ("base_url", "takes"),
    [(OPENAI, ()), (AZURE, ()), (MISTRAL, ()), (GROQ, ("reasoning",)), (CEREBRAS, ("reasoning",))],
)
def test_a_server_that_refuses_what_it_does_not_know_gets_it_left_out_and_that_is_told(
    base_url: str, takes: tuple[str, ...]
) -> None:
    message, warnings = sent(turn(**ALL), base_url)
    assert message == turn(**{name: ALL[name] for name in takes})
    assert len(warnings) == 1
    assert all(name in warnings[0] for name in ALL if name not in takes)
    assert "hm" not in warnings[0]


def test_calls_lose_what_openai_does_not_know_of() -> None:
    message = {"role": "assistant", "tool_calls": [SIGNED]}
    assert sent(message, LOCAL) == (message, [])
    fitting, warnings = sent(message, OPENAI)
    assert fitting["tool_calls"] == [CALL]
    assert "extra_content" in warnings[0]


@pytest.mark.parametrize("text", ["391", None])
def test_thinking_parts_are_left_out_where_the_server_is_not_mistral(text: str | None) -> None:
    content = [THINKING, *([{"type": "text", "text": text}] if text else [])]
    request = {"messages": [{"role": "assistant", "content": content}]}
    assert fitted_to_server(request, MISTRAL) == (request, [])
    fitting, warnings = fitted_to_server(request, OPENAI)
    assert fitting["messages"][0]["content"] == (text or "")
    assert "thinking" in warnings[0]


@pytest.mark.parametrize("message", [{"role": "user", "content": "Hi", "reasoning": "hm"}, "x", None, turn()])
def test_what_its_server_takes_of_a_message_is_not_touched(message: Any) -> None:
    request = {"messages": [message]}
    assert fitted_to_server(request, OPENAI) == (request, [])
    assert fitted_to_server({"messages": "x"}, OPENAI) == ({"messages": "x"}, [])


@pytest.mark.parametrize("schema", [None, "open"])
def test_a_request_that_is_sent_as_it_is_keeps_all(schema: str | None) -> None:
    message = turn(**ALL)
    assert sent(message, MISTRAL, schema)[0] == message


def test_what_is_asked_again_has_the_answers_reasoning() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "required": ["a"]}}}]
    dialogue = Dialogue({"messages": [USER], "tools": tools}, Wanted(tools=True))
    answer = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [SIGNED]}
    assert dialogue.take(Reply(200, {"choices": [{"message": answer, "finish_reason": "tool_calls"}]})) is None
    again = dialogue.request["messages"][1]
    assert again == {"role": "assistant", "reasoning_content": "hm", "tool_calls": [SIGNED]}


PREFIX = {"role": "assistant", "content": "{", "prefix": True}


def begins(last: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": [USER, last], **fields}


@pytest.mark.parametrize(
    "request_",
    [
        begins(PREFIX),
        begins({"role": "assistant", "content": "{", "partial": True}),
        begins({"role": "assistant", "content": "{"}, continue_final_message=True),
        begins({"role": "assistant", "content": "{"}),
        begins({"role": "assistant", "content": [{"type": "text", "text": "{"}]}),
    ],
)
@pytest.mark.parametrize("text", ['"a": 1}', '{"a": 1}'])
def test_a_reply_is_one_turn_with_the_text_that_it_goes_on_from(request_: dict[str, Any], text: str) -> None:
    reply = Reply(200, {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
    found = outcome(Delivery("json"), request_, reply, {})
    assert found.xcoms["messages"] == [USER, {"role": "assistant", "content": '{"a": 1}'}]
    assert found.value == {"a": 1}
    assert outcome(Delivery("text"), request_, reply, {}).value == text


def test_a_message_without_a_flag_is_a_turn_of_its_own_at_openai() -> None:
    last = {"role": "assistant", "content": "Sure."}
    answer = {"role": "assistant", "content": "Here it is."}
    assert conversation(begins(last), answer, OPENAI) == [USER, last, answer]
    assert conversation(begins(last), answer, LOCAL) == [USER, {"role": "assistant", "content": "Sure.Here it is."}]


def test_what_else_came_with_the_reply_stays_with_the_turn() -> None:
    answer = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]}
    last = {**PREFIX, "name": "n"}
    assert conversation(begins(last), answer)[1:] == [
        {"role": "assistant", "content": "{", "name": "n", "reasoning_content": "hm", "tool_calls": [CALL]}
    ]
    parts = [THINKING, {"type": "text", "text": "a"}]
    assert conversation(begins(PREFIX), {"content": parts})[1]["content"] == [{"type": "text", "text": "{"}, *parts]


@pytest.mark.parametrize(
    "last", [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "assistant", "content": ""}, "x", None]
)
def test_other_messages_at_the_end_begin_nothing(last: Any) -> None:
    assert begun({"messages": [last]})[0] == ""
    assert begun({"messages": []})[0] == begun({})[0] == ""
    assert conversation({"messages": [last]}, turn()) == [last, turn()]


def test_the_next_question_goes_on_from_no_text() -> None:
    request = begins({"role": "assistant", "content": "{"}, continue_final_message=True, add_generation_prompt=False)
    want = Wanted(schema=load_output({"type": "object", "required": ["a"]}))
    dialogue = Dialogue(request, want)
    assert dialogue.request["continue_final_message"] is True
    answer = {"choices": [{"message": {"role": "assistant", "content": '"b": 1}'}, "finish_reason": "stop"}]}
    assert dialogue.take(Reply(200, answer)) is None
    again = dialogue.request
    assert not again.keys() & {"continue_final_message", "add_generation_prompt"}
    assert again["messages"][1] == {"role": "assistant", "content": '{"b": 1}'}
    assert again["messages"][2]["role"] == "user"
    assert len(again["messages"]) == 3


def test_an_answer_fits_the_schema_with_the_text_that_it_goes_on_from() -> None:
    dialogue = Dialogue(begins(PREFIX), Wanted(schema=load_output({"type": "object", "required": ["a"]})))
    answer = {"choices": [{"message": {"role": "assistant", "content": '"a": 1}'}, "finish_reason": "stop"}]}
    final = dialogue.take(Reply(200, answer))
    assert final is not None
    assert final.error is None
