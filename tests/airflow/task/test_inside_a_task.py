"""An operator that a function under @task executes: people do it, and no call may be lost or paid twice there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import get_current_context, task

from airflow_chat_provider.airflow_api.compat import FINAL_BY_POLICY, RESCHEDULES
from airflow_chat_provider.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.operators import (
    ChatCompletionBatchOperator,
    ChatCompletionBranchOperator,
    ChatCompletionOperator,
)
from airflow_chat_provider.retry_policy import ChatCompletionRetryPolicy
from airflow_chat_provider.testing import faults, replies
from tests.support.asking import keys
from tests.support.batching import lines
from tests.support.running import Airflow

retries = pytest.mark.skipif(not FINAL_BY_POLICY, reason="dag.test() of this Airflow does not retry")


@pytest.fixture
def run(run_dag):
    """Run a function as the only task of a DAG, in the context of which it executes operators."""

    def go(function, **arguments):
        airflow = Airflow(run_dag)
        with airflow.dag():
            task(task_id="outer", **arguments)(function)()
        # The DAG's default_args say `deferrable`: it is the operator that is made in the function that counts.
        return airflow.run()

    return go


def execute(prompt="Hi", task_id="inner", **arguments):
    operator = ChatCompletionOperator(task_id=task_id, prompt=prompt, result_format="text", **arguments)
    return operator.execute(get_current_context())


def first_try():
    return get_current_context()["ti"].try_number == 1


def test_its_value_is_the_function_s_and_its_xcoms_are_the_outer_task_s(run, chat):
    finished = run(lambda: execute() + "!")
    assert finished.state == "success"
    assert finished.xcoms("outer")["return_value"] == "Hello!"
    assert finished.xcoms("outer")["body"] == replies.completion()


@pytest.mark.parametrize("context", [{}, None], ids=["empty", "none"])
def test_without_a_context_it_finds_that_of_the_running_task(run, chat, context):
    def outer():
        return ChatCompletionOperator(task_id="inner", prompt="Hi", result_format="text").execute(context)

    assert run(outer).xcoms("outer")["return_value"] == "Hello"


@pytest.mark.parametrize("context", [get_current_context, dict], ids=["the task's context", "an empty context"])
def test_a_deferrable_call_inside_a_task_says_so_before_anything_is_sent(run, chat, context):
    said = []

    def outer():
        try:
            ChatCompletionOperator(task_id="inner", prompt="Hi", deferrable=True).execute(context())
        except Exception as error:
            said.append(error.__cause__ or error)
            raise

    assert run(outer).state == "failed"
    assert chat.requests == []
    (error,) = said
    assert isinstance(error, InvalidRequest)
    assert error.path == "deferrable"
    assert error.message.startswith("Make 'inner' a task of the DAG, or set deferrable=False")
    assert "'outer'" in error.message


def test_where_only_airflow_s_default_defers_it_waits_in_the_worker_and_says_so(run, chat, monkeypatch, capsys):
    def outer():
        return execute()

    init: Any = ChatCompletionOperator.__init__  # Airflow wraps it; it is too late to set the environment
    monkeypatch.setitem(init.__wrapped__.__kwdefaults__, "deferrable", True)
    finished = run(outer)
    assert finished.xcoms("outer")["return_value"] == "Hello"
    assert len(chat.requests) == 1
    assert "inner waits in the worker: task outer executes it" in capsys.readouterr().out


def test_a_branch_is_refused_before_anything_is_sent(run, chat):
    said = []

    def outer():
        try:
            ChatCompletionBranchOperator(task_id="inner", prompt="Hi", branches=["a"]).execute(get_current_context())
        except Exception as error:
            said.append(error.__cause__ or error)
            raise

    assert run(outer).state == "failed"
    assert chat.requests == []
    assert str(said[0]).startswith("Make 'inner' a task of the DAG: ")


def test_a_batch_runs_and_returns_its_manifest(run, chat, tmp_path):
    def outer():
        batch = ChatCompletionBatchOperator(
            task_id="inner", input=[{"n": 1}, {"n": 2}], output=str(tmp_path / "out"), prompt="Say {{ row.n }}"
        )
        return batch.execute(get_current_context())

    finished = run(outer)
    assert finished.xcoms("outer")["return_value"]["succeeded"] == 2
    assert len(lines(tmp_path / "out" / "results.jsonl")) == 2
    assert sorted(request.json["messages"][0]["content"] for request in chat.requests) == ["Say 1", "Say 2"]


def test_a_batch_that_fails_leaves_no_value_in_the_place_of_the_outer_task_s(run, chat, tmp_path):
    chat.default = replies.error(400, "no")

    def outer():
        batch = ChatCompletionBatchOperator(
            task_id="inner", input=[{"n": 1}], output=str(tmp_path / "out"), prompt="Hi", max_failures=0
        )
        batch.execute(get_current_context())

    finished = run(outer)
    assert finished.state == "failed"
    assert "return_value" not in finished.xcoms("outer")


def test_the_hook_is_free_to_be_used(run, chat):
    def outer():
        hook = ChatCompletionHook()
        reply = hook.create({"messages": [{"role": "user", "content": "Hi"}]}, idempotency_key="mine")
        hook.close()
        return reply.text

    finished = run(outer)
    assert finished.xcoms("outer")["return_value"] == "Hello"
    assert keys(chat) == ["mine"]


@pytest.mark.parametrize(
    "outer",
    [
        lambda: [execute() for _ in range(3)],
        lambda: [execute(task_id=f"inner_{n}") for n in range(3)],
    ],
    ids=["of one operator", "of several operators"],
)
def test_each_ask_of_one_prompt_is_a_call_of_its_own(run, chat, outer):
    assert run(outer).state == "success"
    assert len(chat.requests) == len(set(keys(chat))) == 3


class Again(ChatCompletionOperator):
    """Asks twice, as a subclass may."""

    def execute(self, context: Any) -> Any:
        return [super(Again, self).execute(context) for _ in range(2)]


def test_a_subclass_that_asks_twice_makes_two_calls(run_dag, chat):
    airflow = Airflow(run_dag)
    with airflow.dag():
        Again(task_id="ask", prompt="Hi", result_format="text")
    assert airflow.run().state == "success"
    assert len(chat.requests) == len(set(keys(chat))) == 2


@pytest.mark.parametrize(
    ("failure", "calls"), [(faults.reset(), 1), (replies.status(500), 2)], ids=["broken off", "refused"]
)
def test_what_is_asked_again_in_the_same_try_is_the_same_call_unless_it_was_refused(run, chat, failure, calls):
    chat.script(failure)

    def outer():
        try:
            return execute(max_attempts=1)
        except ChatCompletionError:
            return execute(max_attempts=1)

    assert run(outer).xcoms("outer")["return_value"] == "Hello"
    assert len(chat.requests) == 2
    assert len(set(keys(chat))) == calls


@retries
class TestRetries:
    def test_an_answer_that_a_second_attempt_of_the_function_got_is_used(self, run, chat):
        chat.script(replies.status(500), replies.ok("one"))

        def outer():
            try:
                answer = execute(max_attempts=1)
            except ChatCompletionError:
                answer = execute(max_attempts=1)
            if first_try():
                raise RuntimeError("after the answer")
            return answer

        assert run(outer, retries=1, retry_delay=0).xcoms("outer")["return_value"] == "one"
        assert len(chat.requests) == 2

    def test_a_subclass_that_asks_twice_uses_both_answers(self, run_dag, chat):
        chat.script(replies.ok("one"), replies.ok("two"))

        def fail(context, result=None):
            if context["ti"].try_number == 1:
                raise RuntimeError("after the answers")

        airflow = Airflow(run_dag)
        with airflow.dag():
            Again(task_id="ask", prompt="Hi", result_format="text", post_execute=fail, retries=1, retry_delay=0)
        assert airflow.run().xcoms()["return_value"] == ["one", "two"]
        assert len(chat.requests) == 2

    def test_each_ask_uses_the_answer_that_it_got_in_an_earlier_try(self, run, chat):
        chat.script(replies.ok("one"), replies.ok("two"), replies.ok("other"))

        def outer():
            answers = [execute(), execute(), execute(task_id="inner_2")]
            if first_try():
                raise RuntimeError("after the answers")
            return answers

        finished = run(outer, retries=1, retry_delay=0)
        assert finished.xcoms("outer")["return_value"] == ["one", "two", "other"]
        assert len(chat.requests) == 3

    def test_one_that_was_not_answered_is_the_same_call_in_the_next_try(self, run, chat):
        chat.script(replies.ok("one"), faults.reset(), replies.ok("two"))

        def outer():
            return [execute(max_attempts=1), execute(max_attempts=1)]

        finished = run(outer, retries=1, retry_delay=0)
        assert finished.xcoms("outer")["return_value"] == ["one", "two"]
        first, second, third = keys(chat)
        assert first != second == third

    def test_one_that_was_refused_is_another_call_in_the_next_try(self, run, chat):
        chat.script(replies.ok("one"), replies.status(500), replies.ok("two"))

        def outer():
            return [execute(max_attempts=1), execute(max_attempts=1)]

        finished = run(outer, retries=1, retry_delay=0)
        assert finished.xcoms("outer")["return_value"] == ["one", "two"]
        assert len(set(keys(chat))) == 3

    def test_another_prompt_is_asked_whatever_was_answered_before(self, run, chat):
        def outer():
            value = execute(prompt=f"Try {get_current_context()['ti'].try_number}")
            if first_try():
                raise RuntimeError("after the answer")
            return value

        assert run(outer, retries=1, retry_delay=0).state == "success"
        assert len(set(keys(chat))) == 2


@pytest.mark.skipif(not RESCHEDULES, reason="a policy can reschedule a task from Airflow 3.4 on")
def test_where_the_outer_task_is_rescheduled_each_ask_before_the_refused_one_uses_its_answer(run, chat):
    chat.script(replies.ok("one"), replies.rate_limited(retry_after=0.1), replies.ok("two"))

    def outer():
        return [execute(max_attempts=1), execute(max_attempts=1)]

    finished = run(outer, retry_policy=ChatCompletionRetryPolicy())
    assert finished.xcoms("outer")["return_value"] == ["one", "two"]
    assert finished.tries("outer") == 1
    assert len(chat.requests) == len(set(keys(chat))) == 3


class TestNotInside:
    """What only looks like it: nothing is refused there."""

    @pytest.mark.parametrize("context", [{}, {"ti": None}, {"ti": SimpleNamespace(task="inner")}])
    def test_in_a_unit_test_it_is_executed_without_a_task(self, chat, context):
        arguments: dict[str, Any] = {"do_xcom_push": False} if context.get("ti") else {}
        operator = ChatCompletionOperator(task_id="ask", prompt="Hi", result_format="text", **arguments)
        assert operator.execute(context) == "Hello"
        assert len(chat.requests) == 1

    @pytest.mark.parametrize("is_mapped", [False, True], ids=["plain", "mapped"])
    def test_a_task_of_the_dag_defers(self, run_dag, chat, is_mapped):
        airflow = Airflow(run_dag, deferrable=True)
        with airflow.dag():
            if is_mapped:
                ChatCompletionOperator.partial(task_id="ask").expand(prompt=["Hi"])
            else:
                ChatCompletionOperator(task_id="ask", prompt="Hi")
        assert airflow.run().state == "success"
        assert len(chat.requests) == 1

    def test_a_subclass_may_build_upon_execute(self, run_dag, chat):
        class Loud(ChatCompletionOperator):
            def execute(self, context: Any) -> Any:
                return super().execute(context).upper()

        airflow = Airflow(run_dag)
        with airflow.dag():
            Loud(task_id="ask", prompt="Hi", result_format="text")
        assert airflow.run().xcoms()["return_value"] == "HELLO"
