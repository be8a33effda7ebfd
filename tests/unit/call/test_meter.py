"""A call whose attempts are paid from a budget. The exchange is pure, so the tests are its driver."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.exchange import exchange
from airflow_chat_provider.core.call.meter import Meter, metered, spent_in, took
from airflow_chat_provider.core.call.steps import AFRESH, Begun, Call, Response, Result, Send, Sleep
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.cost.budget import NOTHING, Amount, Budget, Limits
from airflow_chat_provider.core.cost.estimate import Estimate
from airflow_chat_provider.core.errors import BudgetExceeded, StatusError, TransportError

ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
USAGE = {"prompt_tokens": 30, "completion_tokens": 10, "total_tokens": 40}
GUESS = 20


def received(status: int = 200, body: Any = None, **more: Any) -> Response:
    return Response(status, {}, json.dumps({**(body or ANSWER), **more}).encode())


FAILED = received(500, {"error": {"message": "oops"}})
REFUSED_OPTION = received(400, {"error": {"message": "Unknown field stream_options"}})
RESET = TransportError("reset", sent=True)
UNREACHABLE = TransportError("no route", sent=False)


def drive(
    budget: Budget,
    outcomes: Iterable[Response | TransportError],
    *,
    begun: Begun = AFRESH,
    contents: tuple[bytes, ...] = (b"",),
) -> tuple[Reply, int]:
    """The reply, and how many attempts were made."""
    call = Call(Settings(max_attempts=5), contents)
    steps = metered(exchange(call, begun), Meter(budget, Estimate(GUESS), lambda _: None), begun)
    waiting, made, result = list(outcomes), 0, None
    while True:
        try:
            step: Send | Sleep = next(steps) if result is None else steps.send(result)
        except StopIteration as done:
            return done.value, made
        outcome = None
        if isinstance(step, Send):
            outcome, made = waiting.pop(0), made + 1
        result = Result(outcome, float(made))


def budget(most: int = 1_000, spent: int = 0) -> Budget:
    return Budget(Limits(most), Amount(spent))


@pytest.mark.parametrize(
    ("outcomes", "spent"),
    [
        pytest.param([received(usage=USAGE)], 40, id="an answer"),
        pytest.param([received()], GUESS, id="an answer without usage"),
        pytest.param([FAILED, received(usage=USAGE)], 40, id="a failure costs nothing"),
        pytest.param([received(500, {"error": {}}, usage=USAGE), received(usage=USAGE)], 80, id="unless it says so"),
        pytest.param([RESET, received(usage=USAGE)], GUESS + 40, id="perhaps answered"),
        pytest.param([UNREACHABLE, received(usage=USAGE)], 40, id="never sent"),
        pytest.param([Response(200, {}, b"<html>")], GUESS, id="HTML"),
    ],
)
def test_an_attempt_takes_what_it_says_or_else_the_guess(outcomes: list[Any], spent: int) -> None:
    paid = budget()
    drive(paid, outcomes)
    assert (paid.spent.tokens, paid.reserved) == (spent, NOTHING)


def test_a_first_attempt_that_does_not_fit_is_not_made() -> None:
    reply, made = drive(budget(GUESS - 1), [])
    assert (made, reply.attempts, reply.status, type(reply.error)) == (0, 0, None, BudgetExceeded)


def test_a_further_attempt_that_does_not_fit_leaves_the_reply_of_the_one_before() -> None:
    reply, made = drive(budget(50), [received(503, {"error": {"message": "oops"}}, usage=USAGE)])
    assert (made, reply.attempts, reply.status) == (1, 1, 503)
    assert reply.body["usage"] == USAGE
    assert isinstance(reply.error, BudgetExceeded)
    assert (reply.error.status, reply.error.body) == (503, reply.body)
    assert "40 tokens are spent" in reply.error.message
    assert "The attempt before failed: " in reply.error.message


def test_a_call_that_an_earlier_driver_began_counts_its_attempts() -> None:
    reply, made = drive(budget(GUESS - 1), [], begun=Begun(3, 7.5))
    assert (made, reply.attempts, reply.seconds) == (0, 2, 7.5)


def test_an_attempt_that_is_made_again_without_a_field_is_paid_for_once() -> None:
    paid = budget(GUESS)
    reply, made = drive(paid, [REFUSED_OPTION, received(usage=USAGE)], contents=(b"1", b"2"))
    assert (made, reply.error, paid.spent.tokens) == (2, None, 40)


def test_an_attempt_under_way_stays_reserved() -> None:
    paid = budget()
    steps = metered(exchange(Call(Settings())), Meter(paid, Estimate(GUESS), lambda _: None), AFRESH)
    next(steps)
    steps.close()
    assert paid.committed == Amount(GUESS)


def test_somebody_else_may_spend_during_a_wait() -> None:
    paid = budget(100)
    call = Call(Settings(max_attempts=5))
    steps = metered(exchange(call), Meter(paid, Estimate(GUESS), lambda _: None), AFRESH)
    next(steps)
    assert isinstance(steps.send(Result(FAILED, 1.0)), Sleep)
    paid.settle(NOTHING, Amount(90))
    with pytest.raises(StopIteration) as done:
        steps.send(Result(None, 2.0))
    reply = done.value.value
    assert (reply.attempts, type(reply.error)) == (1, BudgetExceeded)


def test_a_known_cost_wins_over_the_guess() -> None:
    guess = Amount(GUESS, Decimal(1))
    assert took(200, {"usage": USAGE}, None, guess, Decimal("0.5")) == Amount(40, Decimal("0.5"))
    assert took(200, {"usage": USAGE}, None, guess, None) == Amount(40, Decimal(1))
    assert took(500, None, StatusError("no", status=500), guess, None) == NOTHING


def test_replies_of_an_earlier_try_are_added_up() -> None:
    earlier = Reply(500, {"usage": USAGE}, cost=Decimal(1))
    replies = [Reply(200, {"usage": USAGE}, cost=Decimal(2), earlier=(earlier,)), Reply(200, ANSWER), Reply(None, None)]
    assert spent_in(replies) == Amount(80, Decimal(3))
