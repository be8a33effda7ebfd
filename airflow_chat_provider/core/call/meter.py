"""The limits of a task or a batch, held against each attempt of a call: before it is made, and when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from decimal import Decimal
from typing import Any, Protocol, TypeAlias

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.usage import cost_of, read_usage, usage_in
from airflow_chat_provider.core.call.steps import Begun, Result, Send, Sleep
from airflow_chat_provider.core.cost.budget import NOTHING, Amount
from airflow_chat_provider.core.cost.estimate import Estimate
from airflow_chat_provider.core.errors import BudgetExceeded, ChatCompletionError, TransportError
from airflow_chat_provider.core.types import JSON

Exchange: TypeAlias = "Generator[Send | Sleep, Result, Reply]"


class Purse(Protocol):
    """What attempts are paid from: a Budget, or what wraps one."""

    def coming(self, surely: Estimate) -> Amount:
        """What an attempt with this estimate is sure to take."""

    def check(self, coming: Amount) -> None:
        """Raises BudgetExceeded."""

    def reserve(self, coming: Amount) -> None:
        """``check``, and count it as under way."""

    def settle(self, reserved: Amount, took: Amount) -> None:
        """An attempt has ended."""


class Meter:
    """Pays for the attempts of one call. ``price`` says what a body cost; None if it does not know."""

    def __init__(self, purse: Purse, surely: Estimate, price: Callable[[JSON], Decimal | None]) -> None:
        self._purse = purse
        self._price = price
        self._coming = purse.coming(surely)

    def may_follow(self) -> BudgetExceeded | None:
        """Why no further attempt may be made; None if one may."""
        return self._refusal(self._purse.check)

    def begins(self) -> BudgetExceeded | None:
        """An attempt is about to be made. Returns why it must not be."""
        return self._refusal(self._purse.reserve)

    def _refusal(self, pay: Callable[[Amount], None]) -> BudgetExceeded | None:
        try:
            pay(self._coming)
        except BudgetExceeded as error:
            return error
        return None

    def ended(self, status: int | None, body: JSON, error: ChatCompletionError | None) -> None:
        """The attempt has ended."""
        self._purse.settle(self._coming, took(status, body, error, self._coming, self._price(body)))

    def refused(self) -> None:
        """The attempt was refused for a field that the user never wrote. That costs nothing."""
        self._purse.settle(self._coming, NOTHING)


def took(
    status: int | None, body: JSON, error: ChatCompletionError | None, guess: Amount, cost: Decimal | None
) -> Amount:
    """What an attempt took: what its ``usage`` says; without one, the guess for what may have been answered.

    ``cost``: of the body, if it is known.
    """
    tokens = read_usage(usage_in(body)).get("total_tokens")
    is_paid = 200 <= status < 300 if status is not None else isinstance(error, TransportError) and bool(error.sent)
    if not is_paid:
        guess = NOTHING
    return Amount(guess.tokens if tokens is None else tokens, guess.cost if cost is None else cost)


def spent_in(replies: Iterable[Reply]) -> Amount:
    """What the attempts of these replies took, as far as they say so."""
    total = NOTHING
    for reply in replies:
        for attempt in (*reply.earlier, reply):
            total = total.plus(took(None, attempt.body, None, NOTHING, cost_of(attempt)))
    return total


def metered(steps: Exchange, meter: Meter, begun: Begun) -> Exchange:
    """An exchange that makes no attempt for which there is no money. Then its reply has the error BudgetExceeded.

    Body, status and the rest of such a reply are those of the attempt before, if there was one.
    """
    step, elapsed = next(steps), 0.0
    try:
        while True:
            over = meter.begins() if isinstance(step, Send) else meter.may_follow()
            if over is not None:
                return _stopped(steps, step, over, begun.elapsed + elapsed)
            result = yield step
            elapsed, sent = result.elapsed, isinstance(step, Send)
            step = steps.send(result)
            if isinstance(step, Sleep):
                if sent:
                    meter.ended(step.error.status, step.error.body, step.error)
            elif sent:
                meter.refused()
    except StopIteration as done:
        reply: Reply = done.value
        if sent:
            meter.ended(reply.status, reply.body, reply.error)
        return reply


def _stopped(steps: Exchange, step: Send | Sleep, over: BudgetExceeded, seconds: float) -> Reply:
    """The end of an exchange whose next attempt must not be made."""
    sent = step.attempt - isinstance(step, Send)
    try:
        steps.send(Result(None, seconds, aborted=True))
    except StopIteration as done:
        reply: Reply = done.value
    else:
        raise RuntimeError("an exchange went on after it was aborted")
    before: Any = step.error if isinstance(step, Sleep) else None
    if before is not None:
        over.reword(f"{over.message}. The attempt before failed: {before.message}")
    values = {"status": reply.status, "request_id": reply.request_id, "body": reply.body}
    error = BudgetExceeded(over.message, limit=over.limit, **values)
    return reply._replace(attempts=sent, seconds=seconds, error=error)
