"""A conversation goes on in the next task, whatever the first reply looked like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import task

from airflow_chat_provider.errors import IncompleteReply
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import replies
from tests.support.asking import ask

ROME = '{"city": "Rome"}'
CALL: dict[str, Any] = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ROME}}
PREFIX = {"role": "assistant", "content": "{", "prefix": True}
QUESTION = {"role": "user", "content": "Hi"}


def calls(*made: dict[str, Any], **message: Any) -> dict[str, Any]:
    return {"content": None, "tool_calls": list(made), **message}


def odd(**function: Any) -> dict[str, Any]:
    return {**CALL, "function": {**CALL["function"], **function}}


# What a server answers, and what the next request holds of it.
ANSWERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "type_null": (calls({**CALL, "type": None}), calls(CALL)),
    "type_empty": (calls({**CALL, "type": ""}), calls(CALL)),
    "type_missing": (calls({"id": "call_1", "function": CALL["function"]}), calls(CALL)),
    "arguments_object": (calls(odd(arguments={"city": "Rome"})), calls(CALL)),
    "arguments_twice": (calls(odd(arguments=json.dumps(ROME))), calls(CALL)),
    "arguments_empty": (calls(odd(arguments="")), calls(odd(arguments="{}"))),
    "index": (calls({**CALL, "index": 0}), calls(CALL)),
    "reasoning": (calls(CALL, reasoning_content="I look."), calls(CALL, reasoning_content="I look.")),
    "signature": (
        calls({**CALL, "extra_content": {"google": {"thought_signature": "s"}}}),
        calls({**CALL, "extra_content": {"google": {"thought_signature": "s"}}}),
    ),
    "images": (
        {"content": "Here.", "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"content": "Here.", "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
    ),
    "empty": ({"content": None, "tool_calls": [], "refusal": None}, {"content": ""}),
    "prefix": ({"content": '"a": 1}'}, {"content": '{"a": 1}'}),
}


def make(**arguments):
    return ChatCompletionOperator(**arguments)


@task
def answered(messages):
    """The messages with a result for each call."""
    made = messages[-1].get("tool_calls", [])
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "21"} for call in made]
    return [*messages, *results, {"role": "user", "content": "And now?"}]


@pytest.fixture
def talks(airflow, chat):
    """The second request of each conversation."""

    def answer(request):
        step, _, name = request.json["model"].partition("-")
        return replies.ok(**ANSWERS[name][0]) if step == "first" else replies.ok()

    chat.default = answer
    with airflow.dag():
        for name in ANSWERS:
            begin = [QUESTION, PREFIX] if name == "prefix" else [QUESTION]
            first = make(task_id=f"first_{name}", model=f"first-{name}", messages=begin)
            following = answered.override(task_id=f"answer_{name}")(first.output["messages"])
            make(task_id=f"next_{name}", model=f"next-{name}", messages=following)
    assert airflow.run().state == "success"
    sent = {request.json["model"]: request.json["messages"] for request in chat.requests}
    return {name: sent[f"next-{name}"] for name in ANSWERS}


@pytest.mark.database
def test_the_next_request_holds_the_reply_in_the_form_of_requests(talks):
    for name, (_, expected) in ANSWERS.items():
        turn = {key: value for key, value in expected.items() if value is not None}
        assert talks[name][:2] == [QUESTION, {"role": "assistant", **turn}], name


@pytest.mark.database
@pytest.mark.parametrize("on_incomplete", ["warn", "fail", "ignore"])
def test_an_answer_that_was_filtered_before_it_had_a_message_fails_the_task_and_is_kept(airflow, chat, on_incomplete):
    body = replies.completion(choices=[{"index": 0, "message": None, "finish_reason": "content_filter"}])
    chat.script(replies.json_reply(200, body))
    with airflow.dag():
        ask(prompt="Hi", on_incomplete=on_incomplete)
    assert airflow.run().xcoms()["body"] == body
    assert isinstance(airflow.error(), IncompleteReply)
    assert airflow.error().message.startswith("Change the prompt: choices[0] has no message")
    assert len(chat.requests) == 1
