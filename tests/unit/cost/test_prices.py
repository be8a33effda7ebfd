"""Prices of tokens: which hold for a model, and what an answer costs by them, to the last digit."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from airflow_chat_provider.core.answer.usage import LARGEST, Usage
from airflow_chat_provider.core.cost.prices import (
    Rates,
    billed,
    most_exact,
    number,
    read_amount,
    read_prices,
    shown,
    stated,
    total,
)

MINI = Rates(Decimal("0.25"), Decimal("2.00"), Decimal("0.025"), Decimal("0.3125"))


def prices(*patterns: str) -> dict[str, Rates]:
    """Prices of which each is told by its input's."""
    return {pattern: Rates(Decimal(place), Decimal(0)) for place, pattern in enumerate(patterns)}


def place(model: str, *patterns: str) -> int | None:
    found = most_exact(model, prices(*patterns))
    return None if found is None else int(found.input)


@pytest.mark.parametrize(
    ("counts", "cost"),
    [
        ({"input_tokens": 1_000_000, "output_tokens": 0}, "0.25"),
        ({"input_tokens": 0, "output_tokens": 1_000_000}, "2"),
        ({"input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 64}, "0.0000506"),
        ({"input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 64, "cache_write_tokens": 8}, "0.0000511"),
        ({"input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 0, "reasoning_tokens": 12}, "0.000065"),
        ({"input_tokens": 0, "output_tokens": 0}, "0"),
        # More than the input cannot have come from a cache.
        ({"input_tokens": 10, "output_tokens": 0, "cache_read_tokens": 99, "cache_write_tokens": 9}, "0.00000025"),
    ],
)
def test_an_answer_costs_its_tokens_each_at_its_price(counts: dict[str, int], cost: str) -> None:
    assert MINI.cost(counts) == Decimal(cost)


def test_without_a_price_of_its_own_cached_input_costs_what_input_costs() -> None:
    plain, counts = Rates(Decimal(1), Decimal(1)), {"input_tokens": 10, "output_tokens": 0, "cache_read_tokens": 5}
    assert plain.cost(counts) == plain.cost({**counts, "cache_write_tokens": 5}) == Decimal("0.00001")


@pytest.mark.parametrize(
    "counts",
    [{}, {"input_tokens": 5}, {"output_tokens": 5}, {"total_tokens": 9}, {"input_tokens": "5", "output_tokens": 5}],
    ids=str,
)
def test_an_answer_without_both_counts_has_no_cost(counts: dict[str, Any]) -> None:
    assert MINI.cost(counts) is None


@pytest.mark.parametrize(
    ("more", "output"),
    [
        ({"total_tokens": 30}, 20),
        ({"total_tokens": 42, "reasoning_tokens": 12}, 32),
        ({"total_tokens": 42}, 32),
        ({"total_tokens": 38, "cache_read_tokens": 8}, 20),
        ({"total_tokens": 42, "cache_read_tokens": 8, "cache_write_tokens": 4}, 20),
        ({"total_tokens": 5}, 20),
        ({}, 20),
    ],
    ids=str,
)
def test_reasoning_that_only_the_total_counts_is_billed_as_output(more: dict[str, int], output: int) -> None:
    assert billed({"input_tokens": 10, "output_tokens": 20, **more})["output_tokens"] == output


@pytest.mark.parametrize(
    ("model", "patterns", "expected"),
    [
        ("gpt-5.4-mini", ["*", "gpt-5*", "gpt-5.4-mini*", "gpt-5.4*"], 2),
        ("gpt-5.4-mini", ["gpt-5.4-mini*", "gpt-5.4-mini"], 1),
        ("gpt-5.4-mini", ["gpt-5.4-min?", "gpt-5.4-mini*"], 1),
        ("gpt-5", ["gpt-*", "g?t-?"], 0),
        ("m[1]", ["m[1]"], 0),
        ("m1", ["m[1]"], 0),
        ("m2", ["m[!1]", "m[1]"], 0),
        ("GPT-5", ["gpt-5*"], None),
        ("openai/gpt-5", ["gpt-5*"], None),
        ("openai/gpt-5", ["*/gpt-5*"], 0),
        ("gpt-5", [], None),
        ("a\nb", ["a*"], 0),
        ("m" * 300, ["m*"], None),
        ("m" * 300, ["m" * 300], 0),
    ],
)
def test_of_several_patterns_the_most_exact_one_holds(model: str, patterns: list[str], expected: int | None) -> None:
    assert place(model, *patterns) == expected
    assert place(model, *reversed(patterns)) == (None if expected is None else len(patterns) - 1 - expected)


def test_a_pattern_of_many_stars_is_matched_at_once() -> None:
    assert place("a" * 256, "*a" * 40 + "b") is None


def test_prices_may_be_text_or_numbers_and_are_exact() -> None:
    found = read_prices(json.loads('{"m": {"input": 0.1, "output": "0.2", "cached_input": 0}}'))
    assert found == {"m": Rates(Decimal("0.1"), Decimal("0.2"), Decimal(0))}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.10", "0.10"), (0.1, "0.1"), (5, "5"), (" 1e3 ", "1e3"), (-0.0, "0"), ("1" * 10, None), (10**10, None)],
    ids=str,
)
def test_an_amount_is_what_is_written(value: object, expected: str | None) -> None:
    assert read_amount(value) == (None if expected is None else Decimal(expected))


def test_a_million_tiny_costs_add_up_exactly() -> None:
    usage, cost = Usage(), MINI.cost({"input_tokens": 1, "output_tokens": 0})
    assert cost == Decimal("0.00000025")
    for _ in range(1_000_000):
        usage.take(None, usage.calls, cost)
    assert usage.cost == Decimal("0.25")
    assert number(usage.cost) == 0.25


def test_a_tenth_and_two_tenths_are_three_tenths() -> None:
    assert number(total(Decimal("0.1"), None, Decimal("0.2"))) == 0.3
    assert number(total(stated({"cost": 0.1}), stated({"cost": 0.2}))) == 0.3
    assert total(None, None) is None


def test_a_sum_is_the_same_once_its_parts_were_written_down_and_read_back() -> None:
    odd = Rates(Decimal("0.1234567"), Decimal("0.7654321"))
    costs = [odd.cost({"input_tokens": count, "output_tokens": 3 * count}) for count in range(1, 500)]
    kept = [read_amount(json.loads(json.dumps(number(cost)))) for cost in costs]
    assert kept == costs
    assert total(*kept) == total(*costs)


@pytest.mark.parametrize(
    ("cost", "expected"),
    [("0", 0), ("3", 3), ("0.25", 0.25), ("1E+20", 1e20), ("9007199254740993", 9007199254740992.0)],
)
def test_a_cost_in_json_is_a_number_that_every_reader_takes(cost: str, expected: float) -> None:
    found = number(Decimal(cost))
    assert (found, type(found)) == (expected, type(expected))


def test_the_largest_counts_at_the_largest_prices_have_a_cost() -> None:
    most = Rates(Decimal(10**9), Decimal("999999999.999999999999"))
    cost = most.cost({"input_tokens": LARGEST, "output_tokens": LARGEST})
    assert cost is not None
    assert cost > 10**19
    assert number(total(*[cost] * 1000))
    assert shown(cost, "USD").endswith(" USD")


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        ("0", "0.00 USD"),
        ("0.0123", "0.0123 USD"),
        ("0.012345", "0.0123 USD"),
        ("0.5", "0.50 USD"),
        ("0.000000000001", "0.000000000001 USD"),
        ("0.00002", "0.00002 USD"),
        ("0.99999", "1.00 USD"),
        ("1234567.891", "1,234,567.89 USD"),
        ("1E+20", "100,000,000,000,000,000,000.00 USD"),
    ],
)
def test_a_cost_is_shown_with_as_many_digits_as_say_something(cost: str, text: str) -> None:
    assert shown(Decimal(cost), "USD") == text
    assert shown(Decimal(cost), None) == text.removesuffix(" USD")
