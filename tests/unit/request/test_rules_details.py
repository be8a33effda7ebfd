"""What the table of the rules cannot show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.rules import check_rules
from tests.support.rule_requests import (
    EMPTY,
    HI,
    OPENAI,
    VLLM,
    answer,
    call,
    calls,
    custom,
    json_schema,
    request,
    takes,
    talk,
    tool,
    tools,
)

SECRET = "the moon landing budget"
EVERYWHERE: list[dict[str, Any]] = [
    request({"role": "user", "content": SECRET}, {"role": "assistant", "content": SECRET}, n=2, stop=" "),
    request({"role": "user", "content": SECRET}, response_format={"type": "json_object"}),
    talk(calls(call(arguments=SECRET)), answer()),
    talk(calls(call()), {"role": "tool", "tool_call_id": "c2", "content": SECRET}),
    talk({"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": SECRET}]}),
    talk({"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": SECRET}}),
    talk(calls({"id": "c" * 41, **custom("f", input=SECRET)}), answer("c" * 41)),
    request({"role": "user", "content": [{"type": "image_url", "image_url": {"url": SECRET}}]}),
    request({"role": "user", "content": [{"type": "file", "file": {"file_data": f"{SECRET}!"}}]}),
    request(metadata={"k": SECRET * 30}),
    request(user=SECRET, zzz=SECRET, prediction={"type": "content", "content": SECRET}, n=2),
    tools(tool(description=SECRET * 60, parameters={"type": SECRET})),
    json_schema(name="a", strict=True, schema={"type": "object", "description": SECRET}),
]


@pytest.mark.parametrize("body", EVERYWHERE)
@pytest.mark.parametrize("base_url", [None, OPENAI, VLLM, "https://api.anthropic.com/v1"])
@pytest.mark.parametrize("mode", ["checked", "open"])
def test_no_message_quotes_what_was_written(body: dict[str, Any], base_url: str | None, mode: Any) -> None:
    try:
        said = check_rules(body, base_url=base_url, mode=mode)
    except InvalidRequest as error:
        said = [str(error), json.dumps(error.to_dict())]
    assert said or (body.keys() == {"model", "messages", "metadata"} and base_url not in (None, OPENAI))
    assert SECRET not in " ".join(said)


def test_a_rule_that_is_broken_often_is_one_warning_that_counts() -> None:
    speakers = [{**HI, "name": f"speaker {i}"} for i in range(3)]
    (warning,) = check_rules(request(*speakers))
    assert warning.startswith("$.messages[0].name is 'speaker 0'")
    assert "the first of 3 such places" in warning


def test_a_long_name_is_shortened_and_control_characters_are_escaped() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_rules(tools(tool("line\n" + "x" * 10_000)), base_url=OPENAI)
    assert "'line\\nxxx" in caught.value.message
    assert len(caught.value.message) < 350


def test_an_error_starts_with_what_to_do() -> None:
    words = r"Set it to 1 or more, or leave it out for no limit: \$\.max_tokens is 0.*; request_schema='open' sends it"
    with pytest.raises(InvalidRequest, match=f"^{words}"):
        check_rules(request(max_tokens=0))


def test_functions_beside_tools_are_warned_of_besides_being_deprecated() -> None:
    body = tools(tool(), functions=[{"name": "g", "parameters": EMPTY}])
    assert ["together with tools" in text for text in check_rules(body)] == [False, True]


@pytest.mark.parametrize("flag", [{"continue_final_message": True}, {}])
def test_an_assistant_message_at_the_end_is_fine_where_its_continuation_is_asked_for(
    flag: dict[str, Any],
) -> None:
    body = {**talk({"role": "assistant", "content": "x"}), **flag}
    assert bool(check_rules(body)) is not bool(flag)


REASONING = [
    "o1",
    "o3-mini",
    "o4-mini-2025-04-16",
    "GPT-5",
    "gpt-5.1-chat-latest",
    "gpt-6-astra",
    "gpt-12",
    "gpt-5.10-mini",
    "openai/o3",
]
PLAIN = [
    "gpt-4o",
    "gpt-4.1",
    "gpt-35-turbo",
    "gpt-oss-120b",
    "gpt-5-chat-latest",
    "olmo",
    "o",
    "o200k",
    "phi-o1",
]


@pytest.mark.parametrize("base_url", [None, OPENAI])
@pytest.mark.parametrize("model", REASONING + PLAIN)
def test_reasoning_models_are_known_by_name(model: str, base_url: str | None) -> None:
    warned = bool(check_rules(request(model=model, max_tokens=9), base_url=base_url))
    assert warned is (model in REASONING)


def test_a_gateway_is_trusted_to_translate_for_reasoning_models() -> None:
    assert check_rules(request(model="o3", max_tokens=9, temperature=0.2), base_url=VLLM) == []


def test_a_model_that_shall_not_reason_may_be_sampled_as_one_likes() -> None:
    assert check_rules(request(model="gpt-5.4", reasoning_effort="none", temperature=0.2)) == []


def test_a_word_at_the_seam_of_two_pieces_of_a_long_text_is_found() -> None:
    for before in range(65_530, 65_540):
        body = request(
            {"role": "user", "content": " " * before + "json" + " " * 9},
            response_format={"type": "json_object"},
        )
        assert check_rules(body, base_url=OPENAI) == []


def test_a_schema_that_holds_itself_is_walked_once() -> None:
    node: dict[str, Any] = {"type": "object", "properties": {"list": {"type": "array"}}}
    node["properties"]["self"] = node
    (warning,) = check_rules(takes(node))
    assert warning.startswith("$.tools[0].function.parameters.properties.list is an array without items;")


@pytest.mark.parametrize("keyword", ["items", "not", "additionalProperties", "else"])
def test_schemas_are_found_under_keywords_that_hold_one(keyword: str) -> None:
    (warning,) = check_rules(takes({**EMPTY, keyword: {"type": ["array", "null"]}}))
    assert warning.startswith(f"$.tools[0].function.parameters.{keyword} is an array")


def test_a_property_called_items_is_a_property() -> None:
    assert check_rules(takes({"type": "object", "properties": {"items": {"type": "string"}}})) == []
    assert check_rules(takes({"type": "object", "properties": {}, "enum": [{"type": "array"}]})) == []


@pytest.mark.parametrize("limit", [-(10**5000), -1e300, float("-inf")], ids=["digits", "float", "inf"])
def test_a_number_beyond_all_bounds_is_no_more_than_an_error(limit: float) -> None:
    with pytest.raises(InvalidRequest, match="out of all bounds"):
        check_rules(request(max_tokens=limit))


NULLABLE = """
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
    metadata modalities moderation n parallel_tool_calls prediction presence_penalty response_format seed
    stop store stream stream_options temperature tool_choice tools top_logprobs top_p
