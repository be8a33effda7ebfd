"""What is known of a request before it runs is checked, and what is not known is never held against it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.prepare import check_known
from airflow_chat_provider.core.request.rules import check_rules
from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.schema import load_schema
from tests.support import rule_cases_messages, rule_cases_parameters, rule_cases_tools
from tests.support.rule_requests import OPENAI
from tests.unit.request.test_rules_any_request import BODIES

CASES = [*rule_cases_messages.CASES, *rule_cases_tools.CASES, *rule_cases_parameters.CASES]
ERRORS = [case for case in CASES if case.kind in ("error", "closed") and case.at is None]
SCHEMA = load_schema("2026-11")
ANYTHING = load_schema({})
REQUESTS = [*(body["body"] for body in BODIES), *(case.passes for case in CASES), *(case.breaks for case in CASES)]


def broken(request: Any, schema: Any = SCHEMA, **how: Any) -> InvalidRequest | None:
    try:
        check_known(request, schema, **how)
    except InvalidRequest as error:
        return error
    return None


def refused(request: Any, base_url: str = OPENAI) -> InvalidRequest | None:
    """By the rules of a server that is known."""
    try:
        check_rules(request, base_url=base_url)
    except InvalidRequest as error:
        return error
    return None


VALID = [request for request in REQUESTS if broken(request) is None]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a value, itself included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def masked(value: Any, hidden: set[tuple[Any, ...]], path: tuple[Any, ...] = ()) -> Any:
    if path in hidden:
        return UNKNOWN
    if isinstance(value, dict):
        return {key: masked(item, hidden, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, hidden, (*path, index)) for index, item in enumerate(value)]
    return value


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: f"{case.rule}-{case.path}")
def test_a_rule_that_holds_at_every_server_is_checked_before_the_task_runs(case: Any) -> None:
    error = broken(case.breaks, ANYTHING)
    assert error is not None
    assert (error.keyword, error.path) == (case.rule, case.path)


def test_without_a_schema_no_rule_is_checked() -> None:
    assert [case.rule for case in ERRORS if broken(case.breaks, None) is not None] == []


@pytest.mark.no_cover
@pytest.mark.parametrize("index", range(len(VALID)))
def test_one_unknown_value_makes_no_valid_request_wrong(index: int) -> None:
    request = VALID[index]
    for place in places(request):
        assert broken(masked(request, {place})) is None, place
        assert broken(masked(request, {place}), may_grow=True) is None, place
        if place and refused(request) is None:
            assert refused(masked(request, {place})) is None, place


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_any_number_of_unknown_values_makes_no_valid_request_wrong(data: st.DataObject) -> None:
    request = data.draw(st.sampled_from(VALID))
    hidden = data.draw(st.sets(st.sampled_from(places(request)), max_size=12))
    assert broken(masked(request, hidden)) is None
    assert broken(masked(request, hidden), may_grow=True) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_key_that_is_still_to_come_makes_no_valid_request_wrong(data: st.DataObject) -> None:
    request = data.draw(st.sampled_from(VALID))
    left_out = data.draw(st.sets(st.sampled_from(sorted(request)))) - {"messages", "model"}
    rest = {key: value for key, value in request.items() if key not in left_out}
    assert broken(rest, may_grow=True) is None


CALL = {
    "role": "assistant",
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
ANSWER = {"role": "tool", "tool_call_id": "a", "content": "1"}
USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("request_", "keyword"),
    [
        ({"messages": [USER], "top_logprobs": 2, "temperature": UNKNOWN}, "top_logprobs_without_logprobs"),
        ({"messages": [USER, CALL, USER]}, "tool_call_without_answer"),
        ({"messages": [CALL, {**ANSWER, "content": UNKNOWN}, USER, ANSWER]}, "tool_message_without_call"),
        ({"messages": [UNKNOWN, CALL, USER, UNKNOWN]}, "tool_call_without_answer"),
        ({"messages": [UNKNOWN, USER, ANSWER]}, "tool_message_without_call"),
        ({"messages": [USER], "modalities": ["text", "audio"], "n": UNKNOWN}, "audio_parameter"),
        ({"messages": UNKNOWN, "stream_options": {"include_usage": UNKNOWN}}, "stream_options_without_stream"),
        ({"messages": UNKNOWN, "max_tokens": 0}, "token_limit"),
        ({"messages": UNKNOWN, "tool_choice": "auto", "model": UNKNOWN}, "tool_choice_without_tools"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_known_beside_an_unknown_value_is_held_to_the_rules(request_: dict[str, Any], keyword: str) -> None:
    error = refused({"model": "m", **request_})
    assert error is not None
    assert error.keyword == keyword


@pytest.mark.parametrize(
    "messages",
    [
        [UNKNOWN, ANSWER],
        [{**CALL, "tool_calls": UNKNOWN}, ANSWER],
        [{**CALL, "role": UNKNOWN}, ANSWER],
        [CALL, UNKNOWN],
        [CALL, {**ANSWER, "tool_call_id": UNKNOWN}],
        [CALL, UNKNOWN, ANSWER],
        [{**CALL, "tool_calls": [{**CALL["tool_calls"][0], "id": UNKNOWN}]}, ANSWER],  # type: ignore[dict-item]
        [{**CALL, "tool_calls": [UNKNOWN]}, ANSWER],
    ],
)
def test_a_call_and_an_answer_may_be_what_is_unknown(messages: list[Any]) -> None:
    assert refused({"model": "m", "messages": messages}) is None


def test_enough_known_requests_are_listed() -> None:
    assert len(VALID) > 100
