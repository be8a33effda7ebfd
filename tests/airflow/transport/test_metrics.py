"""What calls add to Airflow's metrics: lines of statsd's protocol, read from the socket that they were sent to."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import task

from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import ChatServer, replies
from tests.support import faults, telemetry
from tests.support.calling import AT_ONCE, KEY, PROMPT, REQUEST, Create, Log, both, failure
from tests.support.running import Airflow
from tests.support.telemetry import Statsd

Connect = Callable[..., str]
ANSWER = "canary answer about nothing"
HOSTILE = [
    "a,b=c|d:e#f",
    "two\nlines:1|c",
    "x" * 100_000,
    "\u202eebirt\ud800é漢",
    "gpt-5.4; drop table",
    "",
    {"not": "a name"},
]
ANSWERED: dict[tuple[str, ...], float] = {
    ("calls", "200"): 1,
    ("tokens", "input"): 9,
    ("tokens", "output"): 2,
    ("duration", "200"): 1,
}


def received(statsd: Statsd, **tags: str) -> dict[tuple[str, ...], float]:
    statsd.received()
    return statsd.totals(**tags)


@both
def test_a_call_counts_once_with_its_tokens_and_the_time_that_it_took(
    chat: ChatServer, statsd: Statsd, create: Create
) -> None:
    create(ChatCompletionHook())
    assert received(statsd) == ANSWERED
    assert {(metric.tags["model"], metric.tags["conn_id"]) for metric in statsd.ours()} == {
        ("test-model", "chat_default")
    }
    (duration,) = (metric for metric in statsd.ours() if metric.kind == "ms")
    assert 0 < duration.value < 60_000


@both
def test_attempts_beyond_the_first_are_retries_and_no_calls(chat: ChatServer, statsd: Statsd, create: Create) -> None:
    chat.script(replies.error(503, "busy", headers=AT_ONCE), replies.error(429, "slow", headers=AT_ONCE))
    create(ChatCompletionHook())
    assert received(statsd) == ANSWERED | {("retries",): 2}


@both
def test_a_failed_call_counts_as_a_call_and_as_an_error_of_its_kind(
    chat: ChatServer, statsd: Statsd, create: Create
) -> None:
    chat.script(replies.error(401, "no such key", "invalid_api_key"))
    failure(create, ChatCompletionHook())
    assert received(statsd) == {("calls", "401"): 1, ("errors", "StatusError_401"): 1, ("duration", "401"): 1}


@both
def test_a_call_without_any_response_has_no_status(
    server: ChatServer, statsd: Statsd, connect: Connect, create: Create
) -> None:
    connect(server.url, extra={"max_attempts": 1})
    server.script(faults.reset())
    failure(create, ChatCompletionHook())
    assert received(statsd) == {("calls", "none"): 1, ("errors", "TransportError"): 1, ("duration", "none"): 1}


@both
def test_the_cost_is_counted_where_the_server_states_it(chat: ChatServer, statsd: Statsd, create: Create) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "cost": 0.000125}
    chat.script(replies.ok(ANSWER, usage=usage))
    create(ChatCompletionHook())
    assert received(statsd)["cost",] == 0.000125


@both
@pytest.mark.parametrize("model", HOSTILE)
def test_whatever_a_model_is_called_its_metrics_are_clean_lines(
    chat: ChatServer, statsd: Statsd, create: Create, model: Any
) -> None:
    schema = {"model": model, "messages": REQUEST["messages"]}
    with contextlib.suppress(Exception):  # some of these are refused before anything is sent
        create(ChatCompletionHook(), schema)
    asked = received(statsd)
    if chat.requests:
        assert asked == ANSWERED
    for line in statsd.lines:
        assert len(line) < 250
        assert "\n" not in line
    assert all(set(metric.tags) <= {"model", "conn_id", "status", "type", "error"} for metric in statsd.ours())


def test_the_hundred_and_first_model_of_a_process_counts_among_others(chat: ChatServer, statsd: Statsd) -> None:
    hook = ChatCompletionHook()
    with contextlib.closing(hook):
        for number in range(103):
            hook.create({**REQUEST, "model": f"model-{number}"})
            statsd.received()
        hook.create({**REQUEST, "model": "model-7"})
    assert received(statsd, model="other")["calls", "200"] == 3
    assert statsd.totals(model="model-7")["calls", "200"] == 2


@both
def test_the_model_that_counts_is_the_one_that_was_asked_for(chat: ChatServer, statsd: Statsd, create: Create) -> None:
    chat.script(replies.ok(ANSWER, model="the-servers-own-name"))
    create(ChatCompletionHook())
    assert received(statsd, model="test-model") == ANSWERED


class TestStreams:
    """A stream is a call like any other."""

    @pytest.mark.parametrize("way", ["sync", "async"])
    def test_a_stream_that_was_read_counts_once(self, chat: ChatServer, statsd: Statsd, way: str) -> None:
        chat.script(replies.stream("one two"))
        stream(way)
        found = received(statsd)
        assert found["calls", "200"] == found["duration", "200"] == 1

    @pytest.mark.parametrize("way", ["sync", "async"])
    def test_one_that_was_left_early_counts_once_and_is_no_error(
        self, chat: ChatServer, statsd: Statsd, way: str
    ) -> None:
        chat.script(replies.stream("one two"))
        stream(way, most=1)
        assert received(statsd) == {("calls", "none"): 1, ("duration", "none"): 1}


def stream(way: str, most: int = 1000) -> None:
    def read() -> None:
        with contextlib.closing(ChatCompletionHook()) as hook, hook.stream(REQUEST) as chunks:
            for _, _chunk in zip(range(most), chunks, strict=False):
                pass

    async def aread() -> None:
        async with ChatCompletionHook().astream(REQUEST) as chunks:
            count = 0
            async for _chunk in chunks:
                count += 1
                if count == most:
                    break

    read() if way == "sync" else asyncio.run(aread())


def test_a_call_that_is_cancelled_counts_as_an_error(chat: ChatServer, statsd: Statsd) -> None:
    telemetry.cancel_a_call(chat)
    assert received(statsd) == {("calls", "none"): 1, ("errors", "CancelledError"): 1, ("duration", "none"): 1}


def test_a_task_counts_its_call_whether_it_waits_or_defers(airflow: Airflow, chat: ChatServer, statsd: Statsd) -> None:
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", model="asked", prompt=PROMPT)
    assert airflow.run().state == "success"
    assert received(statsd, model="asked") == ANSWERED


def test_a_hook_in_a_function_of_the_users_counts_too(airflow: Airflow, chat: ChatServer, statsd: Statsd) -> None:
    with airflow.dag(default_args={"deferrable": False}):

        @task
        def ask() -> str:
            with contextlib.closing(ChatCompletionHook()) as hook:
                return hook.create(REQUEST).text

        ask()
    assert airflow.run().state == "success"
    assert received(statsd) == ANSWERED


@both
def test_nothing_of_prompt_answer_and_key_is_in_a_metric(
    server: ChatServer, statsd: Statsd, connect: Connect, create: Create
) -> None:
    connect(server.url, password=KEY)
    server.script(replies.error(500, f"no {KEY} {PROMPT}", headers=AT_ONCE), replies.ok(ANSWER))
    create(ChatCompletionHook())
    received(statsd)
    lines = "".join(statsd.lines)
    assert "retries" in lines
    assert not [secret for secret in (KEY, "canary", "nothing") if secret in lines]


@both
def test_a_backend_that_raises_harms_no_call_and_is_told_of_once(
    chat: ChatServer, statsd: Statsd, create: Create, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("canary of a backend")

    import statsd as client  # type: ignore[import-not-found]

    for name in ("incr", "timing"):
        monkeypatch.setattr(client.StatsClient, name, broken)
    for _ in range(2):
        assert create(ChatCompletionHook()).text
    (line,) = log.lines("metrics")
    assert "Check Airflow's settings for metrics" in line
    assert "canary" not in line


@both
def test_without_metrics_and_traces_nothing_is_imported_for_them(
    chat: ChatServer, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry.forget()
    seen: list[str] = []
    real = builtins.__import__

    def noting(name: str, scope: Any = None, *more: Any) -> Any:
        if str((scope or {}).get("__name__", "")).startswith("airflow_chat_provider"):
            seen.append(name)
        return real(name, scope, *more)

    monkeypatch.setattr(builtins, "__import__", noting)
    create(ChatCompletionHook())
    assert seen
    assert not [name for name in seen if "opentelemetry" in name or "statsd" in name or name.endswith("stats")]
