"""Asking until the answer fits: what is sent next, and what is told at the end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.answer.dialogue import RUNGS, Dialogue, Wanted
from airflow_chat_provider.core.answer.output_schema import load_output
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.errors import (
    IncompleteReply,
    InvalidOutput,
    ProtocolError,
    StatusError,
    TransportError,
)
from airflow_chat_provider.core.request.json_values import encode

REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
REFUSED = Reply(400, {}, error=StatusError("no", status=400))
TOOLS: dict[str, Any] = {
    **REQUEST,
    "tool_choice": "required",
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
}


def wanted(retries: int = 1) -> Wanted:
    return Wanted(load_output(SCHEMA), retries=retries, result_format="json")


def answer(text: str, **usage: Any) -> Reply:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return Reply(200, {"choices": [choice], "usage": usage or {"total_tokens": 1}})


def spoilt(code: str = "json_validate_failed", status: int = 400, **more: Any) -> Reply:
    """A server's word that this one answer could not be used."""
    body = {"error": {"message": "Failed to generate JSON. Please adjust your prompt.", "code": code, **more}}
    kind = ProtocolError if status < 300 else StatusError
    return Reply(status, body, error=kind(f"No: {body['error']['message']}", status=status, code=code))


def refused(message: str) -> Reply:
    body = {"error": {"message": message}}
    return Reply(400, body, error=StatusError(f"Correct the request: {message}", status=400, body=body))


def ended(reply: Reply | None) -> Reply:
    assert reply is not None
    return reply


def test_without_a_wish_each_reply_is_the_last_and_the_request_is_sent_as_it_is() -> None:
    dialogue = Dialogue(REQUEST, Wanted())
    assert dialogue.request is REQUEST
    assert ended(dialogue.take(answer("no JSON"))).error is None


def test_a_reply_that_is_an_error_is_the_last() -> None:
    error = TransportError("gone", sent=True)
    assert ended(Dialogue(REQUEST, wanted()).take(Reply(None, None, error=error))).error is error


def test_the_correction_follows_the_question_and_replaces_the_one_before() -> None:
    dialogue = Dialogue(REQUEST, wanted(3))
    lengths = []
    for text in ("{}", '{"a": "x"}', "[]"):
        assert dialogue.take(answer(text)) is None
        lengths.append(len(dialogue.request["messages"]))
        assert dialogue.request["messages"][-2] == {"role": "assistant", "content": text}
    assert lengths == [3, 3, 3]


def test_a_correction_quotes_nothing_of_the_answer() -> None:
    dialogue = Dialogue(REQUEST, wanted())
    dialogue.take(answer('{"a": "canary"}'))
    assert "canary" not in dialogue.request["messages"][-1]["content"]


