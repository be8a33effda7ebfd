"""What a user scripts by name comes out of the hook as what the name says."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from airflow_chat_provider import testing
from airflow_chat_provider.errors import RateLimited, TransportError
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, Reply, replies
from tests.support import faults
from tests.support.calling import REQUEST, create


def message(chat_server: ChatServer, reply: Reply) -> dict[str, Any]:
    chat_server.script(reply)
    answered = create(ChatCompletionHook()).message
    assert answered is not None
    return dict(answered)


def test_every_public_name_is_there() -> None:
    assert all(hasattr(testing, name) for name in testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        testing.nothing  # noqa: B018 - what it does when it is looked up


def test_ok_json_is_a_text_that_is_json(chat_server: ChatServer) -> None:
    assert json.loads(message(chat_server, replies.ok_json({"label": "good"}))["content"]) == {"label": "good"}


def test_tool_calls_have_names_arguments_and_ids(chat_server: ChatServer) -> None:
    reply = replies.tool_calls([("weather", {"city": "Rome"}), ("broken", "{no json")])
    calls = message(chat_server, reply)["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "weather", "arguments": '{"city": "Rome"}'},
        {"name": "broken", "arguments": "{no json"},
    ]
    assert [(call["id"], call["type"]) for call in calls] == [("call_1", "function"), ("call_2", "function")]
    assert json.loads(reply.body)["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("text", ["", "Hello", " two  words,\nand more ", "é {{ x }}"])
def test_a_stream_is_put_together_to_the_text_it_was_made_of(chat_server: ChatServer, text: str) -> None:
    chat_server.script(replies.stream(text, pause=0.001))
    with contextlib.closing(ChatCompletionHook()) as hook, hook.stream(REQUEST) as stream:
        chunks = list(stream)
    assert (stream.reply.text or "") == text
    assert stream.reply.body["usage"] == replies.USAGE
    assert len(chunks) == max(1, len(text.split()) + text.startswith(" ")) + 2


def test_rate_limited_says_how_long_to_wait(chat_server: ChatServer) -> None:
    chat_server.script(replies.rate_limited(retry_after=0.25))
    with pytest.raises(RateLimited) as caught:
        create(ChatCompletionHook(max_attempts=1))
    assert caught.value.retry_after == 0.25


@pytest.mark.parametrize("reply", [faults.half_body(), faults.cut_chunked(), faults.reset()])
def test_a_cut_reply_is_no_answer(chat_server: ChatServer, reply: Reply) -> None:
    chat_server.script(reply)
    with pytest.raises(TransportError):
        create(ChatCompletionHook(max_attempts=1))


def test_a_cut_stream_breaks_off_behind_its_words(chat_server: ChatServer) -> None:
    chat_server.script(faults.cut_stream("Hello, you"))
    with pytest.raises(TransportError) as caught:
        create(ChatCompletionHook(max_attempts=1), {**REQUEST, "stream": True})
    assert caught.value.body["choices"][0]["message"]["content"] == "Hello, you"
