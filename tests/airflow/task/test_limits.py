"""What a task may spend: ``max_total_tokens`` and ``max_cost``, over all of its asks, whichever way it waits."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from airflow.sdk import task

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.errors import BudgetExceeded, InvalidConnection, InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBranchOperator, ChatCompletionOperator
from airflow_chat_provider.testing import faults, replies
from tests.support.asking import ask

# The server's usual answer takes 11 tokens, and "Hi" is guessed to take 1.
SCHEMA = {"type": "object", "required": ["a"]}
PRICES = {"test-*": {"input": "1000", "output": "2000"}}  # 0.001 and 0.002 for a token


@pytest.fixture
def priced(chat, connect):
    """The server, and a connection that knows the prices of its models."""

    def extra(**values: Any) -> None:
        connect(**{**chat.connection, "extra": json.dumps({"prices": PRICES, "model": "test-model", **values})})

    extra()
    chat.extra = extra
    return chat


class TestOneCall:
    def test_a_request_that_fits_is_sent(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Hi", max_total_tokens=11)
        assert airflow.run().state == "success"

    def test_one_that_is_too_long_is_not_sent_and_the_task_is_not_run_again(self, airflow, chat):
        with airflow.dag():
            ask(prompt="x" * 400, max_total_tokens=99, retries=2, retry_delay=0)
        run = airflow.run()
        error = airflow.error()
        assert (run.state, run.tries(), chat.requests, run.xcoms()) == ("failed", 1, [], {})
        assert (type(error), error.limit, error.status) == (BudgetExceeded, "max_total_tokens", None)
        assert error.message == (
            "Raise max_total_tokens, or shorten the request and the token limit of its answer: of at most 99 tokens, "
            "0 tokens are spent, and the next request would take about 100 tokens, so it was not sent"
        )

    def test_the_token_limit_of_the_answer_counts(self, airflow, chat):
        with airflow.dag():
            ask(request={"max_completion_tokens": 100, "n": 2}, prompt="Hi", max_total_tokens=200)
        assert airflow.run().state == "failed"
        assert chat.requests == []

    def test_an_attached_text_counts_and_a_picture_does_not(self, airflow, chat, tmp_path):
        (tmp_path / "long.txt").write_text("x" * 4_000)
        (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40_000))
        with airflow.dag():
            ask(prompt="Hi", attachments=[str(tmp_path / "long.txt")], max_total_tokens=999)
            picture = [str(tmp_path / "large.png")]
            ChatCompletionOperator(task_id="picture", prompt="Hi", attachments=picture, max_total_tokens=999)
        run = airflow.run()
        assert run.states() == {"ask": "failed", "picture": "success"}
        assert isinstance(airflow.error(), BudgetExceeded)

    def test_nothing_is_sent_with_a_limit_of_0(self, airflow, priced):
        with airflow.dag():
            ask(prompt="Hi", max_total_tokens=0)
            ChatCompletionOperator(task_id="cost", prompt="Hi", max_cost=0)
        assert airflow.run().state == "failed"
        assert priced.requests == []

    def test_no_prompt_is_in_the_error(self, airflow, chat, caplog):
        with airflow.dag():
            ask(prompt="canary " * 100, max_total_tokens=5)
        airflow.run()
        assert "canary" not in str(airflow.error())
        assert "canary" not in caplog.text

    def test_an_answer_that_takes_more_than_the_limit_is_an_answer(self, airflow, chat):
        """It is paid for, and nothing follows it."""
        with airflow.dag():
            ask(prompt="Hi", max_total_tokens=5)
        run = airflow.run()
        assert (run.state, run.xcoms()["usage"]["total_tokens"]) == ("success", 11)


class TestAllCalls:
    def test_an_answer_is_not_asked_for_again_without_the_tokens_for_it(self, airflow, chat):
        chat.script(replies.ok("{}"), replies.ok('{"a": 1}'))
        with airflow.dag():
            ask(prompt="Hi", response_schema=SCHEMA, max_total_tokens=40)
        run = airflow.run()
        xcoms, error = run.xcoms(), airflow.error()
        assert (run.state, len(chat.requests)) == ("failed", 1)
        assert (type(error), error.limit) == (BudgetExceeded, "max_total_tokens")
        assert "of at most 40 tokens, 11 tokens are spent" in error.message
        assert "1 earlier answer did not fit" in error.message
        assert xcoms["status"] == 200
        assert xcoms["body"]["choices"][0]["message"]["content"] == "{}"
        assert xcoms["usage"]["total_tokens"] == 11
        assert xcoms["usage"]["errors"] == {"BudgetExceeded": 1}
        assert "return_value" not in xcoms

    def test_it_is_with_them(self, airflow, chat):
        chat.script(replies.ok("{}"), replies.ok('{"a": 1}'))
        with airflow.dag():
            ask(prompt="Hi", response_schema=SCHEMA, max_total_tokens=400)
        run = airflow.run()
        assert (run.state, run.xcoms()["usage"]["total_tokens"]) == ("success", 22)

    def test_attempts_count_that_were_answered(self, airflow, chat):
        chat.script(replies.json_reply(500, {"error": {"message": "oops"}, "usage": {"total_tokens": 90}}))
        with airflow.dag():
            ask(prompt="x" * 80, max_total_tokens=100)
        run = airflow.run()
        error = airflow.error()
        assert (run.state, len(chat.requests)) == ("failed", 1)
        assert (type(error), error.status) == (BudgetExceeded, 500)
        assert "of at most 100 tokens, 90 tokens are spent" in error.message
        assert "The attempt before failed: " in error.message
        assert run.xcoms()["status"] == 500
        assert run.xcoms()["usage"]["total_tokens"] == 90

    def test_attempts_that_were_refused_cost_nothing(self, airflow, chat):
        chat.script(replies.status(500), replies.status(429), replies.ok("Hi"))
        with airflow.dag():
            ask(prompt="x" * 80, max_total_tokens=39)
        assert airflow.run().state == "success"

    def test_an_attempt_that_may_have_been_answered_counts_as_the_guess(self, airflow, chat):
        chat.script(faults.reset(), replies.ok("Hi"))
        with airflow.dag():
            ask(prompt="x" * 80, max_total_tokens=39)
        run = airflow.run()
        assert (run.state, len(chat.requests)) == ("failed", 1)
        assert "20 tokens are spent" in airflow.error().message
        assert run.xcoms()["usage"]["attempts"] == 1

    def test_an_answer_without_usage_counts_as_the_guess(self, airflow, chat):
        chat.script(replies.ok("{}", usage=None), replies.ok('{"a": 1}'))
        with airflow.dag():
            ask(prompt="x" * 80, response_schema=SCHEMA, max_total_tokens=60)
        run = airflow.run()
        assert (run.state, len(chat.requests)) == ("failed", 1)

    def test_a_field_that_the_server_refuses_costs_nothing(self, airflow, chat):
        refusal = replies.error(400, "Unrecognized request argument supplied: stream_options")
        chat.script(refusal, replies.stream("Hi"))
        with airflow.dag():
            ask(request={"stream": True}, prompt="x" * 80, max_total_tokens=39)
        assert airflow.run().state == "success"
        assert len(chat.requests) == 2


class TestCost:
    def test_it_is_counted_by_the_prices(self, airflow, priced):
        priced.script(replies.ok("{}"), replies.ok('{"a": 1}'))
        with airflow.dag():
            ask(prompt="Hi", response_schema=SCHEMA, max_cost="0.02")
        run = airflow.run()
        error = airflow.error()
        assert (run.state, len(priced.requests)) == ("failed", 1)
        assert (type(error), error.limit) == (BudgetExceeded, "max_cost")
        assert f"of at most 0.02 USD, {run.xcoms()['usage']['cost']:.3f} USD are spent" in error.message

    def test_a_cost_that_the_server_states_wins(self, airflow, priced):
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": 5}
        priced.script(replies.ok("{}", usage=usage), replies.ok('{"a": 1}'))
        with airflow.dag():
            ask(prompt="Hi", response_schema=SCHEMA, max_cost=4)
        assert airflow.run().state == "failed"
        assert "5.00 USD are spent" in airflow.error().message

    def test_it_is_refused_without_a_price(self, airflow, priced):
        with airflow.dag():
            ask(prompt="Hi", model="other", max_cost=4)
        run = airflow.run()
        error = airflow.error()
        assert (run.state, priced.requests) == ("failed", [])
        assert (type(error), error.field) == (InvalidConnection, "prices")
        assert "for the model 'other'" in error.message

    def test_it_is_refused_for_a_request_that_names_no_model(self, airflow, chat, connect):
        connect(**{**chat.connection, "extra": "{}"})
        with airflow.dag():
            ask(request={"messages": [{"role": "user", "content": "Hi"}]}, request_schema=None, max_cost=4)
        assert airflow.run().state == "failed"
        assert "for a request that names no model" in airflow.error().message
        assert chat.requests == []

    def test_a_dry_run_says_so_too(self, airflow, priced):
        with airflow.dag():
            ask(prompt="Hi", model="other", max_cost=4, dry_run=True)
        assert airflow.run().state == "failed"


class TestWhereLimitsStand:
    def test_the_connections_hold_for_a_task_without_its_own(self, airflow, priced):
        priced.extra(max_total_tokens=10)
        with airflow.dag():
            ask(prompt="x" * 80)
            ChatCompletionOperator(task_id="own", prompt="x" * 80, max_total_tokens=1_000)
        run = airflow.run()
        assert run.states() == {"ask": "failed", "own": "success"}

    def test_they_may_be_templates(self, airflow, chat):
        with airflow.dag(params={"tokens": "5"}):
            ask(prompt="x" * 80, max_total_tokens="{{ params.tokens }}")
        assert airflow.run().state == "failed"
        assert isinstance(airflow.error(), BudgetExceeded)

    @pytest.mark.parametrize("value", ["-1", "NaN", "much", "0.5", ""], ids=repr)
    def test_what_a_template_makes_of_one_is_checked(self, airflow, chat, value):
        with airflow.dag(params={"tokens": value}):
            ask(prompt="Hi", max_total_tokens="{{ params.tokens }}")
        assert airflow.run().state == "failed"
        assert isinstance(airflow.error(), InvalidRequest)
        assert airflow.error().message.startswith("max_total_tokens must be a whole number of 0 or more")
        assert chat.requests == []

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("max_total_tokens", -1),
            ("max_total_tokens", 1.5),
            ("max_total_tokens", True),
            ("max_total_tokens", "many"),
            ("max_cost", -0.5),
            ("max_cost", float("nan")),
            ("max_cost", float("inf")),
            ("max_cost", "free"),
            ("max_cost", []),
        ],
        ids=repr,
    )
    def test_a_wrong_one_breaks_the_import(self, argument, value):
        with pytest.raises(InvalidRequest, match=f"{argument} must be"):
            ask(prompt="Hi", **{argument: value})

    def test_each_mapped_task_has_its_own(self, airflow, chat):
        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask", max_total_tokens=15).expand(prompt=["Hi", "Ho", "x" * 80])
        run = airflow.run()
        assert run.state == "failed"
        assert len(chat.requests) == 2
        assert "status" in run.xcoms(map_index=1)
        assert run.xcoms(map_index=2) == {}

    def test_a_branch_has_one(self, airflow, chat):
        chat.script(replies.ok('{"branch": "nowhere"}'), replies.ok('{"branch": "left"}'))
        with airflow.dag():

            @task
            def left():
                return 1

            ChatCompletionBranchOperator(task_id="ask", prompt="Where to?", max_total_tokens=60) >> left()
        run = airflow.run()
        assert (len(chat.requests), type(airflow.error())) == (1, BudgetExceeded)
        assert run.states()["left"] == "upstream_failed"

    def test_a_decorated_function_has_one(self, airflow, chat):
        with airflow.dag():

            @chat_completion(max_total_tokens=5)
            def ask():
                return "x" * 80

            ask()
        assert airflow.run().state == "failed"
        assert isinstance(airflow.error(), BudgetExceeded)

    def test_one_that_another_task_executes_spends_its_own_in_all_executions(self, airflow, chat):
        with airflow.dag():

            @task
            def outer(ti=None):
                mine = ChatCompletionOperator(
                    task_id="mine", prompt="x" * 40, max_total_tokens=30, deferrable=False, result_format="text"
                )
                other = ChatCompletionOperator(
                    task_id="other", prompt="x" * 40, max_total_tokens=30, deferrable=False, result_format="text"
                )
                said = [operator.execute({}) for operator in (mine, other, mine)]
                try:
                    mine.execute({})
                except (BudgetExceeded, exceptions.AirflowFailException) as error:  # the second: before Airflow 3.3
                    said.append(str(error))
                return said

            outer()
        said = airflow.run().xcoms("outer")["return_value"]
        assert len(chat.requests) == 3
        assert "22 tokens are spent" in said[-1]

    def test_threads_of_one_task_do_not_spend_the_same_tokens(self, airflow, chat):
        with airflow.dag():

            @task
            def outer():
                mine = [
                    ChatCompletionOperator(
                        task_id="mine", prompt="x" * 40, max_total_tokens=25, deferrable=False, result_format="text"
                    )
                    for _ in range(6)
                ]
                with ThreadPoolExecutor(6) as pool:
                    ended = [pool.submit(operator.execute, {}) for operator in mine]
                return sum(future.exception() is None for future in ended)

            outer()
        assert airflow.run().xcoms("outer")["return_value"] <= 2
        assert len(chat.requests) <= 2