"""


def test_a_vendors_own_tool_may_be_chosen_by_a_name_that_is_not_seen_here() -> None:
    search = {"type": "builtin_function", "function": {"name": "$web_search"}}
    chosen = {"type": "function", "function": {"name": "$web_search"}}
    assert check_rules(tools(search, tool_choice=chosen), base_url=VLLM) == []


@pytest.mark.parametrize(
    ("model", "effort", "words"),
    [
        ("gpt-5.4", "low", 'leave it out, or set it to "none"'),
        ("gpt-5.5", "low", 'set it to "none"'),
        (
            "gpt-5.6-luna",
            "low",
            'set it to "none": with any other effort, this model refuses function tools in a chat completion',
        ),
        (
            "gpt-5.6",
            None,
            'set it to "none": with any other effort, this model refuses function tools in a chat completion',
        ),
    ],
)
def test_only_the_advice_is_given_that_the_model_takes(model: str, effort: str | None, words: str) -> None:
    (warning,) = check_rules(tools(tool(), model=model, reasoning_effort=effort), base_url=OPENAI)
    assert warning.endswith(f"; {words}.")


@pytest.mark.parametrize("base_url", [None, OPENAI, VLLM])
def test_a_null_parameter_counts_as_absent(base_url: str | None) -> None:
    assert check_rules(request(**dict.fromkeys(NULLABLE.split())), base_url=base_url) == []
