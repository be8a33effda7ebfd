"""The message that answers a tool call."""

import pytest

from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.tools import tool_message

CALL = {"id": "call_1", "name": "weather", "arguments": {"city": "Rome"}}


@pytest.mark.parametrize(
    ("result", "content"),
    [("sunny", "sunny"), ({"sky": "blü"}, '{"sky": "blü"}'), (None, "null"), ([1], "[1]"), ("", "")],
)
def test_a_result_is_text_or_json(result, content):
    assert tool_message(CALL, result) == {"role": "tool", "tool_call_id": "call_1", "content": content}


def test_a_function_call_of_the_older_kind_is_answered_in_its_kind():
    assert tool_message({**CALL, "id": None}, 1) == {"role": "function", "name": "weather", "content": "1"}


@pytest.mark.parametrize(
    ("call", "result"),
    [(None, "x"), ("weather", "x"), ({}, "x"), (CALL, object()), (CALL, float("nan")), (CALL, {1, 2})],
)
def test_what_is_no_call_or_no_result_is_told(call, result):
    with pytest.raises(InvalidRequest):
        tool_message(call, result)
