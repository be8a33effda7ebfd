"""What a batch adds to Airflow's metrics and traces: sums, and one span."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_chat_provider.batch import engine
from airflow_chat_provider.testing import Received, replies
from tests.support.batching import Batch, prompt_of
from tests.support.calling import AT_ONCE
from tests.support.telemetry import Statsd, Traces

Answer = Callable[[Received], Any]


def refusing(*texts: str) -> Answer:
    def answer(request: Received) -> Any:
        return replies.error(400, "no") if prompt_of(request) in texts else replies.ok("canary answer")

    return answer


def test_the_metrics_of_a_batch_are_sums_in_a_few_messages(batch: Batch, statsd: Statsd) -> None:
    batch.texts(200)
    batch.chat.default = refusing("row 3", "row 7")
    batch.run(max_failures=None, model="asked")
    statsd.received()
    found = statsd.totals(model="asked")
    assert (found["calls", "200"], found["calls", "400"]) == (198, 2)
    assert found["errors", "StatusError_400"] == 2
    assert (found["tokens", "input"], found["tokens", "output"]) == (198 * 9, 198 * 2)
    assert 20 <= found["duration", "200"] + found.get(("duration", "400"), 0) <= 64
    assert len(statsd.ours()) < 80
    assert "canary" not in "".join(statsd.lines)


def test_they_are_sent_while_the_batch_runs(batch: Batch, statsd: Statsd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_PROGRESS", 0.05)
    seen: list[float] = []

    def answer(request: Received) -> Any:
        if prompt_of(request) == "row 19":
            time.sleep(0.5)
            statsd.received()
            seen.append(statsd.totals()["calls", "200"])
        return replies.ok()

    batch.texts(20)
    batch.chat.default = answer
    batch.run(max_concurrency=1)
    assert seen == [19]


def test_attempts_that_wait_for_the_server_are_retries_of_their_call(batch: Batch, statsd: Statsd) -> None:
    batch.texts(1)
    batch.chat.script(replies.error(429, "slow down", headers=AT_ONCE), replies.error(503, "busy", headers=AT_ONCE))
    batch.run(max_attempts=3)
    statsd.received()
    found = statsd.totals()
    assert found["calls", "200"] == 1
    assert found["retries",] == 2
    assert not [key for key in found if key[0] == "errors"]


def test_a_batch_that_gives_up_counts_the_call_that_made_it(batch: Batch, statsd: Statsd) -> None:
    batch.texts(1)
    batch.chat.default = replies.error(401, "no such key", "invalid_api_key")
    batch.error()
    statsd.received()
    assert statsd.totals()["errors", "StatusError_401"] == 1


def test_a_batch_is_one_span_with_its_counts(batch: Batch, traces: Traces) -> None:
    batch.texts(20)
    batch.chat.default = refusing("row 3")
    with traces.task() as task:
        batch.run(max_failures=None)
    (span,) = traces.spans
    assert span.name == "chat batch"
    assert span.kind.name == "INTERNAL"
    assert span.parent.span_id == task.get_span_context().span_id
    told = {name.removeprefix("chat_completion.batch."): value for name, value in span.attributes.items()}
    assert (told["rows"], told["succeeded"], told["failed"], told["missing"], told["kept"]) == (20, 19, 1, 0, 0)
    assert told["errors"] == ("StatusError 400: 1",)
    assert told["input_tokens"] == 19 * 9
    assert "error.type" not in told
    assert "canary" not in traces.text
    assert "row 3" not in traces.text


def test_a_batch_that_fails_says_so_in_its_span(batch: Batch, traces: Traces) -> None:
    batch.texts(2)
    batch.chat.default = refusing("row 0", "row 1")
    error = batch.error(max_failures=0)
    (span,) = traces.spans
    assert span.attributes["error.type"] == type(error).__name__
    assert span.attributes["chat_completion.batch.failed"] == 2


def test_each_row_has_a_span_below_the_batch_if_the_user_wants_that(
    batch: Batch, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CHAT__TRACE_ROWS", "True")
    batch.texts(3)
    batch.chat.script(replies.error(503, "busy", headers=AT_ONCE))
    batch.run(model="asked", max_attempts=2, max_concurrency=1)
    whole = traces.one("chat batch")
    calls = traces.named("chat asked")
    assert {call.parent.span_id for call in calls} == {whole.context.span_id}
    assert sorted(len(traces.attempts(call)) for call in calls) == [1, 1, 2]
    assert "row 1" not in traces.text
