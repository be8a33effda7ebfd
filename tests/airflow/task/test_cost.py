"""What a task costs: in the XCom ``usage`` and in the log, whatever becomes of its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer, faults, replies
from airflow_chat_provider.testing.replies import Scripted
from tests.airflow.transport.test_streaming import astreamed, streamed
from tests.support.asking import ask
from tests.support.behaviours import CHUNKS
from tests.support.calling import AT_ONCE, Create, Log, both, failure
from tests.support.running import Airflow
from tests.support.telemetry import Statsd, Traces

# An answer of the server's (9 tokens in, 2 out) costs 9 * 1 + 2 * 2 = 13 millionths.
PRICES = {"test-*": {"input": "1", "cached_input": "0.1", "output": "2"}}
SCHEMA = {"type": "object", "required": ["a"]}
Connect = Callable[..., str]


def took(status: int = 500, usage: Any = replies.USAGE) -> replies.Reply:
    """A failure that took tokens."""
    body = {"error": {"message": "oops"}, "model": "test-model", "usage": usage}
    return replies.json_reply(status, body, AT_ONCE)


@pytest.fixture
def priced(server: ChatServer, connect: Connect) -> ChatServer:
    """The server, with a connection that knows its prices."""
    extra = {"model": "test-model", "prices": PRICES, "currency": "EUR", "max_attempts": 3}
    connect(server.url, extra=extra)
    return server


def usage_of(airflow: Airflow, **arguments: Any) -> dict[str, Any]:
    with airflow.dag():
        ask(prompt="Hi", **arguments)
    return dict(airflow.run().xcoms()["usage"])


def test_the_usage_has_what_the_answer_cost_by_the_connections_prices(airflow: Airflow, priced: ChatServer) -> None:
    usage = usage_of(airflow)
    assert (usage["cost"], usage["currency"]) == (0.000013, "EUR")


def test_cached_input_has_its_own_price(airflow: Airflow, priced: ChatServer) -> None:
    priced.script(replies.ok(usage={**replies.USAGE, "prompt_tokens_details": {"cached_tokens": 5}}))
    assert usage_of(airflow)["cost"] == 0.0000085


def test_what_the_server_says_wins(airflow: Airflow, priced: ChatServer) -> None:
    priced.script(replies.ok(usage={**replies.USAGE, "cost": 0.1}))
    assert usage_of(airflow)["cost"] == 0.1


def test_nobody_knows_what_a_model_without_a_price_costs(airflow: Airflow, priced: ChatServer) -> None:
    priced.script(replies.ok(model="another"))
    usage = usage_of(airflow, model="asked")
    assert (usage["cost"], usage["currency"], usage["total_tokens"]) == (None, None, 11)


def test_attempts_that_took_tokens_and_were_made_again_are_paid_for(airflow: Airflow, priced: ChatServer) -> None:
    priced.script(took(), replies.error(500, "oops", headers=AT_ONCE), replies.ok())
    usage = usage_of(airflow)
    assert (usage["requests"], usage["attempts"], usage["total_tokens"], usage["cost"]) == (2, 3, 22, 0.000026)


@pytest.mark.parametrize(
    ("script", "cost", "tokens"),
    [
        ([replies.ok("{}"), replies.ok('{"a": 1}')], 0.000026, 22),
        ([replies.ok("{}", usage={"cost": 0.1}), replies.ok('{"a": 1}', usage={"cost": 0.2})], 0.3, None),
        ([replies.ok("{}", usage={"cost": 0.1}), replies.ok('{"a": 1}')], 0.100013, 11),
        ([replies.ok("{}"), replies.ok('{"a": 1}', model="another", usage={"cost": 0.1})], 0.100013, 11),
        ([replies.ok("{}", model="x"), replies.ok('{"a": 1}')], 0.000026, 22),
    ],
    ids=["priced", "stated", "stated first", "stated last", "another model"],
)
def test_all_answers_of_a_dialogue_count_each_with_its_own_cost(
    airflow: Airflow, priced: ChatServer, script: list[Scripted], cost: float, tokens: int | None
) -> None:
    priced.script(*script)
    usage = usage_of(airflow, response_schema=SCHEMA)
    assert (usage["requests"], usage["cost"], usage["total_tokens"]) == (2, cost, tokens)


@pytest.mark.parametrize(
    ("script", "cost"),
    [
        ([replies.ok("no JSON"), replies.ok("no JSON")], 0.000026),
        ([replies.ok("{}"), took(401)], 0.000026),
        ([replies.ok("{}"), took(), took(), took()], 0.000052),
        ([replies.ok("{}"), faults.reset(), faults.reset(), faults.reset()], 0.000013),
        ([replies.error(401, "no")], None),
    ],
    ids=["unfit", "refused", "given up", "no response", "refused at once"],
)
def test_a_task_that_fails_has_paid_too(
    airflow: Airflow, priced: ChatServer, script: list[Scripted], cost: float | None
) -> None:
    priced.script(*script)
    assert usage_of(airflow, response_schema=SCHEMA)["cost"] == cost


@both
def test_a_reply_has_its_cost_and_the_log_that_of_all_attempts(priced: ChatServer, create: Create, log: Log) -> None:
    priced.script(took(), replies.ok())
    reply = create(ChatCompletionHook())
    assert (reply.cost, reply.currency) == (Decimal("0.000013"), "EUR")
    assert [(one.cost, one.currency) for one in reply.earlier] == [(Decimal("0.000013"), "EUR")]
    (line,) = log.lines("Chat completion:")
    assert "2 attempts" in line
    assert ", 22 tokens, 0.000026 EUR" in line


@both
def test_the_line_of_a_call_says_nothing_of_a_cost_that_is_not_known(
    chat: ChatServer, create: Create, log: Log
) -> None:
    create(ChatCompletionHook())
    (line,) = log.lines("Chat completion:")
    assert ", 11 tokens" in line
    assert "USD" not in line


@both
def test_a_call_that_failed_tells_its_cost_in_the_log(priced: ChatServer, create: Create, log: Log) -> None:
    priced.script(took(), took(), took())
    failure(create, ChatCompletionHook())
    (line,) = log.lines("Chat completion:")
    assert ", 33 tokens, 0.000039 EUR" in line


@pytest.mark.parametrize("stream", [streamed, astreamed], ids=["sync", "async"])
def test_a_streamed_reply_has_its_cost(priced: ChatServer, stream: Any, log: Log) -> None:
    priced.script(replies.sse(CHUNKS))
    _, reply = stream(ChatCompletionHook())
    assert (reply.cost, reply.currency) == (Decimal("0.000013"), "EUR")
    assert ", 11 tokens, 0.000013 EUR" in log.lines("Chat completion:")[0]


@both
def test_metrics_count_all_attempts(priced: ChatServer, statsd: Statsd, create: Create) -> None:
    priced.script(took(), replies.ok())
    create(ChatCompletionHook())
    statsd.received()
    found = statsd.totals()
    assert found["cost",] == pytest.approx(0.000026)
    assert (found["tokens", "input"], found["tokens", "output"], found["calls", "200"]) == (18, 4, 1)


@both
def test_spans_count_all_attempts(priced: ChatServer, traces: Traces, create: Create) -> None:
    priced.script(took(), replies.ok())
    create(ChatCompletionHook())
    found = traces.one("chat test-model").attributes
    assert found["chat_completion.cost"] == pytest.approx(0.000026)
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (18, 4)


@both
def test_a_server_may_send_any_cost(priced: ChatServer, create: Create) -> None:
    priced.script(*(replies.ok(usage={**replies.USAGE, "cost": cost}) for cost in (-1, "1", True, None, [1], 1e300)))
    for _ in range(6):
        assert create(ChatCompletionHook()).cost == Decimal("0.000013")


def test_a_wrong_price_is_one_clear_error_that_names_connection_and_field(
    server: ChatServer, connect: Connect, airflow: Airflow
) -> None:
    connect(server.url, extra={"prices": {"test-*": {"input": "free", "output": 1}}})
    with airflow.dag():
        ask(prompt="Hi", model="m")
    assert airflow.run().state == "failed"
    assert server.requests == []
    where = "must have a number of 0 or more for 'input' for 'test-*', per million tokens, not 'free'"
    assert str(airflow.error()) == f"Correct connection 'chat_default': prices {where}"


def test_prices_written_as_text_within_the_json_are_read_too(
    server: ChatServer, connect: Connect, airflow: Airflow
) -> None:
    connect(server.url, extra={"prices": json.dumps(PRICES)})
    assert usage_of(airflow, model="test-model")["cost"] == 0.000013
