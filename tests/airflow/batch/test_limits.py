"""What a batch may spend, in all of its tries: over the limit it stops, keeps what came, and says how far it came."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from airflow_chat_provider.errors import BudgetExceeded, InvalidConnection, InvalidRequest
from airflow_chat_provider.testing import replies
from tests.support.batching import prompt_of

PRICES = {"test-*": {"input": "1000", "output": "1000"}}  # 0.001 for a token: an answer costs 0.011


@pytest.fixture
def priced(batch, connect):
    """The batch, and a connection that knows the prices of its model."""

    def extra(**values: Any) -> None:
        connection = batch.chat.connection
        connect(**{**connection, "extra": json.dumps({"prices": PRICES, "model": "test-model", **values})})

    extra()
    batch.extra = extra
    return batch


class TestTokens:
    def test_a_batch_that_has_enough_runs_to_its_end(self, batch):
        batch.texts(50)
        assert batch.run(max_total_tokens=550)["succeeded"] == 50

    def test_one_that_has_not_stops_and_keeps_what_came(self, batch):
        batch.texts(50)
        error = batch.error(max_total_tokens=220, max_concurrency=4)
        assert (type(error), error.limit, error.final) == (BudgetExceeded, "max_total_tokens", True)
        assert len(batch.results) == len(batch.chat.requests)
        assert 11 * len(batch.results) <= 220
        answered = len(batch.results)
        assert batch.pushed["usage"]["total_tokens"] == 11 * answered
        assert error.message.startswith("Raise max_total_tokens and run the task again, which goes on from here: ")
        assert f"of at most 220 tokens, {11 * answered} tokens are spent" in error.message
        assert error.message.endswith(f"The batch has stopped: {answered} of 50 rows answered, {50 - answered} missing")

    def test_it_goes_on_with_a_higher_limit(self, batch):
        batch.texts(50)
        batch.error(max_total_tokens=220)
        manifest = batch.run(max_total_tokens=550)
        assert (manifest["succeeded"], manifest["usage"]["total_tokens"]) == (50, 550)
        assert set(batch.times.values()) == {1}

    def test_nothing_is_sent_with_the_same_limit(self, batch):
        batch.texts(50)
        first = batch.error(max_total_tokens=220)
        sent = len(batch.chat.requests)
        again = batch.error(max_total_tokens=220)
        assert (type(again), len(batch.chat.requests)) == (BudgetExceeded, sent)
        assert again.message == first.message

    def test_nothing_is_sent_with_a_limit_of_0(self, batch):
        batch.texts(3)
        assert isinstance(batch.error(max_total_tokens=0), BudgetExceeded)
        assert batch.chat.requests == []

    def test_so_many_calls_at_once_do_not_overshoot(self, batch):
        """Each answer takes all that its request asks for."""
        usage = {"prompt_tokens": 2, "completion_tokens": 98, "total_tokens": 100}
        batch.chat.default = replies.ok(usage=usage)
        batch.texts(200)
        error = batch.error(request={"max_completion_tokens": 98}, max_total_tokens=1_050, max_concurrency=64)
        assert isinstance(error, BudgetExceeded)
        assert len(batch.results) == len(batch.chat.requests) == 10

    def test_calls_wait_for_those_under_way_while_these_may_take_less_than_guessed(self, batch):
        """What 64 answers may have is far more than the limit, and what they do have is not."""
        batch.texts(40)
        manifest = batch.run(request={"max_completion_tokens": 300}, max_total_tokens=900, max_concurrency=64)
        assert (manifest["succeeded"], manifest["usage"]["total_tokens"]) == (40, 440)

    def test_the_calls_under_way_end(self, batch):
        """One answer takes all that is left, while others are on their way."""
        all_came = threading.Barrier(4, timeout=60)

        def answer(request):
            all_came.wait()
            taken = 900 if prompt_of(request) == "row 0" else 11
            return replies.ok(usage={"prompt_tokens": 1, "completion_tokens": taken - 1, "total_tokens": taken})

        batch.chat.default = answer
        batch.texts(40)
        request = {"max_completion_tokens": 200}
        error = batch.error(request=request, max_total_tokens=900, max_concurrency=4)
        assert isinstance(error, BudgetExceeded)
        assert len(batch.results) == len(batch.chat.requests) == 4

    def test_failed_rows_and_answers_that_do_not_fit_count(self, batch):
        batch.chat.default = replies.ok("no JSON")
        batch.texts(20)
        error = batch.error(result_format="json", max_failures=None, max_total_tokens=110)
        assert isinstance(error, BudgetExceeded)
        assert 11 * len(batch.chat.requests) <= 110
        assert "failed" in error.message
        assert len(batch.errors) == len(batch.chat.requests)
        sent = len(batch.chat.requests)
        batch.error(result_format="json", max_failures=None, max_total_tokens=110)
        assert len(batch.chat.requests) == sent

    def test_an_answer_that_did_not_fit_is_kept_if_it_cannot_be_asked_for_again(self, batch):
        batch.chat.default = replies.ok("{}")
        batch.texts(1)
        schema = {"type": "object", "required": ["a"]}
        error = batch.error(result_format="json", response_schema=schema, max_total_tokens=40, max_failures=None)
        assert isinstance(error, BudgetExceeded)
        (line,) = batch.errors
        assert (line["error"]["class"], line["usage"]["total_tokens"]) == ("InvalidOutput", 11)

    def test_an_answer_without_usage_counts_as_the_guess(self, batch):
        batch.chat.default = replies.ok(usage=None)
        batch.write(*({"text": f"{index:04} " + "x" * 75} for index in range(20)))
        assert isinstance(batch.error(max_total_tokens=100), BudgetExceeded)
        assert len(batch.chat.requests) == 5

    def test_refusals_cost_nothing(self, batch):
        batch.chat.script(replies.status(429, {"retry-after": "0"}), replies.status(503))
        batch.texts(10)
        assert batch.run(max_total_tokens=115)["succeeded"] == 10

    def test_the_connections_limit_holds_for_a_batch_without_its_own(self, priced):
        priced.extra(max_total_tokens=50)
        priced.texts(20)
        assert isinstance(priced.error(), BudgetExceeded)
        assert priced.run(max_total_tokens=1_000)["succeeded"] == 20


class TestCost:
    def test_it_is_counted_by_the_prices_in_all_tries(self, priced):
        priced.texts(50)
        error = priced.error(max_cost="0.22")
        assert (type(error), error.limit) == (BudgetExceeded, "max_cost")
        answered = len(priced.results)
        assert 0.011 * answered <= 0.22
        assert f"{answered} of 50 rows answered" in error.message
        manifest = priced.run(max_cost="0.56")
        assert (manifest["succeeded"], manifest["usage"]["cost"]) == (50, 0.55)

    def test_lines_that_were_written_before_a_price_was_known_are_priced(self, priced, connect):
        priced.texts(20)
        connect(**priced.chat.connection)
        priced.chat.script(*(replies.ok() for _ in range(10)), *(replies.status(400) for _ in range(10)))
        priced.run(max_failures=None, max_concurrency=1)
        priced.extra()
        assert isinstance(priced.error(max_cost="0.11"), BudgetExceeded)
        assert len(priced.chat.requests) == 20

    def test_they_are_priced_in_each_later_try(self, priced, connect):
        priced.texts(30)
        connect(**priced.chat.connection)
        priced.error(max_total_tokens=110, max_concurrency=1)
        priced.extra()
        for most in ("0.121", "0.132"):
            assert isinstance(priced.error(max_cost=most, max_concurrency=1), BudgetExceeded)
        assert len(priced.chat.requests) == 12

    def test_it_is_refused_without_a_price(self, priced):
        priced.texts(3)
        error = priced.error(model="other", max_cost=1)
        assert (type(error), error.field, priced.chat.requests) == (InvalidConnection, "prices", [])
        assert "for the model 'other'" in error.message
        assert not priced.output.exists()

    def test_a_row_whose_model_has_no_price_is_not_sent(self, priced):
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        priced.arguments = {}
        priced.write(
            {"custom_id": "a", "body": {**body, "model": "test-model"}},
            {"custom_id": "b", "body": {**body, "model": "other"}},
        )
        manifest = priced.run(max_cost=1, max_failures=None)
        assert (manifest["succeeded"], len(priced.chat.requests)) == (1, 1)
        (line,) = priced.errors
        assert line["failure"]["class"] == "InvalidRequest"
        assert "'other'" in line["failure"]["message"]


@pytest.mark.parametrize(
    ("argument", "value"),
    [("max_total_tokens", -1), ("max_total_tokens", "many"), ("max_cost", float("nan")), ("max_cost", -1)],
    ids=repr,
)
def test_a_wrong_limit_breaks_the_import(batch, argument, value):
    batch.texts(1)
    with pytest.raises(InvalidRequest, match=f"{argument} must be"):
        batch.task(**{argument: value})
