"""The official SDK agrees, in its types and in what it makes of a stream."""

import json
from importlib.util import find_spec

import pytest

from airflow_chat_provider.schema import validate_request
from airflow_chat_provider.testing import replies
from tests.support import sdk
from tests.support.bodies import CASES, NAMES

pytestmark = pytest.mark.skipif(find_spec("openai") is None, reason="the SDK is in the newest Airflow's environment")

# The schema that was published in 2023 has no required field in response_format.
LOOSER_THAN_THE_TYPES = {"empty_tools_format_and_bias_pass_schema"}
VALID = [case for case in CASES if case["valid"]]

TWO_CHOICES = [{**choice, "index": index} for index in (0, 1) for choice in replies.completion()["choices"]]
ANSWERS = {
    "text": replies.ok("Hello"),
    "JSON": replies.ok_json({"a": [1]}),
    "two choices": replies.json_reply(200, replies.completion(choices=TWO_CHOICES)),
    "two calls": replies.tool_calls([("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"})]),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_its_types_take_the_answers_of_our_test_server(name):
    assert sdk.refused(json.loads(ANSWERS[name].body)) == []


@pytest.mark.parametrize("case", VALID, ids=lambda case: case["name"])
def test_its_types_take_every_request_that_we_take(case):
    validate_request(case["body"], NAMES[case["schema"]])
    refused = sdk.refused_request(case["body"])
    assert bool(refused) is (case["name"] in LOOSER_THAN_THE_TYPES), refused


def call(index, arguments, **more):
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"index": index, **more, "function": {"arguments": arguments, **name}}


def token(text):
    return {"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": []}


def with_logprobs(text):
    chunk = replies.chunk(text)
    chunk["choices"][0]["logprobs"] = {"content": [token(text)], "refusal": None}
    return chunk


FIRST_CALL = call(0, "", id="call_1", type="function", name="weather")
SECOND_CALL = call(1, "", id="call_2", type="function", name="time")
END_OF_CALLS = replies.chunk(finish_reason="tool_calls")
STREAMS = {
    "text": replies.events_of("Red, green and blue."),
    "no text at all": [replies.chunk(role="assistant"), replies.chunk(finish_reason="stop")],
    "a refusal": [
        replies.chunk(role="assistant", refusal=""),
        replies.chunk(refusal="I "),
        replies.chunk(refusal="won't"),
        replies.chunk(finish_reason="stop"),
    ],
    "log-probabilities": [
        replies.chunk("", role="assistant"),
        with_logprobs("Red"),
        with_logprobs(" wine"),
        replies.chunk(finish_reason="length"),
    ],
    "two choices in turn": [  # the first first: the SDK's accumulator breaks where the second is
        replies.chunk("a", role="assistant"),
        replies.chunk("b", index=1, role="assistant"),
        replies.chunk("c", index=1),
        replies.chunk("d"),
        replies.chunk(finish_reason="stop"),
        replies.chunk(index=1, finish_reason="length"),
    ],
    "two calls in pieces": [
        replies.chunk(role="assistant", content=None, tool_calls=[FIRST_CALL]),
        replies.chunk(tool_calls=[call(0, '{"city":')]),
        replies.chunk(tool_calls=[call(0, ' "Rome"}')]),
        replies.chunk(tool_calls=[SECOND_CALL]),
        replies.chunk(tool_calls=[call(1, "{}")]),
        END_OF_CALLS,
    ],
    "two calls in one chunk": [replies.chunk(role="assistant", tool_calls=[FIRST_CALL, SECOND_CALL]), END_OF_CALLS],
}


@pytest.mark.parametrize("name", STREAMS)
def test_its_accumulator_makes_of_a_stream_what_ours_does(name):
    chunks = STREAMS[name]
    ours = sdk.assembled(chunks)
    assert sdk.essence(ours) == sdk.essence(sdk.accumulated(chunks))
    assert sdk.refused(ours) == []
