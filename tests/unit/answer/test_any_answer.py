"""Whatever stands in a completion, its call ends with it or with an error of ours: it is paid for."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
from airflow_chat_provider.core.answer.output_schema import load_output
from airflow_chat_provider.core.answer.reply import Reply, flaw, incomplete
from airflow_chat_provider.core.answer.result import Delivery, outcome, result
from airflow_chat_provider.core.errors import IncompleteReply, InvalidOutput
from airflow_chat_provider.core.json_text.writing import sanitize
from airflow_chat_provider.core.messages import conversation_message
from airflow_chat_provider.core.types import OnIncomplete, ResultFormat
from airflow_chat_provider.schema import validate_request
from tests.support.fuzzing import fuzz

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"required": ["city"]}}}
REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL]}
TREE = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
DEEP = '{"children": [' * 400 + "]}" * 400
FORMATS = ("raw", "message", "text", "json", "tool_calls")

QUICK = fuzz(200)
# Names that mean something somewhere in a completion, and texts that do.
WORDS = st.sampled_from(
    [
        *("content", "role", "tool_calls", "function_call", "function", "custom", "name", "arguments", "input", "id"),
        *("type", "text", "refusal", "audio", "finish_reason", "message", "total_tokens", "length", "weather", ""),
        *("reasoning_content", "reasoning", "images", "</think>{}", '"{}"', "null", "SAFETY", "brand_new_reason"),
        *("{}", "[1]", '{"city": 5}', "NaN", "```json\n{}\n```", "\ud800", "9" * 5000, "[" * 2000, DEEP),
    ]
)
NUMBERS = st.sampled_from([0, -1, 2**63 - 1, 2**63, 10**400, 0.5, 1e308, float("inf"), float("nan")])
JSON = st.recursive(
    WORDS | NUMBERS | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


def some(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these keys, each with what belongs there or with anything."""
    return st.fixed_dictionaries({}, optional={key: value | JSON for key, value in values.items()})


FUNCTIONS = some(name=WORDS, arguments=WORDS, input=WORDS)
CALLS = some(id=WORDS, type=WORDS, function=FUNCTIONS, custom=FUNCTIONS)
MESSAGES = some(
    content=WORDS | st.lists(some(type=WORDS, text=WORDS), max_size=2),
    tool_calls=st.lists(CALLS, max_size=3),
    function_call=FUNCTIONS,
    refusal=st.none(),
    audio=some(id=WORDS),
)
CHOICES = st.fixed_dictionaries({"message": MESSAGES}, optional={"finish_reason": WORDS | JSON})
BODIES = st.fixed_dictionaries({"choices": st.lists(CHOICES, min_size=1, max_size=2)}, optional={"usage": JSON})
WANTED = st.builds(
    Wanted,
    st.sampled_from([None, load_output({}), load_output(TREE), load_output({"required": ["city"]})]),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from(FORMATS),
)


@pytest.mark.slow
@QUICK
@given(bodies=st.lists(BODIES, min_size=1, max_size=3), wanted=WANTED)
def test_a_dialogue_ends_with_a_reply_and_sends_only_what_is_json(bodies: list[Any], wanted: Wanted) -> None:
    dialogue = Dialogue(REQUEST, wanted)
    for body in bodies:
        if flaw(body, is_json=True) is not None:
            return
        final = dialogue.take(Reply(200, sanitize(body)[0]))
        json.dumps(dialogue.request)
        if final is not None:
            assert final.error is None or isinstance(final.error, InvalidOutput | IncompleteReply)
            assert sanitize(final.body) == (final.body, [])
            return
        assert isinstance(dialogue.request["messages"][-1], dict)


@QUICK
@given(body=BODIES | st.fixed_dictionaries({"choices": JSON}) | JSON, form=st.sampled_from(FORMATS))
def test_any_body_gives_a_result_or_one_of_our_errors(body: Any, form: ResultFormat) -> None:
    with contextlib.suppress(InvalidOutput, IncompleteReply):
        sanitize(result(Reply(200, body), form, REQUEST))


@QUICK
@given(body=BODIES)
def test_any_completion_is_judged_and_can_be_continued(body: Any) -> None:
    if flaw(body, is_json=True) is None:
        incomplete(body)
        for choice in body["choices"]:
            turn = conversation_message(sanitize(choice.get("message") or {})[0])
            validate_request({"model": "m", "messages": [turn]})
            ids = [call["id"] for call in turn.get("tool_calls", ())]
            assert len(set(ids)) == len(ids)


