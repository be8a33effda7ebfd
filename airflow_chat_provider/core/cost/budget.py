"""The limits of a task or a batch, and what is left of them. It decides whether the next request may be sent."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from airflow_chat_provider.core.cost.estimate import Estimate
from airflow_chat_provider.core.cost.prices import Rates, read_amount, shown
from airflow_chat_provider.core.errors import BudgetExceeded
from airflow_chat_provider.core.types import JSON, JSONObject

INSTEAD = ", or shorten the request and the token limit of its answer"
"""What else than to raise the limit can be done about one request that is not sent."""
_LARGEST = 2**63 - 1  # tokens: the databases under XCom take no larger integer
_DEAREST = Decimal(10) ** 9  # the largest amount of money that is read back


class Amount(NamedTuple):
    """Tokens, and what they cost."""

    tokens: int = 0
    cost: Decimal = Decimal(0)

    @classmethod
    def of(cls, estimate: Estimate, rates: Rates | None) -> Amount:
        """What a request is sure to take, by its estimate. Without ``rates`` it costs nothing."""
        return cls(estimate.tokens, Decimal(0) if rates is None else estimate.cost(rates))

    def plus(self, more: Amount) -> Amount:
        """The sum of both."""
        return Amount(min(_LARGEST, self.tokens + more.tokens), min(_DEAREST, self.cost + more.cost))

    def less(self, part: Amount) -> Amount:
        """What is left without ``part``."""
        return Amount(max(0, self.tokens - part.tokens), max(Decimal(0), self.cost - part.cost))

    def to_dict(self) -> JSONObject:
        """Plain JSON, for ``from_dict``."""
        return {"tokens": self.tokens, "cost": str(self.cost)}

    @classmethod
    def from_dict(cls, values: JSON) -> Amount:
        """What ``to_dict`` described. Raises ValueError for anything else."""
        if not isinstance(values, dict):
            raise ValueError("spent: not an object")  # noqa: TRY004 - one kind of error for all that is wrong
        tokens, cost = values.get("tokens"), read_amount(values.get("cost"))
        if type(tokens) is not int or not 0 <= tokens <= _LARGEST or cost is None:
            raise ValueError("spent: not tokens and a cost")
        return cls(tokens, cost)


NOTHING = Amount()


class Limits(NamedTuple):
    """What may be spent, in tokens and in money; None is no limit. ``rates``: the prices of the request's model."""

    max_total_tokens: int | None = None
    max_cost: Decimal | None = None
    currency: str = "USD"
    rates: Rates | None = None

    @property
    def are_set(self) -> bool:
        """Is there a limit at all?"""
        return self.max_total_tokens is not None or self.max_cost is not None

    def to_dict(self) -> JSONObject:
        """Plain JSON, for ``from_dict``."""
        rates = None if self.rates is None else [None if rate is None else str(rate) for rate in self.rates]
        cost = None if self.max_cost is None else str(self.max_cost)
        return {**self._asdict(), "max_cost": cost, "rates": rates}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Limits:
        """What ``to_dict`` described. Raises KeyError, TypeError or ValueError for anything else."""
        tokens, currency, rates = values["max_total_tokens"], values["currency"], values["rates"]
        if not (tokens is None or type(tokens) is int) or not isinstance(currency, str):
            raise ValueError("limits: not a number of tokens, or not a currency")
        found = None if rates is None else Rates(*map(_money, rates))  # type: ignore[arg-type]  # as to_dict wrote it
        return cls(tokens, _money(values["max_cost"]), currency, found)


def _money(value: Any) -> Decimal | None:
    if value is None:
        return None
    found = read_amount(value)
    if found is None:
        raise ValueError("limits: not an amount of money")
    return found


class Budget:
    """What is spent of some limits. For one thread, or one event loop.

    ``spent`` is paid for; ``reserved`` is for attempts under way, whose end nobody knows yet.
    """

    def __init__(self, limits: Limits, spent: Amount = NOTHING) -> None:
        self.limits = limits
        self.spent = spent
        self.reserved = NOTHING
        self._under_way = 0

    @property
    def committed(self) -> Amount:
        """What is spent, if all that is under way comes to what was guessed."""
        return self.spent.plus(self.reserved)

    def coming(self, surely: Estimate, rates: Rates | None = None) -> Amount:
        """What an attempt with this estimate is sure to take. ``rates``: those of its model, if not the limits' own."""
        return Amount.of(surely, self.limits.rates if rates is None else rates)

    def check(self, coming: Amount) -> None:
        """Raise BudgetExceeded if an attempt may not be made that is sure to take ``coming``."""
        had, most, price = self.committed, self.limits.max_total_tokens, self.limits.max_cost
        if most is not None and (had.tokens >= most or had.tokens + coming.tokens > most):
            raise self._exceeded("max_total_tokens", *map(_tokens, (most, had.tokens, coming.tokens)))
        if price is not None and (had.cost >= price or had.cost + coming.cost > price):
            raise self._exceeded("max_cost", *map(self._price, (price, had.cost, coming.cost)))

    def reserve(self, coming: Amount, likely: Amount | None = None) -> None:
        """``check``, and count it as under way until ``settle``; or ``likely``, what it is likely to come to."""
        self.check(coming)
        self.reserved = self.reserved.plus(coming if likely is None else likely)
        self._under_way += 1

    def settle(self, reserved: Amount, took: Amount) -> None:
        """An attempt for which this was reserved has ended, and took that."""
        self._under_way = max(0, self._under_way - 1)
        # Sums are rounded at their last digit: nothing may be left of them once all attempts have ended.
        self.reserved = self.reserved.less(reserved) if self._under_way else NOTHING
        self.spent = self.spent.plus(took)

    def _price(self, cost: Decimal) -> str:
        return shown(cost, self.limits.currency)

    def _exceeded(self, limit: str, most: str, had: str, coming: str) -> BudgetExceeded:
        under_way = " or under way" if self.reserved != NOTHING else ""
        message = (
            f"Raise {limit}{INSTEAD}: of at most {most}, {had} are "
            f"spent{under_way}, and the next request would take about {coming}, so it was not sent"
        )
        return BudgetExceeded(message, limit=limit)


def _tokens(count: int) -> str:
    return f"{count:,} token" if count == 1 else f"{count:,} tokens"
