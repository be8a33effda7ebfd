"""Limits, reuse and equal requests hold for the batch API as they do for calls."""

import pytest

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.batch.vendor import cutting
from airflow_chat_provider.errors import BudgetExceeded
from airflow_chat_provider.testing import batch_faults, replies
from tests.support.batching import attach_store, lines
from tests.support.vendor import spent


@pytest.fixture
def orders(bulk, monkeypatch):
    """Three orders of two rows."""
    monkeypatch.setattr(cutting, "MOST_REQUESTS", 2)
    bulk.texts(6)
    return bulk


def test_what_is_over_the_limit_of_tokens_is_not_started_and_what_came_is_kept(orders):
    error = orders.error(max_total_tokens=12)
    assert isinstance(error, BudgetExceeded)
    assert error.limit == "max_total_tokens"
    assert "4 of 6 rows answered" in error.message
    assert len(orders.results) == 4
    assert spent(orders.pushed["return_value"]) == orders.vendor.tokens
    manifest = orders.run()
    assert (manifest["succeeded"], spent(manifest)) == (6, orders.vendor.tokens)
    assert orders.sent == sorted(f"row-{index}" for index in range(6))


def test_a_limit_of_the_cost_without_a_known_price_is_refused_before_anything_is_sent(orders):
    error = orders.error(max_cost=1, model="model-without-a-price")
    assert "prices" in error.message
    assert orders.vendor.batches == []


def test_a_row_whose_model_has_no_known_price_fails_alone(bulk, connect):
    connection = bulk.vendor.connection
    connect(**{**connection, "extra": {**connection["extra"], "prices": {"test-model": {"input": "1", "output": "1"}}}})
    bulk.write(*({"text": "a", "model": model} for model in ("test-model", "unknown", "test-model")))
    manifest = bulk.run(model="{{ row.model }}", max_cost=1, max_failures=1)
    assert (manifest["succeeded"], manifest["failed"]) == (2, {"InvalidRequest": 1})
    assert bulk.errors[0]["error"]["message"].startswith("Set the extra 'prices' of the connection for the model 'unk")
    assert bulk.sent == ["row-0", "row-2"]


def test_what_was_answered_before_a_price_was_known_counts(orders, connect):
    orders.vendor.script(batch_faults.expired(2))
    orders.error(max_total_tokens=12)
    spent_before, asked = orders.vendor.tokens, len(orders.sent)
    connection, prices = orders.vendor.connection, {"test-model": {"input": "1000000", "output": "1000000"}}
    connect(**{**connection, "extra": {**connection["extra"], "prices": prices}})
    error = orders.error(max_cost=spent_before)
    assert (type(error), len(orders.sent)) == (BudgetExceeded, asked)


def test_half_prices_are_held_against_the_limit(orders, connect):
    connection = orders.vendor.connection
    prices = {"test-model": {"input": "1000000", "output": "0"}}
    connect(**{**connection, "extra": {**connection["extra"], "prices": prices, "batch_discount": 1}})
    assert orders.run(max_cost=0.001)["succeeded"] == 6


def test_rows_that_an_earlier_batch_answered_are_not_sent(orders, tmp_path):
    orders.run()
    orders.write(*({"text": f"row {index}"} for index in range(7)))
    manifest = orders.run(output=str(tmp_path / "second"), reuse=str(orders.output))
    assert manifest["succeeded"] == 7
    assert orders.vendor.batches[-1].total == 1
    assert len(orders.vendor.batches) == 4
    reused = [line for line in lines(tmp_path / "second" / "results.jsonl") if line.get("reused")]
    assert len(reused) == 6


def test_calls_reuse_what_the_batch_api_answered(orders, tmp_path):
    orders.run()
    manifest = orders.run(output=str(tmp_path / "second"), reuse=str(orders.output), via="calls")
    assert manifest["succeeded"] == 6
    assert not [request for request in orders.vendor.requests if request.path.endswith("/chat/completions")]


def test_equal_requests_are_sent_once(bulk):
    bulk.write(*({"text": text} for text in ("a", "b", "a", "a", "b")))
    manifest = bulk.run(deduplicate=True)
    assert manifest["succeeded"] == 5
    assert [line["response"] for line in bulk.results] == ["a", "b", "a", "a", "b"]
    assert bulk.sent == ["row-0", "row-1"]
    assert spent(manifest) == bulk.vendor.tokens


def test_equal_requests_share_their_failure(bulk):
    bulk.vendor.answer = lambda body: replies.error(400, "no")
    bulk.write(*({"text": text} for text in ("a", "b", "a")))
    manifest = bulk.run(deduplicate=True, max_failures=None)
    assert (manifest["failed"], manifest["missing"]) == ({"StatusError 400": 3}, 0)
    assert bulk.errors[2]["same_as"] == 0


def test_the_output_may_be_in_an_object_store(bulk, tmp_path):
    attach_store(tmp_path / "store")
    bulk.texts(5)
    bulk.vendor.script(batch_faults.expired(2))
    bulk.error(output="memory://results/a")
    manifest = bulk.run(output="memory://results/a")
    assert (manifest["succeeded"], spent(manifest)) == (5, bulk.vendor.tokens)


def test_failures_of_all_orders_count_together_over_all_waits(orders):
    orders.vendor.polls = 1
    orders.vendor.answer = lambda body: replies.error(400, "no")
    orders.vendor.script(batch_faults.busy(1))
    error = orders.error(max_failures=5)
    assert "6 of 6 rows failed (max_failures 5)" in error.message


def test_orders_are_not_started_once_too_many_rows_have_failed(orders):
    orders.vendor.answer = lambda body: replies.error(400, "no")
    with pytest.raises(exceptions.TaskDeferred):
        orders.task(max_failures=1, max_total_tokens=30).execute({"ti": orders})
    assert len(orders.vendor.batches) < 3
    error = orders.error(max_failures=1, max_total_tokens=30)
    assert "rows failed (max_failures 1)" in error.message
