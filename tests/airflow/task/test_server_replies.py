"""What real servers were reported to send or to take, line by line of server_replies.jsonl, and what it means.

Each line has its source. Its bytes are sent by a server on this machine to a task of a real Airflow.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_chat_provider.core.request.prepare import finish
from airflow_chat_provider.errors import IncompleteReply, InvalidRequest, RateLimited, StatusError
from airflow_chat_provider.schema import load_schema
from airflow_chat_provider.testing import ChatServer, Reply, replies
from tests.support import cases, faults
from tests.support.asking import ask
from tests.support.batching import Batch
from tests.support.calling import Log
from tests.support.running import Airflow

CASES: dict[str, dict[str, Any]] = {case["id"]: case for case in cases("server_replies.jsonl")}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": NOTHING}}
TOOLS = {"tools": [WEATHER, TIME]}
STREAM = {"stream": True}
ROME = [("get_weather", {"city": "Rome"})]
NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def reply(name: str, **changes: str) -> Reply:
    """The bytes of a line. ``changes``: texts to replace in its body."""
    found = CASES[name]["input"]
    body = found["body"]
    for old, new in changes.items():
        assert f'"{old}"' in body
        body = body.replace(f'"{old}"', f'"{new}"')
    content = body.encode()
    head = "\r\n".join([*found["head"], f"content-length: {len(content)}", "connection: close"])
    return faults.raw(head.encode() + b"\r\n\r\n" + content)


@dataclass
class Told:
    """What a task made of the replies."""

    xcoms: dict[str, Any]
    error: Any
    log: Log
    requests: list[Any] = field(default_factory=list)

    @property
    def value(self) -> Any:
        assert self.error is None, repr(self.error)
        return self.xcoms.get("return_value")

    @property
    def calls(self) -> list[tuple[str, Any]]:
        return [(call["name"], call["arguments"]) for call in self.value]


class Asking:
    """Call it with the replies that a server sends and the arguments of a task."""

    def __init__(self, airflow: Airflow, chat: ChatServer, log: Log) -> None:
        self._airflow, self._chat, self._log = airflow, chat, log

    def __call__(self, *answers: Reply, **arguments: Any) -> Told:
        self._chat.requests.clear()
        self._chat.script(*answers)
        with self._airflow.dag():
            ask(**{"prompt": "Hi", "result_format": "text", "retry_policy": None, **arguments})
        run = self._airflow.run()
        return Told(run.xcoms(), self._airflow.error(), self._log, [request.json for request in self._chat.requests])


@pytest.fixture
def asked(
    airflow: Airflow, chat: ChatServer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Asking:
    return Asking(airflow, chat, Log(capsys, caplog))


class TestStreams:
    @pytest.mark.parametrize("name", ["A01", "A12", "A14", "A18", "A22"])
    def test_its_text_is_read(self, asked, name):
        told = asked(reply(name), request=STREAM)
        assert told.value == "Hello world"
        assert told.xcoms["body"]["choices"][0]["message"]["content"] == "Hello world"
        assert len(told.requests) == 1

    @pytest.mark.parametrize("name", ["A03", "A04", "A07", "A10"])
    def test_its_call_is_one_call(self, asked, name):
        told = asked(reply(name), request={**STREAM, **TOOLS}, result_format="tool_calls")
        assert told.calls == ROME
        assert len(told.requests) == 1
        (call,) = told.xcoms["body"]["choices"][0]["message"]["tool_calls"]
        assert (call["type"], call["function"]) == (
            "function",
            {"name": "get_weather", "arguments": call["function"]["arguments"]},
        )

    def test_a_whole_body_in_a_stream_s_clothes_is_the_answer(self, asked):
        told = asked(reply("A16"))
        assert told.value == "OK"
        assert told.xcoms["body"]["usage"]["total_tokens"] == 4

    def test_a_choice_s_usage_is_the_body_s(self, asked):
        told = asked(reply("A20"), request=STREAM)
        assert told.value == "Hello"
        assert told.xcoms["body"]["usage"] == {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}


class TestAnswers:
    @pytest.mark.parametrize("name", ["B01", "B03"])
    def test_arguments_in_another_form_are_the_arguments(self, asked, name):
        told = asked(reply(name), request=TOOLS, result_format="tool_calls")
        assert told.calls == ROME
        assert len(told.requests) == 1

    @pytest.mark.parametrize("name", ["B04", "B05", "B06"])
    def test_the_next_task_goes_on_with_the_call(self, asked, name):
        first = asked(reply(name), request=TOOLS, result_format="message")
        (call,) = first.xcoms["messages"][-1]["tool_calls"]
        assert call["type"] == "function"
        json.loads(call["function"]["arguments"])
        answered = [*first.xcoms["messages"], {"role": "tool", "tool_call_id": call["id"], "content": "12:00"}]
        told = asked(replies.ok("Noon."), messages=answered, prompt=None, request=TOOLS)
        assert told.value == "Noon."
        assert told.requests[0]["messages"][-2]["tool_calls"][0]["function"] == call["function"]

    @pytest.mark.parametrize(
        "reason",
        [
            "SAFETY",
            "PROHIBITED_CONTENT",
            "RECITATION",
            "MALFORMED_FUNCTION_CALL",
            "sensitive",
            "network_error",
            "insufficient_system_resource",
            "MAX_TOKENS",
            "max_tokens",
            "abort",
            "content_filtered",
        ],
    )
    def test_an_answer_that_is_not_whole_in_the_server_s_own_word_is_incomplete(self, asked, reason):
        told = asked(reply("B07", SAFETY=reason), on_incomplete="fail")
        assert isinstance(told.error, IncompleteReply)
        assert told.xcoms["body"]["choices"][0]["message"]["content"] == "The answer is"

    @pytest.mark.parametrize("how", [{"result_format": "json"}, {"result_format": "json", "response_schema": NUMBER}])
    def test_json_after_a_thought_is_read(self, asked, how):
        told = asked(reply("B10"), **how)
        assert told.value == {"a": 1}
        assert len(told.requests) == 1

    def test_no_answer_is_warned_of(self, asked):
        told = asked(reply("B12"))
        assert told.value == ""
        assert told.log.lines("empty")

    def test_an_image_goes_on_or_is_said_to_be_left_out(self, asked):
        first = asked(reply("B14"))
        told = asked(replies.ok("Done."), messages=first.xcoms["messages"], prompt="Make it red.")
        assert told.value == "Done."
        assert "images" in told.requests[0]["messages"][1] or told.log.lines("images")

    def test_an_answer_that_goes_on_from_a_prefix_is_one_turn(self, asked):
        messages = [{"role": "user", "content": "JSON"}, {"role": "assistant", "content": "{", "prefix": True}]
        told = asked(reply("B16"), messages=messages, prompt=None)
        turns = told.xcoms["messages"][1:]
        assert "".join(turn["content"] for turn in turns) == '{"a": 1}'
        assert not any(turn.get("prefix") for turn in turns)


class TestErrors:
    @pytest.mark.parametrize("name", ["C01", "C27"])
    def test_a_200_without_an_answer_is_asked_again(self, asked, name):
        told = asked(reply(name), replies.ok("Hi"))
        assert told.value == "Hi"
        assert len(told.requests) == 2

    @pytest.mark.parametrize("name", ["C28", "C29"])
    def test_a_broken_stream_is_asked_again(self, asked, name):
        told = asked(reply(name), replies.stream("Hi"), request=STREAM)
        assert told.value == "Hi"
        assert len(told.requests) == 2

    @pytest.mark.parametrize(
        ("name", "words", "code"),
        [
            ("C02", "temporarily rate-limited upstream", 429),
            ("C07", "used all available credits", "personal-team-blocked:spending-limit"),
            ("C09", "Could not route to", 7003),
            ("C20", "token has expired", "token_expired"),
        ],
    )
    def test_the_server_s_words_and_code_are_in_the_error(self, asked, name, words, code):
        told = asked(reply(name), max_attempts=1)
        assert words in told.error.message
        assert told.error.code == code

    @pytest.mark.parametrize("name", ["C05", "C07", "C08", "C12"])
    def test_what_no_wait_can_help_is_final(self, asked, name):
        told = asked(*[reply(name)] * 3)
        assert isinstance(told.error, StatusError)
        assert told.error.final
        assert len(told.requests) == 1

    def test_a_request_that_is_too_large_is_told_to_be(self, asked):
        assert "smaller request" in asked(reply("C08")).error.message

    @pytest.mark.parametrize(("name", "seconds"), [("C04", 2.5), ("C13", 2.0), ("C35", 2.0)])
    def test_the_wait_that_the_server_names_is_read(self, asked, name, seconds):
        told = asked(reply(name), max_attempts=1)
        assert isinstance(told.error, RateLimited)
        assert told.error.retry_after == seconds

    def test_one_bad_generation_weakens_no_form(self, asked):
        how = {"response_schema": NUMBER, "result_format": "json"}
        first = asked(reply("C14"), replies.ok('{"a": 1}'), **how)
        assert first.value == {"a": 1}
        second = asked(replies.ok('{"a": 2}'), **how)
        forms = [request["response_format"]["type"] for request in [*first.requests, *second.requests]]
        assert forms == ["json_schema"] * 3

    def test_a_context_that_is_too_long_is_final_whatever_form_is_asked_for(self, asked):
        told = asked(*[reply("C16")] * 3, response_schema=NUMBER, result_format="json")
        assert told.error.final
        assert len(told.requests) == 1

    def test_one_generation_that_is_no_tool_call_is_asked_again(self, asked):
        told = asked(
            reply("C17"),
            replies.tool_calls([("get_weather", {"city": "Rome"})]),
            request=TOOLS,
            result_format="tool_calls",
        )
        assert told.calls == ROME
        assert len(told.requests) == 2

    def test_a_field_that_the_user_never_wrote_is_left_out(self, asked):
        told = asked(reply("C26"), replies.stream("Hi"), request=STREAM)
        assert told.value == "Hi"
        assert ["stream_options" in request for request in told.requests] == [True, False]

    def test_an_empty_account_ends_a_batch_at_once(self, chat, tmp_path):
        chat.default = reply("C32")
        batch = Batch(tmp_path, chat)
        batch.texts(3)
        error = batch.error(max_attempts=3, deadline=8, max_concurrency=1)
        assert error.code == "1113"
        assert len(chat.requests) == 1


TAKEN = [name for name, case in CASES.items() if name[0] == "D" and case["expected"] == "taken"]
CLOSED = [name for name, case in CASES.items() if name[0] == "D" and "request_schema='open'" in case["expected"]]
HELLO = [{"role": "user", "content": "Hi"}]


def request_of(name: str) -> tuple[dict[str, Any], str]:
    """The request of a line, and its server."""
    fields = dict(CASES[name]["input"])
    base_url = fields.pop("base_url")
    return {"model": "m", "messages": HELLO, **fields}, base_url


class TestRequests:
    def test_each_line_is_tried(self):
        assert {*TAKEN, *CLOSED, "D27"} == {name for name in CASES if name[0] == "D"}

    @pytest.mark.parametrize("name", TAKEN)
    def test_what_a_server_takes_is_sent(self, asked, name):
        request, base_url = request_of(name)
        sent_there, _ = finish(request, load_schema("2026-11"), base_url=base_url)
        assert sent_there == request
        told = asked(replies.ok("Hi"), request=request, prompt=None)
        assert told.value == "Hi"
        assert told.requests == [request]

    @pytest.mark.parametrize("name", CLOSED)
    def test_what_is_out_of_bounds_is_refused_with_the_way_out(self, asked, chat, name):
        request, _ = request_of(name)
        with pytest.raises(InvalidRequest, match="request_schema='open'"):
            ask(request=request)
        told = asked(replies.ok("Hi"), request=request, prompt=None, request_schema="open")
        assert told.value == "Hi"
        assert told.requests == [request]

    @pytest.mark.parametrize(
        "fields",
        [
            {"parallel_tool_calls": False},
            {"max_tokens": 9, "max_completion_tokens": 9},
            {"tools": [{"type": "function", "function": {"name": "mail.send", "parameters": NOTHING}}]},
        ],
        ids=["parallel_tool_calls", "two limits", "name"],
    )
    def test_without_a_schema_no_rule_holds_a_request_back(self, asked, fields):
        request = {"model": "m", "messages": HELLO, **fields}
        told = asked(replies.ok("Hi"), request=request, prompt=None, request_schema=None)
        assert told.value == "Hi"
        assert told.requests == [request]


def test_each_line_stands_in_a_test():
    source = Path(__file__).read_text("utf-8")
    assert [name for name in CASES if name[0] != "D" and f'"{name}"' not in source] == []
