"""The guess at the tokens of a request, which limits and the preflight of a batch go by."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from airflow_chat_provider.core.cost.estimate import Estimate, sure_tokens
from airflow_chat_provider.core.cost.prices import Rates

RATES = Rates(Decimal("0.25"), Decimal(2))


def asking(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


def test_four_bytes_of_text_are_taken_for_a_token() -> None:
    assert sure_tokens(asking("x" * 400)).input_tokens == 100


def test_bytes_count_and_not_characters() -> None:
    assert sure_tokens(asking("\u4f60" * 400)).input_tokens == 300


def test_a_text_that_no_encoding_takes_is_counted() -> None:
    assert sure_tokens(asking("\ud800" * 4)).input_tokens == 3


def test_texts_in_files_count() -> None:
    assert sure_tokens(asking("x" * 40), 400).input_tokens == 110


def test_a_part_of_a_token_is_one() -> None:
    assert sure_tokens(asking("x")).input_tokens == 1


def test_text_parts_count_and_pictures_do_not() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 100_000, "format": "wav"}}
    assert sure_tokens(asking([{"type": "text", "text": "x" * 40}, picture, sound])).input_tokens == 10


def test_tools_and_the_schema_of_the_answer_count() -> None:
    bare = sure_tokens(asking("x")).input_tokens
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 400}}]
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"description": "d" * 400}}}
    assert sure_tokens(asking("x", tools=tools)).input_tokens > bare + 100
    assert sure_tokens(asking("x", response_format=schema)).input_tokens > bare + 100


def test_calls_of_tools_in_the_conversation_count() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "a" * 400}}
    request = {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    assert sure_tokens(request).input_tokens > 100


@pytest.mark.parametrize(
    ("given", "most"),
    [
        pytest.param({}, None, id="no limit"),
        pytest.param({"max_tokens": 50}, 50, id="max_tokens"),
        pytest.param({"max_completion_tokens": 60, "max_tokens": 50}, 60, id="the newer name first"),
        pytest.param({"max_completion_tokens": None, "max_tokens": 50}, 50, id="null is no limit"),
        pytest.param({"max_tokens": 50, "n": 3}, 150, id="for each choice"),
        pytest.param({"max_tokens": "50"}, None, id="text, sent unchecked"),
        pytest.param({"max_tokens": -1}, None, id="llama.cpp's word for no limit"),
        pytest.param({"max_tokens": 10**30}, 2**53, id="absurd"),
    ],
)
def test_the_limit_of_the_answer_is_the_requests_own(given: dict[str, Any], most: int | None) -> None:
    assert sure_tokens(asking("x", **given)).output_tokens == most


@pytest.mark.parametrize("request_", [None, {}, {"messages": "text"}, {"messages": [None, 3]}], ids=repr)
def test_what_is_no_request_counts_nothing(request_: Any) -> None:
    assert sure_tokens(request_) == Estimate(0)


def test_an_estimate_costs_what_its_input_and_its_whole_output_cost() -> None:
    assert Estimate(1_000_000, 500_000).cost(RATES) == Decimal("1.25")
    assert Estimate(1_000_000).cost(RATES) == Decimal("0.25")
    assert Estimate(1_000_000).tokens == 1_000_000
