"""What a batch costs: each row, all rows, over all tries, with what failed and what was asked for again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from airflow_chat_provider.batch import engine
from airflow_chat_provider.results import read_errors, read_results
from airflow_chat_provider.testing import ChatServer, Received, replies
from tests.support.batching import Batch, prompt_of
from tests.support.calling import AT_ONCE
from tests.support.telemetry import Statsd

# An answer of the server's (9 tokens in, 2 out) costs 9 * 1 + 2 * 2 = 13 millionths.
PRICES = {"test-*": {"input": "1", "output": "2"}}


class Verdict(BaseModel):
    good: bool


@pytest.fixture
def priced(batch: Batch, server: ChatServer, connect: Callable[..., str]) -> Batch:
    connect(server.url, extra={"model": "test-model", "prices": PRICES, "currency": "EUR"})
    return batch


def cost(manifest: dict[str, Any]) -> tuple[Any, Any]:
    return manifest["usage"]["cost"], manifest["usage"]["currency"]


def failing_at(text: str) -> Callable[[Received], Any]:
    return lambda request: replies.ok("no JSON" if prompt_of(request) == text else "{}")


def test_each_line_and_the_manifest_have_the_cost(priced: Batch) -> None:
    priced.texts(3)
    manifest = priced.run()
    assert cost(manifest) == (0.000039, "EUR")
    assert [line["cost"] for line in priced.results] == [0.000013] * 3
    assert [line["cost"] for line in read_results(manifest)] == [0.000013] * 3


def test_failed_rows_answers_asked_for_again_and_attempts_made_again_count(priced: Batch) -> None:
    body = {"error": {"message": "oops"}, "usage": replies.USAGE}
    again = replies.json_reply(500, body, AT_ONCE)
    priced.texts(2)
    priced.chat.script(again, replies.ok('{"good": 1}'), again, replies.ok('{"good": true}'))
    priced.chat.default = replies.ok("no")
    manifest = priced.run(
        response_schema=Verdict, result_format="json", max_attempts=2, max_failures=None, max_concurrency=1
    )
    assert (manifest["succeeded"], manifest["failed"]) == (1, {"InvalidOutput 200": 1})
    assert cost(manifest) == (round(0.000013 * 6, 6), "EUR")
    assert (priced.results[0]["cost"], priced.errors[0]["cost"]) == (0.000052, 0.000026)
    assert [line["cost"] for line in read_errors(manifest)] == [0.000026]


def test_costs_survive_a_retry_and_failed_rows_keep_theirs(priced: Batch) -> None:
    priced.texts(4)
    priced.chat.default = failing_at("row 1")
    assert cost(priced.run(result_format="json", max_failures=None)) == (0.000052, "EUR")
    assert cost(priced.run(result_format="json", max_failures=None)) == (0.000065, "EUR")
    priced.chat.default = replies.ok("{}")
    assert cost(priced.run(result_format="json")) == (0.000078, "EUR")
    assert priced.results[1]["cost"] == 0.000039
    assert cost(priced.run(result_format="json")) == (0.000078, "EUR")


def test_costs_add_up_without_the_noise_of_fractions(priced: Batch) -> None:
    costs = iter([0.1, 0.2, 0.3, 1e-7])
    priced.texts(4)
    priced.chat.default = lambda _: replies.ok(usage={"total_tokens": 1, "cost": next(costs)})
    assert cost(priced.run(max_concurrency=1)) == (0.6000001, "EUR")
    assert cost(priced.run()) == (0.6000001, "EUR")


def test_what_a_server_states_counts_once_for_each_answer(priced: Batch) -> None:
    texts = iter(['{"good": 1}', '{"good": true}'])
    priced.texts(1)
    priced.chat.default = lambda _: replies.ok(next(texts), usage={"total_tokens": 1, "cost": 0.1})
    assert cost(priced.run(response_schema=Verdict, result_format="json")) == (0.2, "EUR")
    assert priced.results[0]["cost"] == 0.2
    assert cost(priced.run(response_schema=Verdict, result_format="json")) == (0.2, "EUR")


@pytest.mark.parametrize("kind", ["results", "errors"])
def test_a_line_of_an_older_version_has_no_cost_but_what_its_usage_states(priced: Batch, kind: str) -> None:
    usages = iter([replies.USAGE, {**replies.USAGE, "cost": 0.5}])
    priced.texts(2)
    priced.chat.default = lambda _: replies.ok("no" if kind == "errors" else "{}", usage=next(usages))
    priced.run(result_format="json", max_failures=None, max_concurrency=1)
    file = priced.output / f"{kind}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        del line["cost"]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    priced.chat.default = replies.ok("{}")
    found = cost(priced.run(result_format="json"))
    assert found == ((0.500026, "EUR") if kind == "errors" else (0.5, "EUR"))


@pytest.mark.parametrize("wrong", [-1, True, "0.1", [1], 1e300, {}], ids=str)
def test_a_cost_that_somebody_has_written_into_a_line_is_an_amount_or_none(priced: Batch, wrong: Any) -> None:
    priced.texts(1)
    priced.run()
    file = priced.output / "results.jsonl"
    file.write_text(json.dumps({**json.loads(file.read_text()), "cost": wrong}) + "\n")
    assert cost(priced.run()) == (None, None)


def test_lines_in_the_form_of_a_batch_file_have_the_cost_too(priced: Batch) -> None:
    body = {"model": "test-model", "messages": [{"role": "user", "content": "row 1"}]}
    priced.write({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body})
    assert cost(priced.run(prompt=None)) == (0.000013, "EUR")
    assert priced.results[0]["cost"] == 0.000013
    assert cost(priced.run(prompt=None)) == (0.000013, "EUR")


def test_without_prices_nothing_has_a_cost(batch: Batch) -> None:
    batch.texts(1)
    assert cost(batch.run()) == (None, None)
    assert "cost" not in batch.results[0]


def test_progress_and_the_last_line_of_the_log_tell_the_cost(
    priced: Batch, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "airflow_chat_provider")
    monkeypatch.setattr(engine, "_PROGRESS", 0.02)
    priced.texts(3)
    priced.chat.default = lambda request: replies.delay(0.1, failing_at("row 1")(request))
    priced.run(result_format="json", max_failures=None, max_concurrency=1)
    priced.chat.default = replies.ok("{}")
    priced.run(result_format="json")
    told = [record.getMessage() for record in caplog.records]
    assert any(", 22 tokens, 0.000026 EUR, " in line for line in told if line.startswith("Batch: "))
    first, second = (line for line in told if line.startswith("Batch ended"))
    assert ", 33 tokens, 0.000039 EUR, " in first
    assert ", 11 tokens, 0.000013 EUR, 33 and 0.000039 EUR in earlier runs, " in second


def test_the_metrics_of_a_batch_count_attempts_that_were_made_again(priced: Batch, statsd: Statsd) -> None:
    body = {"error": {"message": "oops"}, "usage": replies.USAGE}
    priced.texts(1)
    priced.chat.script(replies.json_reply(500, body, AT_ONCE), replies.ok())
    priced.run(max_attempts=2)
    statsd.received()
    found = statsd.totals()
    assert found["cost",] == pytest.approx(0.000026)
    assert (found["tokens", "input"], found["calls", "200"], found["retries",]) == (18, 1, 1)