@QUICK
@given(body=BODIES, form=st.sampled_from(FORMATS), on_incomplete=st.sampled_from(["warn", "fail", "ignore"]))
def test_what_a_completion_leaves_is_told_in_short_sentences(
    body: Any, form: ResultFormat, on_incomplete: OnIncomplete
) -> None:
    if flaw(body, is_json=True) is None:
        left = outcome(Delivery(form, on_incomplete=on_incomplete), REQUEST, Reply(200, sanitize(body)[0]), {})
        assert left.error is None or isinstance(left.error, InvalidOutput | IncompleteReply)
        assert all(warning.isprintable() and len(warning) < 1000 for warning in left.warnings)
        assert left.xcoms["messages"][:1] == REQUEST["messages"]


def answered(text: str, **usage: Any) -> Reply:
    body = {"choices": [{"finish_reason": "stop", "message": {"content": text}}], "usage": usage}
    return Reply(200, body, request_id="req_1")


def last(dialogue: Dialogue, *replies: Reply) -> Reply:
    for reply in replies[:-1]:
        assert dialogue.take(reply) is None
    final = dialogue.take(replies[-1])
    assert final is not None
    return final


def test_an_answer_too_deep_to_check_is_corrected_and_then_an_error_with_its_body() -> None:
    dialogue = Dialogue(REQUEST, Wanted(load_output(TREE), result_format="json"))
    final = last(dialogue, answered(DEEP, total_tokens=3), answered(DEEP, total_tokens=4))
    error = final.error
    assert isinstance(error, InvalidOutput)
    assert "nested too deep" in error.message
    assert (error.status, error.request_id, error.body) == (200, "req_1", final.body)
    assert final.body["usage"] == {"total_tokens": 7}


class Panic(BaseException):
    """What a library in Rust raises, which is not an Exception."""


Panic.__name__ = "PanicException"


@pytest.mark.parametrize("mistake", [KeyError("Jane Doe"), RecursionError(), Panic("Jane Doe")])
def test_a_bug_while_reading_an_answer_is_an_invalid_output_that_names_its_class_only(
    mistake: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise mistake

    for place in ("dialogue.read_json", "dialogue._problem_of_calls", "reply.text_of"):
        with monkeypatch.context() as patched:
            patched.setattr(f"airflow_chat_provider.core.answer.{place}", broken)
            wanted = Wanted(load_output(TREE), tools="calls" in place, result_format="json")
            final = last(Dialogue(REQUEST, wanted), answered("{}", total_tokens=3))
            error = final.error
            if place.startswith("reply"):
                with pytest.raises(InvalidOutput) as caught:
                    result(final, "text")
                error = caught.value
        assert isinstance(error, InvalidOutput)
        assert f"it could not be read ({type(mistake).__name__})" in error.message
        assert "Jane" not in error.message
        assert (error.status, error.request_id, error.body) == (200, "req_1", final.body)
        assert final.body["usage"] == {"total_tokens": 3}


@pytest.mark.parametrize("end", [MemoryError(), KeyboardInterrupt(), SystemExit()])
def test_memory_errors_and_signals_are_raised_as_they_are(end: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise end

    monkeypatch.setattr("airflow_chat_provider.core.answer.dialogue.read_json", broken)
    with pytest.raises(type(end)):
        Dialogue(REQUEST, Wanted(load_output(TREE), result_format="json")).take(answered("{}"))


def test_a_recursive_model_class_refuses_an_answer_that_is_too_deep() -> None:
    class Node(BaseModel):
        children: list[Node] = []

    Node.model_rebuild(_types_namespace={"Node": Node})
    final = last(Dialogue(REQUEST, Wanted(load_output(Node), retries=0, result_format="json")), answered(DEEP))
    assert isinstance(final.error, InvalidOutput)


def test_the_sum_of_any_usages_can_be_kept_by_xcom() -> None:
    many, some = {"a": 2**63 - 1, "b": 1e308, "c": {"d": 1}, "e": "1"}, {"a": 1, "b": 1e308, "c": 5, "e": 2}
    dialogue = Dialogue(REQUEST, Wanted(load_output({"const": 1}), result_format="json"))
    final = last(dialogue, answered("{}", **many), answered("{}", **some))
    assert sanitize(final.body["usage"]) == (final.body["usage"], [])
    assert final.body["usage"] == {"a": 1, "c": {"d": 1}, "e": 2}


def test_malformed_tools_of_an_unchecked_request_are_ignored() -> None:
    for tools in (5, "x", [5, {}, {"type": 5}, {"type": "function", "function": "x"}], {"a": 1}):
        request = {**REQUEST, "tools": tools, "functions": tools, "tool_choice": {"type": "allowed_tools"}}
        final = last(Dialogue(request, Wanted(tools=True, retries=0)), answered("Hi"))
        assert isinstance(final.error, InvalidOutput | None)
