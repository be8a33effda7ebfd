"""What a batch may spend, in all of its tries: its output folder tells what the earlier ones have spent."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.core.call.meter import took
from airflow_chat_provider.core.cost.budget import INSTEAD, NOTHING, Amount, Budget, Limits
from airflow_chat_provider.core.cost.estimate import sure_tokens
from airflow_chat_provider.core.cost.prices import total
from airflow_chat_provider.core.errors import BudgetExceeded, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.answer.usage import Usage
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.transport.price_list import PriceList


_UNKNOWN = 1_000  # tokens that an answer without a limit is taken to have, until answers have shown better


class Coming(NamedTuple):
    """What an attempt is ``sure`` to take; and ``unlimited``, what it may come to, if its answer has no limit."""

    sure: Amount
    unlimited: Amount | None = None


def spent_in(usage: Usage, settings: Settings, prices: PriceList) -> Amount:
    """What a batch has spent. Tokens whose lines have no cost, as no price was known then, are priced now."""
    rates = prices.rates(settings.model) if settings.model is not None and usage.unpriced else None
    cost = total(usage.cost, None if rates is None else rates.cost(usage.unpriced))
    return Amount(int(usage.sums.get("total_tokens", 0)), cost or Decimal(0))


class Purse:
    """Shared by the workers of a batch, on one event loop.

    A call reserves what it is sure to take, or what it is likely to come to if nothing limits its answer. If that fits
    only once calls under way have taken less than was guessed for them, it waits for them: so many calls at once
    overshoot no limit, and stop no batch that has enough left.
    """

    def __init__(self, limits: Limits, prices: PriceList, spent: Amount, answers: int = 0) -> None:
        self._budget = Budget(limits, spent)
        self._answers = answers
        self._prices = prices
        self._changed = asyncio.Event()
        self._refused = NOTHING

    @classmethod
    def of(cls, settings: Settings, prices: PriceList, earlier: Usage) -> Purse | None:
        """For the limits in ``settings``; None if there are none. ``earlier``: what earlier tries have taken."""
        limits = Limits(settings.max_total_tokens, settings.max_cost, settings.currency)
        if not limits.are_set:
            return None
        return cls(limits, prices, spent_in(earlier, settings, prices), earlier.calls.requests)

    def coming(self, request: Mapping[str, Any], attached: int = 0) -> Coming:
        """What an attempt of a request is sure to take. ``attached``: the bytes of its files that are text.

        Raises InvalidRequest if the cost is limited and the price of the request's model is not known.
        """
        model, rates = request.get("model"), None
        if self._budget.limits.max_cost is not None:
            rates = self._prices.rates(model) if isinstance(model, str) else None
            if rates is None:
                of = f"the model {model[:200]!r}" if isinstance(model, str) else "a request that names no model"
                raise InvalidRequest(
                    f"Set the extra 'prices' of the connection for {of}: with max_cost, no request is sent whose price "
                    "is not known",
                    path="max_cost",
                    keyword="prices",
                )
        surely = sure_tokens(request, attached)
        sure = self._budget.coming(surely, rates)
        if surely.output_tokens is not None:
            return Coming(sure)
        return Coming(sure, self._budget.coming(surely._replace(output_tokens=_UNKNOWN), rates))

    async def reserve(self, coming: Coming, *, stopped: Callable[[], bool]) -> Amount | None:
        """Reserve what an attempt may take, maybe after others have ended: how much it is, for ``settle``.

        None if the batch has ``stopped`` meanwhile. Raises BudgetExceeded.
        """
        while not stopped():
            likely = self._likely(coming)
            try:
                self._budget.reserve(coming.sure, likely)
            except BudgetExceeded:
                self._check_spent(coming.sure)
            else:
                return likely
            await self._changed.wait()
        return None

    def _likely(self, coming: Coming) -> Amount:
        if coming.unlimited is None:
            return coming.sure
        if not self._answers:
            return coming.unlimited
        spent = self._budget.spent
        return Amount(
            max(coming.sure.tokens, spent.tokens // self._answers), max(coming.sure.cost, spent.cost / self._answers)
        )

    def _check_spent(self, coming: Amount) -> None:
        """Raise BudgetExceeded if it does not fit whatever the calls under way come to."""
        self._refused = coming
        Budget(self._budget.limits, self._budget.spent).check(coming)

    def error(self, how_far: str) -> BudgetExceeded | None:
        """What a batch ends with that has spent its limit; None for any other."""
        try:
            Budget(self._budget.limits, self._budget.spent).check(self._refused)
        except BudgetExceeded as error:
            said = error.message.replace(INSTEAD, " and run the task again, which goes on from here")
            return BudgetExceeded(f"{said}. The batch has stopped: {how_far}", limit=error.limit)
        return None

    def settle(self, reserved: Amount, coming: Coming, reply: Reply | None) -> None:
        """An attempt has ended, with this reply; None if it was not made."""
        amount = NOTHING
        if reply is not None:
            amount = took(reply.status, reply.body, reply.error, coming.sure, reply.cost)
        self._budget.settle(reserved, amount)
        self._answers += amount != NOTHING
        self._changed.set()
        self._changed = asyncio.Event()
