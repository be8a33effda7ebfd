"""How deep a request, a reply and an answer may be nested, on a real Airflow."""

import json
from typing import Any

import pytest

from airflow_chat_provider.errors import InvalidOutput, InvalidRequest, ProtocolError
from airflow_chat_provider.testing import replies
from tests.support.asking import ask, sent

LIMIT = 200


def nested(depth, kind):
    value: Any = "x"
    for index in range(depth):
        value = {"a": value} if kind == "object" or (kind == "mixed" and index % 2) else [value]
    return value


@pytest.mark.parametrize("kind", ["list", "object", "mixed"])
def test_a_request_as_deep_as_the_limit_is_sent_and_shown(airflow, chat, kind):
    value = nested(LIMIT, kind)
    with airflow.dag():
        ask(prompt="Hi", request={"model": "m", "x": value}, request_schema=None)
    run = airflow.run()
    assert run.state == "success"
    assert sent(chat)["x"] == value
    assert "request" in run.rendered()


def test_a_deeper_one_breaks_the_import(airflow, chat):
    with airflow.dag(), pytest.raises(InvalidRequest, match="nested more than 200 levels deep"):
        ask(prompt="Hi", request={"model": "m", "x": nested(LIMIT + 1, "list")}, request_schema=None)


@pytest.mark.parametrize("kind", ["list", "object", "mixed"])
def test_the_text_of_a_deeper_one_breaks_the_import(airflow, chat, kind):
    with airflow.dag(params={"x": json.dumps(nested(LIMIT + 1, kind))}):
        ask(prompt="Hi", request='{"model": "m", "x": {{ params.x }}}', request_schema=None)
    run = airflow.run()
    assert (run.state, chat.requests) == ("failed", [])
    assert isinstance(airflow.error(), InvalidRequest)
    assert "nested too deep (more than 200 levels)" in airflow.error().message


@pytest.mark.parametrize("kind", ["list", "object", "mixed"])
def test_a_reply_as_deep_as_the_limit_is_taken(airflow, chat, kind):
    chat.script(replies.json_reply(200, replies.completion(deep=nested(LIMIT - 1, kind))))
    with airflow.dag():
        ask(prompt="Hi")
    run = airflow.run()
    assert run.state == "success"
    assert run.xcoms()["body"]["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("depth", [LIMIT, 900, 5000])
def test_a_deeper_one_is_named_and_kept_as_text(airflow, chat, depth):
    body = json.dumps(replies.completion(deep=0)).replace('"deep": 0', '"deep": ' + "[" * depth + "]" * depth)
    chat.script(replies.text(200, body, "application/json"))
    with airflow.dag():
        ask(prompt="Hi")
    run = airflow.run()
    assert isinstance(airflow.error(), ProtocolError)
    assert "nested too deep (more than 200 levels)" in airflow.error().message
    assert run.xcoms()["body"] == body


def test_json_of_the_model_that_is_nested_too_deep_is_not_an_answer(airflow, chat):
    chat.script(replies.ok("[" * 201 + "]" * 201))
    with airflow.dag():
        ask(prompt="Hi", result_format="json")
    run = airflow.run()
    assert isinstance(airflow.error(), InvalidOutput)
    assert "nested too deep: more than 200 levels" in airflow.error().message
    assert run.xcoms()["status"] == 200
