"""What calls took is told in sixteen keys, whichever words the server has for it and whatever else it sends."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted, drive
from airflow_chat_provider.core.answer.output_schema import load_output
from airflow_chat_provider.core.answer.record import dump, load
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.result import Delivery, outcome
from airflow_chat_provider.core.answer.usage import KEYS, read_usage, summary, with_attempt
from airflow_chat_provider.core.cost.prices import stated
from airflow_chat_provider.core.errors import StatusError, TransportError
from airflow_chat_provider.testing import replies
from tests.support.fuzzing import fuzz

REQUEST = {"model": "asked", "messages": [{"role": "user", "content": "Hi"}]}


def answer(usage=replies.USAGE, message=None, **more):
    choices = [{"index": 0, "message": message or {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]
    return Reply(200, {"model": "named", "choices": choices, "usage": usage, **more.pop("body", {})}, **more)


def refused(status=400, **more):
    return Reply(status, {"error": {"message": "no"}}, error=StatusError("no", status=status), **more)


def test_all_keys_are_there_and_what_no_server_said_is_null():
    found = summary([Reply(200, {"choices": [{"message": {"content": "Hi"}}]}, seconds=0.25)], REQUEST)
    assert tuple(found) == KEYS
    assert {name: value for name, value in found.items() if value is not None} == {
        "requests": 1,
        "attempts": 1,
        "tool_calls": 0,
        "seconds": 0.25,
        "model": "asked",
        "errors": {},
        "rejected": [],
    }


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 8, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 12},
            },
            {
                "input_tokens": 100,
                "output_tokens": 20,
                "total_tokens": 120,
                "cache_read_tokens": 64,
                "cache_write_tokens": 8,
                "reasoning_tokens": 12,
            },
        ),
        (
            {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 64},
                "output_tokens": 20,
                "output_tokens_details": {"reasoning_tokens": 12},
                "total_tokens": 120,
            },
            {
                "input_tokens": 100,
                "output_tokens": 20,
                "total_tokens": 120,
                "cache_read_tokens": 64,
                "reasoning_tokens": 12,
            },
        ),
        (
            {
                "input_tokens": 36,
                "cache_creation_input_tokens": 8,
                "cache_read_input_tokens": 64,
                "output_tokens": 20,
            },
            {
                "input_tokens": 108,
                "output_tokens": 20,
                "total_tokens": 128,
                "cache_read_tokens": 64,
                "cache_write_tokens": 8,
            },
        ),
        (
            {
                "prompt_tokens": 108,
                "completion_tokens": 20,
                "cache_creation_input_tokens": 8,
                "cache_read_input_tokens": 64,
            },
            {
                "input_tokens": 108,
                "output_tokens": 20,
                "total_tokens": 128,
                "cache_read_tokens": 64,
                "cache_write_tokens": 8,
            },
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5},
            {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11, "cache_read_tokens": 4},
        ),
        ({"total_tokens": 11, "cached_tokens": 4}, {"total_tokens": 11, "cache_read_tokens": 4}),
        (
            {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "input_tokens": 9, "output_tokens": 2},
            {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11},
        ),
        ({"prompt_tokens": 9.0, "cost": 0.00014}, {"input_tokens": 9, "total_tokens": 9}),
        ({"cost": {"total_cost": 0.5, "input_tokens_cost": 0.25}}, {}),
    ],
    ids=[
        "OpenAI",
        "Responses",
        "Anthropic",
        "LiteLLM",
        "DeepSeek",
        "Moonshot",
        "both",
        "OpenRouter",
        "Perplexity",
    ],
)
def test_counts_are_read_in_each_dialect(usage, expected):
    assert read_usage(usage) == expected


@pytest.mark.parametrize(
    "wrong",
    [-1, True, "9", None, 10**400, 2**53 + 1, float("nan"), float("inf"), -0.5, 0.5, [9], {"a": 9}, {}],
    ids=str,
)
def test_what_is_not_a_count_is_left_out(wrong):
    usage = dict.fromkeys(("prompt_tokens", "total_tokens", "prompt_tokens_details", "cached_tokens"), wrong)
    assert read_usage({**usage, "completion_tokens": 2}) == {"output_tokens": 2, "total_tokens": 2}


@pytest.mark.parametrize("cost", [-1, True, "0.1", float("nan"), float("inf"), 10**400, [1], {}], ids=str)
def test_a_cost_that_is_not_an_amount_is_left_out(cost):
    assert stated({"cost": cost}) is None
    assert summary([answer({"cost": cost})], REQUEST)["cost"] is None


def test_timings_of_llama_cpp_stand_in_for_a_usage():
    timings = {"prompt_n": 5, "cache_n": 4, "predicted_n": 2, "predicted_ms": 12.5}
    found = summary([answer(None, body={"timings": timings})], REQUEST)
    assert [found[name] for name in ("input_tokens", "output_tokens", "total_tokens", "cache_read_tokens")] == [
        9,
        2,
        11,
        4,
    ]
    assert summary([answer(body={"timings": {"prompt_n": 500}})], REQUEST)["input_tokens"] == 9


def test_calls_are_summed_and_the_last_names_model_and_request():
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}] * 2
    first = answer(message={"role": "assistant", "tool_calls": calls}, attempts=2, seconds=1.25, request_id="r1")
    last = answer(body={"model": "other"}, seconds=0.5, request_id="r2")
    assert summary([first, refused(attempts=3, seconds=2.0, request_id="no"), last], REQUEST) == {
        "requests": 2,
        "input_tokens": 18,
        "output_tokens": 4,
        "total_tokens": 22,
        "cache_read_tokens": None,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
        "tool_calls": 2,
        "cost": None,
        "model": "other",
        "attempts": 6,
        "seconds": 3.75,
        "request_id": "r2",
        "errors": {},
        "rejected": [],
        "currency": None,
    }


def test_costs_are_summed_without_the_noise_of_fractions():
    assert summary([answer({"cost": 0.1}), answer({"cost": 0.2})], REQUEST)["cost"] == 0.3


def test_answers_whose_cost_is_unknown_leave_the_sum_of_the_others_and_its_currency():
    priced = answer(cost=Decimal("0.1"), currency="EUR")
    found = summary([answer(), priced, answer(), priced._replace(cost=Decimal("0.2"))], REQUEST)
    assert (found["cost"], found["currency"]) == (0.3, "EUR")
    assert (summary([answer()], REQUEST)["cost"], summary([answer()], REQUEST)["currency"]) == (None, None)


def test_a_known_price_of_nothing_is_a_cost_of_0():
    assert summary([answer(cost=Decimal(0), currency="USD")], REQUEST)["cost"] == 0
    assert summary([answer({"cost": 0})], REQUEST)["cost"] == 0


def test_attempts_that_took_tokens_and_were_made_again_count_as_requests_but_not_as_attempts_twice():
    earlier = with_attempt((), answer(cost=Decimal("0.1"), currency="EUR"))
    found = summary([refused(503, attempts=3, earlier=earlier)], REQUEST)
    assert (found["requests"], found["attempts"], found["total_tokens"]) == (1, 3, 11)
    assert (found["cost"], found["currency"]) == (0.1, "EUR")


def test_of_an_attempt_that_was_made_again_only_model_and_counts_are_kept():
    usage = {"prompt_tokens": 9, "cost": 0.5, "x" * 65: 1, "said": "secret", **{f"n{n}": 1 for n in range(50)}}
    (kept,) = with_attempt((), answer(usage, body={"model": "m" * 1000}))
    assert set(kept.body) == {"model", "usage"}
    assert kept.body["model"] == "m" * 256
    assert (kept.body["usage"]["cost"], len(kept.body["usage"]), "said" in kept.body["usage"]) == (0.5, 30, False)
    assert with_attempt((), answer({"prompt_tokens": True})) == with_attempt((), refused()) == ()
    assert with_attempt((), Reply(502, "no JSON")) == ()


def test_a_dialogue_that_asked_again_counts_each_answers_own_cost_and_not_that_of_their_sum():
    dialogue = Dialogue(REQUEST, Wanted(load_output({"type": "object", "required": ["a"]}), retries=2))
    stated = [answer({"total_tokens": 5, "cost": cost}) for cost in (0.1, 0.2)]
    fits = answer({"total_tokens": 5, "cost": 0.4}, {"role": "assistant", "content": '{"a": 1}'})
    script = [*(reply._replace(cost=None) for reply in stated), fits]
    left = iter(script)
    final = drive(dialogue, lambda _: next(left))
    assert final.body["usage"]["cost"] == pytest.approx(0.7)
    assert outcome(Delivery(), REQUEST, final, {}, script).xcoms["usage"]["cost"] == 0.7


@pytest.mark.parametrize("cost", [0.5, 0, 1], ids=str)
def test_a_cost_that_a_server_states_is_read(cost):
    assert stated({"cost": cost}) == stated({"cost": {"total_cost": cost}}) == Decimal(str(cost))


def test_a_deprecated_function_call_is_a_tool_call():
    message = {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}
    assert summary([answer(message=message)], REQUEST)["tool_calls"] == 1


@pytest.mark.parametrize(
    ("reply", "requests"),
    [
        (refused(), 0),
        (Reply(None, None, error=TransportError("no", sent=True)), 0),
        (Reply(400, {"error": {"failed_generation": "{"}}, error=StatusError("no", status=400)), 1),
        (Reply(200, {"error": {"message": "no"}, "usage": {"total_tokens": 5}}, error=StatusError("no")), 1),
        (Reply(200, {"choices": [{"message": {"content": "ha"}}]}, error=TransportError("cut")), 1),
    ],
    ids=["refused", "no response", "a spoilt answer", "a usage", "half an answer"],
)
def test_requests_are_the_calls_that_the_model_answered(reply, requests):
    found = summary([reply], REQUEST)
    assert (found["requests"], found["attempts"]) == (requests, 1)


def test_a_failed_call_leaves_its_usage_also_if_no_response_came():
    failed = outcome(Delivery(), REQUEST, refused(request_id="r"), {})
    assert failed.error is not None
    assert (failed.xcoms["usage"]["request_id"], failed.xcoms["usage"]["errors"]) == ("r", {"StatusError 400": 1})
    unanswered = Reply(None, None, attempts=3, error=TransportError("no", sent=True))
    xcoms = outcome(Delivery(), REQUEST, unanswered, {}).xcoms
    assert set(xcoms) == {"usage"}
    assert (xcoms["usage"]["requests"], xcoms["usage"]["attempts"]) == (0, 3)
    assert xcoms["usage"]["errors"] == {"TransportError": 1}


def test_a_call_that_was_never_sent_leaves_nothing():
    assert outcome(Delivery(), REQUEST, Reply(None, None, attempts=0, error=TransportError("no")), {}).xcoms == {}


def test_a_call_whose_end_nobody_saw_is_not_an_answer():
    found = summary([answer(), Reply(None, None, attempts=2)], REQUEST, KeyboardInterrupt())
    assert (found["requests"], found["attempts"], found["errors"]) == (1, 3, {"KeyboardInterrupt": 1})


def test_an_error_is_that_of_the_task_not_that_of_the_call():
    cut = answer(body={"choices": [{"message": {"content": "Hi"}, "finish_reason": "length"}]})
    found = outcome(Delivery(on_incomplete="fail"), REQUEST, cut, {})
    assert found.xcoms["usage"]["errors"] == {"IncompleteReply 200": 1}
    data = outcome(Delivery(check_status=False), REQUEST, refused(404), {})
    assert (data.error, data.xcoms["usage"]["errors"]) == (None, {"StatusError 404": 1})


def test_what_was_wrong_with_an_answer_is_short_and_safe():
    found = summary([answer()], REQUEST, None, ["\x00" + "x" * 1000] * 50)["rejected"]
    assert len(found) == 10
    assert found[0] == "\ufffd" + "x" * 499


def test_a_dialogue_notes_why_it_asked_again_and_a_stored_reply_does_not():
    spoilt = Reply(
        400, {"error": {"code": "json_validate_failed", "failed_generation": "{"}}, error=StatusError("no", status=400)
    )
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    dialogue = Dialogue(REQUEST, Wanted(load_output(schema), retries=3))
    texts = iter(["secret", '{"a": "secret"}', '{"a": 1}'])
    script = iter([spoilt, *(answer(message={"role": "assistant", "content": text}) for text in texts)])
    final = drive(dialogue, lambda _: next(script))
    assert final.error is None
    assert final.rejected == (
        "the server could not use the answer (HTTP 400)",
        "it is not JSON (line 1, column 1 of 6 characters)",
        "$.a: must be an integer, got a string",
    )
    assert load(dump(final)).rejected == ()


def test_all_calls_of_a_dialogue_count_even_if_it_fails():
    dialogue = Dialogue(REQUEST, Wanted(load_output({"type": "object", "required": ["a"]}), retries=2))
    script = [refused(attempts=2), answer(), Reply(None, None, attempts=3, error=TransportError("no"))]
    left = iter(script)
    final = drive(dialogue, lambda _: next(left))
    usage = outcome(Delivery(), REQUEST, final, {}, script).xcoms["usage"]
    assert (usage["requests"], usage["attempts"], usage["total_tokens"]) == (1, 6, 11)


def test_names_are_short_and_safe_for_a_database():
    usage = summary([answer(body={"model": "m\x00\ud800" * 200}, request_id="r\x00")], REQUEST)
    assert (len(usage["model"]), usage["request_id"]) == (256, "r\ufffd")
    json.dumps(usage).encode()
    assert summary([answer(body={"model": ["m"]})], {"model": {"a": 1}})["model"] is None


def test_sums_stay_within_what_a_database_takes():
    replied = answer({"total_tokens": 2**53}, attempts=2**53)
    usage = summary([replied] * 2000, REQUEST)
    assert usage["total_tokens"] == usage["attempts"] == 2**63 - 1


NAMES = st.sampled_from(["prompt_tokens", "cost", "total_cost", "prompt_tokens_details", "cached_tokens", "message"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
BODIES = JSON | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("usage", "timings", "choices", "model", "error"), JSON)
)


@fuzz(100)
@given(BODIES, st.none() | JSON, JSON)
def test_any_body_leaves_sixteen_plain_values(body, seconds, model):
    reply = load(dump(Reply(200, body)))._replace(seconds=seconds, attempts=seconds, request_id=model)
    found = summary([reply, reply], {"model": model})
    assert tuple(found) == KEYS
    assert (found.pop("errors"), found.pop("rejected")) == ({}, [])
    assert all(value is None or type(value) in (int, float, str) for value in found.values())
    json.dumps(found, allow_nan=False).encode()
