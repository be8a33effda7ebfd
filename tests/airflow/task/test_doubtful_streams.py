"""Streams that other servers than OpenAI write: the answer is right, and where it is doubtful that is told once."""

import json
from typing import Any

import pytest

from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import replies
from tests.airflow.transport.test_streaming import both_streams
from tests.support.asking import ask
from tests.support.calling import REQUEST, Log, both

STREAM = {**REQUEST, "stream": True}
WORDS = ("Canary", "Canary seed", "Canary seeds")
SO_FAR = "Each chunk of the stream repeated the text of `content` so far: the last one was taken"
CALL: dict[str, Any] = {
    "id": "a",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
}


def chunk(finish_reason=None, **choice):
    return {"id": "c", "choices": [{"index": 0, "finish_reason": finish_reason, **choice}]}


def so_far():
    """DashScope's stream: each delta is the text so far."""
    return replies.sse(
        [*(chunk(delta={"content": text}) for text in WORDS), chunk("stop", delta={"content": WORDS[-1]})]
    )


def beside():
    """Perplexity's stream: beside each delta the message so far."""
    news = ("Canary", " seed", "s")
    chunks = [chunk(delta={"content": new}, message={"content": text}) for new, text in zip(news, WORDS, strict=True)]
    return replies.sse([*chunks, chunk("stop", delta={"content": ""}, message={"content": WORDS[-1]})])


@both
@pytest.mark.parametrize(("reply", "doubts"), [(so_far, (SO_FAR,)), (beside, ())])
def test_a_reply_has_the_text_once_and_says_what_was_guessed(chat, create, reply, doubts, capsys, caplog):
    log = Log(capsys, caplog)
    chat.script(reply())
    answer = create(ChatCompletionHook(max_attempts=1), STREAM)
    assert (answer.text, answer.doubts) == (WORDS[-1], doubts)
    assert len(log.lines(SO_FAR)) == len(doubts)


@both_streams
def test_a_stream_that_is_read_as_it_comes_has_the_text_once_and_says_what_was_guessed(chat, stream, capsys, caplog):
    log = Log(capsys, caplog)
    chat.script(so_far())
    chunks, answer = stream(ChatCompletionHook(max_attempts=1))
    assert len(chunks) == 4
    assert (answer.text, answer.doubts) == (WORDS[-1], (SO_FAR,))
    assert len(log.lines(SO_FAR)) == 1


@pytest.mark.parametrize(("reply", "times"), [(so_far, 1), (beside, 0)])
def test_a_task_has_the_text_and_warns_once_without_quoting_it(airflow, chat, capsys, caplog, reply, times):
    log = Log(capsys, caplog)
    chat.script(reply())
    with airflow.dag():
        ask(prompt="Hi", request={"stream": True}, result_format="text")
    run = airflow.run()
    assert run.xcoms()["return_value"] == WORDS[-1]
    assert len(log.lines(SO_FAR)) == times
    assert "Canary" not in log.text


def test_a_task_calls_a_tool_whose_name_and_ids_come_with_every_fragment(airflow, chat):
    def fragment(number, piece):
        function = {"name": "get_weather", "arguments": piece}
        return chunk(delta={"tool_calls": [{"index": 0, "id": "abc"[number], "type": "", "function": function}]})

    pieces = ('{"city"', ': "Rome"', "}")
    chat.script(replies.sse([*(fragment(at, piece) for at, piece in enumerate(pieces)), chunk("tool_calls", delta={})]))
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}]
    with airflow.dag():
        ask(prompt="Hi", request={"stream": True, "tools": tools}, result_format="tool_calls")
    run = airflow.run()
    assert run.xcoms()["return_value"] == [{"id": "a", "name": "get_weather", "arguments": {"city": "Rome"}}]
    assert run.xcoms()["body"]["choices"][0]["message"]["tool_calls"] == [CALL]
    assert json.loads(CALL["function"]["arguments"]) == {"city": "Rome"}
    assert len(chat.requests) == 1