def test_attempts_and_usage_are_those_of_all_asks() -> None:
    dialogue = Dialogue(REQUEST, wanted())
    dialogue.take(
        answer("{}", total_tokens=3, prompt_tokens_details={"cached_tokens": 1}, cost=0.5)._replace(attempts=2)
    )
    last = ended(
        dialogue.take(answer('{"a": 1}', total_tokens=4, prompt_tokens_details={"cached_tokens": 2}, cost=0.25))
    )
    assert last.attempts == 3
    assert last.body["usage"] == {"total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}, "cost": 0.75}


def test_an_error_at_the_end_has_the_body_with_the_whole_usage() -> None:
    dialogue = Dialogue(REQUEST, wanted())
    dialogue.take(answer("{}"))
    last = ended(dialogue.take(answer("{}")))
    assert isinstance(last.error, InvalidOutput)
    assert last.error.body is last.body
    assert last.body["usage"]["total_tokens"] == 2


def test_refusals_lead_down_the_ladder_and_are_not_counted_as_answers() -> None:
    dialogue, formats = Dialogue(REQUEST, wanted(0)), []
    for _ in RUNGS[1:]:
        formats.append(dialogue.request.get("response_format", {}).get("type"))
        assert dialogue.take(REFUSED) is None
    formats.append(dialogue.request.get("response_format"))
    assert formats == ["json_schema", "json_object", None]
    assert ended(dialogue.take(answer('{"a": 1}'))).error is None
    assert dialogue.stepped_down


def test_a_correction_is_made_on_the_rung_that_was_reached() -> None:
    dialogue = Dialogue(REQUEST, wanted())
    dialogue.take(REFUSED)
    assert dialogue.take(answer("{}")) is None
    assert dialogue.request["response_format"] == {"type": "json_object"}
    assert [message["role"] for message in dialogue.request["messages"]] == ["system", "user", "assistant", "user"]


EVENTS = {
    "refused": REFUSED,
    "form": refused("response_format json_schema is not supported"),
    "schema": refused("Invalid schema for response_format"),
    "spoilt": spoilt(),
    "shown": spoilt(failed_generation='{"a": '),
    "other": refused("prompt is too long"),
}


@given(st.lists(st.sampled_from(["{}", "[]", '{"a": 1}', *EVENTS]), max_size=6))
def test_whoever_is_told_of_the_same_replies_comes_to_the_same_point(texts: list[str]) -> None:
    told: list[Reply] = []
    one = Dialogue(REQUEST, wanted(2))
    for text in texts:
        told.append(EVENTS.get(text) or answer(text))
        last = one.take(told[-1])
        other = Dialogue(REQUEST, Wanted.from_dict(json.loads(json.dumps(wanted(2).to_dict()))))
        same = [other.take(reply) for reply in told][-1]
        assert (last is None) == (same is None)
        if last is not None and same is not None:
            assert (last.body, last.attempts, str(last.error)) == (same.body, same.attempts, str(same.error))
            return
        assert (other.request, other.call, other.by_form) == (one.request, one.call, one.by_form)


@pytest.mark.parametrize("code", ["context_length_exceeded", "model_not_found"])
def test_a_refusal_that_says_another_reason_ends_it(code: str) -> None:
    refused = Reply(400, {}, error=StatusError("no", status=400, code=code))
    assert ended(Dialogue(REQUEST, wanted()).take(refused)).error is refused.error


def test_an_answer_of_ten_megabytes_that_nearly_fits_is_shown_again_in_part() -> None:
    dialogue = Dialogue(REQUEST, wanted())
    assert dialogue.take(answer(json.dumps({"a": 1, "b": "x" * 10_000_000}))) is None
    assert len(json.dumps(dialogue.request)) < 20_000
    assert "b" in dialogue.request["messages"][-1]["content"]


def test_a_call_that_fails_after_answers_that_did_not_fit_tells_of_them_and_keeps_the_last() -> None:
    dialogue = Dialogue(REQUEST, wanted(2))
    dialogue.take(answer("{}", total_tokens=3)._replace(request_id="r1"))
    dialogue.take(answer("{}", total_tokens=4)._replace(request_id="r2"))
    last = ended(dialogue.take(Reply(None, None, error=TransportError("Try again: reset", sent=True))))
    assert str(last.error) == "Try again: reset; 2 earlier answers did not fit (request id r1, r2)"
    assert isinstance(last.error, TransportError)
    assert last.error.sent is True
    assert (last.status, last.body["usage"]["total_tokens"]) == (200, 7)


def test_a_refusal_after_an_answer_keeps_what_the_server_said_of_it() -> None:
    dialogue = Dialogue(REQUEST, wanted(2))
    dialogue.take(answer("{}"))
    last = ended(dialogue.take(Reply(500, {"error": "oops"}, error=StatusError("oops", status=500))))
    assert (last.status, last.body) == (500, {"error": "oops"})
    assert "1 earlier answer did not fit" in str(last.error)


def test_an_answer_with_what_no_request_can_hold_is_shown_again_as_one_can() -> None:
    dialogue = Dialogue(REQUEST, wanted())
    assert dialogue.take(answer("half \ud83d of a pair, and \x00")) is None
    assert encode(dialogue.request).count("\ufffd".encode()) == 2


@pytest.mark.parametrize(
    "said", ["prompt is too long", "Unsupported value: 'model'", "Input data may be inappropriate"]
)
def test_a_refusal_for_another_reason_ends_it_though_it_has_no_code(said: str) -> None:
    reply = refused(said)
    assert ended(Dialogue(REQUEST, wanted()).take(reply)).error is reply.error


def test_where_the_form_was_not_the_only_fault_the_other_one_is_told() -> None:
    dialogue = Dialogue(REQUEST, wanted())
    dialogue.take(refused("response_format json_schema is not supported"))
    dialogue.take(refused("response_format json_object is not supported"))
    assert "top_k" in str(ended(dialogue.take(refused("top_k is too small"))).error)


def test_only_a_refused_form_counts_for_other_schemas() -> None:
    form = refused("response_format json_schema is not supported")
    one, other = Dialogue(REQUEST, wanted()), Dialogue(REQUEST, wanted())
    one.take(form)
    other.take(REFUSED)
    other.take(form)
    assert (one.by_form, other.by_form, other.rung) == (1, 0, 2)


def test_an_answer_that_the_server_could_not_use_is_asked_for_again_in_the_same_form() -> None:
    dialogue = Dialogue(REQUEST, wanted())
    first = dialogue.request
    assert dialogue.take(spoilt()) is None
    assert dialogue.request == first
    last = ended(dialogue.take(answer('{"a": 1}')))
    assert (last.error, last.attempts, dialogue.rung, dialogue.stepped_down) == (None, 2, 0, False)


@pytest.mark.parametrize("status", [400, 422, 200])
def test_where_the_error_shows_that_answer_the_model_sees_it_again(status: int) -> None:
    dialogue = Dialogue(REQUEST, wanted())
    assert dialogue.take(spoilt(status=status, failed_generation='{"a": \ud83d')) is None
    shown, told = dialogue.request["messages"][1:]
    assert shown == {"role": "assistant", "content": '{"a": \ufffd'}
    assert told["content"].startswith("Your answer does not fit: it is not the JSON that was asked for. ")
    assert json.dumps(SCHEMA) in told["content"]


def test_such_an_answer_of_ten_megabytes_is_shown_in_part() -> None:
    dialogue = Dialogue(REQUEST, wanted())
    dialogue.take(spoilt(failed_generation="x" * 10_000_000))
    assert len(json.dumps(dialogue.request)) < 20_000


def test_after_output_retries_the_error_is_the_server_s() -> None:
    dialogue = Dialogue(REQUEST, wanted())
    dialogue.take(answer("{}", total_tokens=3)._replace(request_id="r1"))
    last = ended(dialogue.take(spoilt()._replace(attempts=2)))
    assert isinstance(last.error, StatusError)
    assert (last.error.code, last.attempts) == ("json_validate_failed", 3)
    assert "Failed to generate JSON" in str(last.error)
    assert "1 earlier answer did not fit (request id r1)" in str(last.error)
    assert last.body["usage"] == {"total_tokens": 3}


def test_its_usage_is_counted_where_it_is_told() -> None:
    dialogue = Dialogue(REQUEST, wanted())
    reply = spoilt()
    dialogue.take(reply._replace(body={**reply.body, "usage": {"total_tokens": 5}}))
    assert ended(dialogue.take(answer('{"a": 1}', total_tokens=4))).body["usage"] == {"total_tokens": 9}


def test_where_nothing_is_checked_it_is_the_last() -> None:
    reply = spoilt("tool_use_failed")
    assert ended(Dialogue(REQUEST, Wanted()).take(reply)).error is reply.error


@pytest.mark.parametrize("want", [Wanted(tools=True, result_format="tool_calls"), Wanted(result_format="json")])
def test_calls_and_json_without_a_schema_are_asked_for_again_too(want: Wanted) -> None:
    dialogue = Dialogue(TOOLS, want)
    assert dialogue.take(spoilt("tool_use_failed", failed_generation="<function=f>")) is None
    assert dialogue.request["messages"][-2] == {"role": "assistant", "content": "<function=f>"}


def test_an_answer_that_the_token_limit_cut_off_is_not_asked_for_again() -> None:
    cut = spoilt(failed_generation="max completion tokens reached before generating a valid document")
    last = ended(Dialogue(REQUEST, wanted()).take(cut))
    assert isinstance(last.error, IncompleteReply)
    assert str(last.error).startswith("Raise the token limit")
    assert last.body == cut.body


@pytest.mark.parametrize(
    "calls", [[], [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a'}}]]
)
def test_calls_that_the_token_limit_cut_off_are_not_asked_for_again(calls: list[Any]) -> None:
    choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "tool_calls": calls}}
    last = ended(Dialogue(TOOLS, Wanted(tools=True)).take(Reply(200, {"choices": [choice]})))
    assert isinstance(last.error, IncompleteReply)


def test_another_choice_that_was_cut_off_keeps_nobody_from_asking_again() -> None:
    reply = answer("{}")
    cut = {"index": 1, "finish_reason": "length", "message": {"role": "assistant", "content": '{"a'}}
    assert Dialogue(REQUEST, wanted()).take(reply._replace(body={"choices": [*reply.body["choices"], cut]})) is None


def test_a_correction_tells_the_schema_in_words_unless_the_prompt_does() -> None:
    dialogue = Dialogue(REQUEST, wanted(2))
    for text in ("Sure! Here you are.", "{}"):
        dialogue.take(answer(text))
        assert json.dumps(SCHEMA) in dialogue.request["messages"][-1]["content"]
        assert dialogue.request["response_format"]["type"] == "json_schema"
    assert not dialogue.stepped_down
    lower = Dialogue(REQUEST, wanted(), 1)
    lower.take(answer("{}"))
    assert json.dumps(lower.request).count("properties") == 1


def test_a_format_of_the_user_s_own_stays_and_the_correction_tells_the_schema() -> None:
    own = {**REQUEST, "response_format": {"type": "json_object"}}
    dialogue = Dialogue(own, wanted())
    dialogue.take(answer("{}"))
    assert dialogue.request["response_format"] == {"type": "json_object"}
    assert json.dumps(SCHEMA) in dialogue.request["messages"][-1]["content"]
