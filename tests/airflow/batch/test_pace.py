"""How fast a batch goes: what was allowed, what the server says, and back again."""

import asyncio

import pytest

from airflow_chat_provider.batch.pace import Bucket, Concurrency, Gate, Guess
from airflow_chat_provider.core.answer.reply import Reply


class TestBucket:
    def test_it_lets_through_what_a_minute_allows_in_a_steady_stream(self):
        bucket, now = Bucket(60, 0.0), 0.0
        for _ in range(121):
            now += bucket.wait(1.0, now)
            bucket.take(1.0)
        assert now == pytest.approx(120.0)

    def test_after_a_pause_one_second_worth_goes_at_once_and_no_more(self):
        bucket = Bucket(600, 0.0)
        for _ in range(10):
            assert bucket.wait(1.0, 100.0) == 0.0
            bucket.take(1.0)
        assert bucket.wait(1.0, 100.0) == pytest.approx(0.1)

    def test_what_costs_more_than_it_holds_waits_for_a_full_one_and_is_paid_for_afterwards(self):
        bucket = Bucket(60, 0.0)
        assert bucket.wait(10.0, 0.0) == 0.0
        bucket.take(10.0)
        assert bucket.wait(1.0, 0.0) == pytest.approx(10.0)

    def test_what_was_not_used_is_given_back(self):
        bucket = Bucket(60, 0.0)
        bucket.take(10.0)
        bucket.take(-9.0)
        assert bucket.wait(1.0, 0.0) == pytest.approx(1.0)


class TestConcurrency:
    def test_an_overload_cuts_it_once_however_many_answers_say_so(self):
        concurrency = Concurrency(100)
        for _ in range(50):
            concurrency.overloaded(sent_at=1.0, now=2.0, retry_after=None, jitter=1.0)
        assert concurrency.limit == pytest.approx(70.0)
        concurrency.overloaded(sent_at=2.5, now=3.0, retry_after=None, jitter=1.0)
        assert concurrency.limit == pytest.approx(49.0)

    def test_it_climbs_by_one_with_each_round_of_answers_up_to_what_was_allowed(self):
        concurrency = Concurrency(12)
        concurrency.overloaded(sent_at=0.0, now=0.0, retry_after=None, jitter=1.0)
        for _ in range(9):
            concurrency.went_well(1.0, {})
        assert concurrency.limit == pytest.approx(9.4, abs=0.2)
        for _ in range(100):
            concurrency.went_well(1.0, {})
        assert concurrency.limit == 12

    def test_it_never_falls_below_one(self):
        concurrency = Concurrency(2)
        for second in range(20):
            concurrency.overloaded(sent_at=second, now=second, retry_after=None, jitter=1.0)
        assert concurrency.limit == 1

    def test_nothing_is_sent_before_the_time_that_the_server_named(self):
        concurrency = Concurrency(4)
        concurrency.overloaded(sent_at=0.0, now=10.0, retry_after=7.0, jitter=1.0)
        assert concurrency.wait(10.0) == pytest.approx(7.0)
        assert concurrency.wait(17.5) == 0.0

    def test_pauses_grow_until_the_server_answers(self):
        concurrency, pauses = Concurrency(4), []
        for now in (100.0, 200.0, 300.0):
            concurrency.overloaded(sent_at=now, now=now, retry_after=None, jitter=1.0)
            pauses.append(concurrency.wait(now))
        assert pauses == [0.5, 1.0, 2.0]
        concurrency.went_well(400.0, {})
        concurrency.overloaded(sent_at=500.0, now=500.0, retry_after=None, jitter=1.0)
        assert concurrency.wait(500.0) == 0.5

    def test_an_allowance_that_is_used_up_is_waited_for(self):
        concurrency = Concurrency(4)
        concurrency.went_well(10.0, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2s"})
        assert concurrency.wait(10.0) == pytest.approx(2.0)

    def test_an_allowance_that_is_left_is_no_reason_to_wait(self):
        concurrency = Concurrency(4)
        concurrency.went_well(10.0, {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "2s"})
        assert concurrency.wait(10.0) == 0.0


@pytest.mark.parametrize(
    ("tokens", "taken"),
    [(10**15, 6000), (10**400, 6000), (5999, 5999), (-(10**15), 0)],
    ids=["much", "absurd", "a lot", "negative"],
)
def test_one_answer_takes_a_minutes_worth_of_tokens_at_most(tokens, taken):
    async def one():
        gate = Gate(1, None, 6000)
        bucket = gate._tokens
        assert bucket is not None
        level = bucket._level
        ticket = await gate.enter(400)
        gate.leave(ticket, Reply(200, {"usage": {"total_tokens": tokens}}))
        return level - bucket._level

    assert asyncio.run(one()) == pytest.approx(taken)


def test_the_guess_learns_a_minutes_worth_from_an_absurd_count():
    async def two():
        gate = Gate(1, None, 6000)
        gate.leave(await gate.enter(400), Reply(200, {"usage": {"total_tokens": 10**15}}))
        return gate._guess(400)

    assert asyncio.run(two()) < 6000


def test_the_tokens_of_a_request_are_guessed_from_what_the_batch_shows():
    guess = Guess()
    assert guess(4000) == pytest.approx(1000.0)
    for _ in range(1000):
        guess.learn(100, 300)
    assert guess(100) == pytest.approx(300.0, rel=0.05)
