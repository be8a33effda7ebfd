"""What is left of a limit, and what must not be sent any more."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from airflow_chat_provider.core.cost.budget import NOTHING, Amount, Budget, Limits
from airflow_chat_provider.core.cost.estimate import Estimate
from airflow_chat_provider.core.cost.prices import Rates
from airflow_chat_provider.core.errors import BudgetExceeded

RATES = Rates(Decimal(1), Decimal(2), None, Decimal("1.25"))


def tokens(most: int, spent: int = 0) -> Budget:
    return Budget(Limits(most), Amount(spent))


def money(most: str, spent: str = "0") -> Budget:
    return Budget(Limits(max_cost=Decimal(most), rates=RATES), Amount(0, Decimal(spent)))


def test_what_just_fits_may_be_sent() -> None:
    tokens(100, 60).check(Amount(40))
    money("0.10", "0.06").check(Amount(0, Decimal("0.04")))


@pytest.mark.parametrize(
    ("budget", "coming", "limit"),
    [
        pytest.param(tokens(100, 60), Amount(41), "max_total_tokens", id="tokens"),
        pytest.param(money("0.10", "0.06"), Amount(0, Decimal("0.0401")), "max_cost", id="cost"),
        pytest.param(tokens(0), NOTHING, "max_total_tokens", id="no tokens at all"),
        pytest.param(money("0"), NOTHING, "max_cost", id="no money at all"),
        pytest.param(tokens(100, 100), NOTHING, "max_total_tokens", id="all spent"),
        pytest.param(tokens(100, 200), Amount(1), "max_total_tokens", id="an answer was longer than guessed"),
    ],
)
def test_what_is_more_is_refused(budget: Budget, coming: Amount, limit: str) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        budget.check(coming)
    assert (caught.value.limit, caught.value.final) == (limit, True)


def test_the_error_says_what_to_do_the_limit_what_is_spent_and_what_would_come() -> None:
    with pytest.raises(BudgetExceeded) as caught:
        tokens(1_000, 950).check(Amount(120))
    assert caught.value.message == (
        "Raise max_total_tokens, or shorten the request and the token limit of its answer: of at most 1,000 tokens, "
        "950 tokens are spent, and the next request would take about 120 tokens, so it was not sent"
    )
    with pytest.raises(BudgetExceeded, match=r"of at most 0\.10 USD, 0\.095 USD are spent, and .* about 0\.012 USD"):
        money("0.10", "0.095").check(Amount(0, Decimal("0.012")))


def test_attempts_under_way_count_until_they_end() -> None:
    budget = tokens(100)
    budget.reserve(Amount(60))
    with pytest.raises(BudgetExceeded, match="are spent or under way"):
        budget.reserve(Amount(60))
    budget.settle(Amount(60), Amount(20))
    assert (budget.spent, budget.reserved) == (Amount(20), NOTHING)
    budget.reserve(Amount(60))
    assert budget.committed == Amount(80)


def test_nothing_is_left_reserved_once_all_attempts_have_ended() -> None:
    budget = money("1")
    thirds = [Amount(0, Decimal(1) / 30), Amount(0, Decimal(1) / 70), Amount(0, Decimal(2) / 90)]
    for likely in thirds:
        budget.reserve(NOTHING, likely)
    for likely in thirds:
        budget.settle(likely, NOTHING)
    assert budget.reserved == NOTHING


def test_an_absurd_cost_is_one_that_can_be_read_back() -> None:
    absurd = Amount(2**62, Decimal(10) ** 9)
    assert Amount.from_dict(absurd.plus(absurd).plus(absurd).to_dict()) == Amount(2**63 - 1, Decimal(10) ** 9)


def test_what_is_refused_is_not_reserved() -> None:
    budget = tokens(10)
    with pytest.raises(BudgetExceeded):
        budget.reserve(Amount(11))
    assert budget.committed == NOTHING


def test_an_estimate_is_priced_by_the_models_rates() -> None:
    budget = money("1")
    assert budget.coming(Estimate(1_000_000, 500_000)) == Amount(1_500_000, Decimal(2))
    other = Rates(Decimal(10), Decimal(0))
    assert budget.coming(Estimate(1_000_000), other) == Amount(1_000_000, Decimal(10))
    assert tokens(1).coming(Estimate(3)) == Amount(3)


@pytest.mark.parametrize(
    "limits",
    [Limits(5), Limits(0, Decimal("0.10"), "EUR", RATES), Limits(max_cost=Decimal("1E-9"), rates=RATES)],
    ids=["tokens", "both", "tiny"],
)
def test_limits_survive_json(limits: Limits) -> None:
    assert Limits.from_dict(limits.to_dict()) == limits


@pytest.mark.parametrize(
    "strange",
    [
        {},
        {"max_total_tokens": "5", "max_cost": None, "currency": "USD", "rates": None},
        {"max_total_tokens": 5, "max_cost": "NaN", "currency": "USD", "rates": None},
        {"max_total_tokens": 5, "max_cost": None, "currency": "USD", "rates": 7},
        {"max_total_tokens": 5, "max_cost": None, "currency": "USD", "rates": ["-1", "1"]},
    ],
    ids=["empty", "text", "NaN", "rates", "negative"],
)
def test_strange_limits_are_not_read(strange: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Limits.from_dict(strange)


@pytest.mark.parametrize("strange", [None, 3, {}, {"tokens": -1, "cost": "0"}, {"tokens": 1, "cost": "-1"}], ids=repr)
def test_strange_amounts_are_not_read(strange: Any) -> None:
    with pytest.raises(ValueError, match="spent: "):
        Amount.from_dict(strange)


def test_amounts_survive_json() -> None:
    assert Amount.from_dict(Amount(7, Decimal("0.000000001")).to_dict()) == Amount(7, Decimal("0.000000001"))
