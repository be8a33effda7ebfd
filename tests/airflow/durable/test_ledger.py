"""What a try knows of those before it: an answer that was paid for is used, and a second ask is a second call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow import sdk
from airflow.sdk import task, task_group

from airflow_chat_provider.airflow_api.compat import FINAL_BY_POLICY, RESCHEDULES
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.durable.ledger import KEY, Ledger
from airflow_chat_provider.errors import TransportError
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.retry_policy import ChatCompletionRetryPolicy
from airflow_chat_provider.testing import faults, replies
from tests.support.asking import ask, keys
from tests.support.running import Airflow

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
GOOD = Reply(200, replies.completion())
AGAIN: Any = {"retries": 1, "retry_delay": 0, "max_attempts": 1}

retries = pytest.mark.skipif(not FINAL_BY_POLICY, reason="dag.test() of this Airflow does not retry")


def fail_in_the_first_try(context, result=None):
    if context["ti"].try_number == 1:
        raise RuntimeError("after the answer")


@retries
class TestRetries:
    def test_an_answer_that_an_earlier_try_got_is_used(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Hi", post_execute=fail_in_the_first_try, **AGAIN)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 2, 1)
        assert set(run.xcoms()) == {"body", "status", "usage", "configuration", "messages", "return_value"}
        assert run.xcoms()["body"] == replies.completion()

    def test_all_answers_of_a_dialogue_in_which_one_did_not_fit_are_used(self, airflow, chat):
        chat.script(replies.ok("{}"), replies.ok('{"a": 1}'))
        schema = {"type": "object", "required": ["a"]}
        with airflow.dag():
            ask(prompt="Hi", response_schema=schema, post_execute=fail_in_the_first_try, **AGAIN)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 2, 2)
        assert run.xcoms()["body"]["usage"]["total_tokens"] == 22

    def test_a_dialogue_that_was_broken_off_goes_on_after_the_answer_that_it_had(self, airflow, chat):
        chat.script(replies.ok("{}"), faults.reset(), replies.ok('{"a": 1}'))
        with airflow.dag():
            ask(prompt="Hi", response_schema={"type": "object", "required": ["a"]}, **AGAIN)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 2, 3)
        assert chat.requests[1].json == chat.requests[2].json
        first, second, third = keys(chat)
        assert first != second == third

    def test_an_answer_to_another_request_is_not(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Try {{ ti.try_number }}", post_execute=fail_in_the_first_try, **AGAIN)
        run = airflow.run()
        assert (run.state, len(chat.requests)) == ("success", 2)
        assert len(set(keys(chat))) == 2

    @pytest.mark.parametrize(
        ("reply", "arguments"),
        [
            (replies.ok("cut", finish_reason="length"), {"on_incomplete": "fail"}),
            (replies.ok("no json"), {"result_format": "json"}),
            (replies.status(500), {}),
            (replies.json_reply(200, {"error": {"message": "overloaded"}}), {}),
        ],
        ids=["cut off", "not JSON", "500", "error in a 200"],
    )
    def test_an_answer_that_failed_the_task_is_asked_for_anew_and_by_another_key(self, airflow, chat, reply, arguments):
        chat.script(reply, replies.ok('{"a": 1}'))
        with airflow.dag():
            ask(prompt="Hi", **AGAIN, **arguments)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 2, 2)
        assert len(set(keys(chat))) == 2

    def test_what_nobody_answered_may_be_the_same_call_and_has_the_same_key(self, airflow, chat):
        chat.script(faults.reset())
        with airflow.dag():
            ask(prompt="Hi", **AGAIN)
        assert airflow.run().state == "success"
        assert len(chat.requests) == 2
        assert len(set(keys(chat))) == 1

    def test_a_third_ask_has_a_third_key(self, airflow, chat):
        chat.script(replies.status(500), replies.status(500))
        with airflow.dag():
            ask(prompt="Hi", **{**AGAIN, "retries": 2})
        assert airflow.run().state == "success"
        assert len(set(keys(chat))) == 3

    def test_a_task_that_pushes_nothing_leaves_no_answer_behind_either(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Hi", do_xcom_push=False, post_execute=fail_in_the_first_try, **AGAIN)
        assert airflow.run().state == "success"
        assert len(chat.requests) == 2


def rescheduling():
    """A policy of a user's: whatever went wrong, the task runs again."""
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule

    rule = RetryRule(
        exception=Exception,
        action=RetryAction.RESCHEDULE,  # type: ignore[attr-defined]
        retry_delay=timedelta(0),
        max_reschedules=1,  # type: ignore[call-arg]
    )
    return ExceptionRetryPolicy(rules=[rule])


def fail_unless_rescheduled(context, result=None):
    if not context["task_reschedule_count"]:
        raise RuntimeError("after the answer")


@pytest.mark.skipif(not RESCHEDULES, reason="a policy can reschedule a task from Airflow 3.4 on")
class TestReschedules:
    """The same try runs again, without a retry: it finds what it knew, and what was refused is another call."""

    LIMITED = replies.rate_limited(retry_after=0.1)

    def test_a_rate_limit_uses_no_retry_and_what_was_refused_is_another_call(self, airflow, chat):
        chat.script(self.LIMITED, self.LIMITED)
        with airflow.dag():
            ask(prompt="Hi", max_attempts=1)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 1, 3)
        assert len(set(keys(chat))) == 3

    def test_a_dialogue_goes_on_after_the_answers_that_it_had(self, airflow, chat):
        chat.script(replies.ok("{}"), self.LIMITED, replies.ok('{"a": 1}'))
        with airflow.dag():
            ask(prompt="Hi", response_schema={"type": "object", "required": ["a"]}, max_attempts=1)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 1, 3)
        assert chat.requests[1].json == chat.requests[2].json
        assert len(set(keys(chat))) == 3
        assert run.xcoms()["body"]["usage"]["total_tokens"] == 22

    def test_an_answer_is_used_where_a_policy_of_the_user_s_has_the_task_run_again(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Hi", retry_policy=rescheduling(), post_execute=fail_unless_rescheduled)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 1, 1)

    def test_what_nobody_answered_may_be_the_same_call_and_has_the_same_key(self, airflow, chat):
        chat.script(faults.reset())
        with airflow.dag():
            ask(prompt="Hi", retry_policy=rescheduling(), max_attempts=1)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 1, 2)
        assert len(set(keys(chat))) == 1


@retries
def test_a_dialogue_whose_second_call_was_refused_goes_on_after_the_answer_that_it_had(airflow, chat):
    chat.script(replies.ok("{}"), replies.status(500), replies.ok('{"a": 1}'))
    with airflow.dag():
        ask(prompt="Hi", response_schema={"type": "object", "required": ["a"]}, **AGAIN)
    run = airflow.run()
    assert (run.state, run.tries(), len(chat.requests)) == ("success", 2, 3)
    assert len(set(keys(chat))) == 3


def airflows_own():
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    return AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"secret": "canary"}))


def refusing(monkeypatch, method, error):
    from airflow.sdk.execution_time.context import TaskStateStoreAccessor

    def refuse(*arguments, **more):
        raise error

    monkeypatch.setattr(TaskStateStoreAccessor, method, refuse)


@retries
@pytest.mark.parametrize("error", [airflows_own, lambda: OSError("canary")], ids=["Airflow's", "a backend's"])
def test_a_store_that_refuses_does_not_fail_a_task_that_has_its_answer(airflow, chat, monkeypatch, caplog, error):
    refusing(monkeypatch, "set", error())
    with airflow.dag():
        ask(prompt="Hi", retries=1)
    assert airflow.run().state == "success"
    assert len(chat.requests) == 1
    assert "could not store the reply in its task state store" in caplog.text
    assert "canary" not in caplog.text


@retries
@pytest.mark.parametrize("error", [airflows_own, lambda: OSError("canary")], ids=["Airflow's", "a backend's"])
def test_a_store_that_cannot_be_read_lets_no_retry_pay_again_unknowingly(airflow, chat, monkeypatch, error):
    refusing(monkeypatch, "get", error())
    with airflow.dag():
        ask(prompt="Hi", post_execute=fail_in_the_first_try, **AGAIN)
    assert airflow.run().state == "failed"
    assert len(chat.requests) == 1
    assert airflow.error().message.startswith("Repair it and try again, or set on_uncertain='resend'")
    assert "canary" not in airflow.error().message


@retries
def test_with_resend_a_store_that_cannot_be_read_is_a_warning(airflow, chat, monkeypatch, caplog):
    refusing(monkeypatch, "get", OSError("canary"))
    with airflow.dag():
        ask(prompt="Hi", post_execute=fail_in_the_first_try, on_uncertain="resend", **AGAIN)
    assert airflow.run().state == "success"
    assert len(chat.requests) == 2
    assert "The request may be paid for twice" in caplog.text


@retries
class TestHandedOver:
    """A worker that takes up what a trigger left may end before it has told the task state store."""

    @pytest.fixture
    def airflow(self, run_dag):
        return Airflow(run_dag, deferrable=True)

    def test_a_try_that_ended_with_its_answer_not_taken_up_is_not_asked_again(self, airflow, chat):
        with airflow.dag():
            Lost(task_id="ask", prompt="Hi", **AGAIN)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("failed", 2, 1)
        error = airflow.error()
        assert isinstance(error, TransportError)
        assert (error.sent, error.final) == (True, True)
        assert error.message.startswith(
            "Find out whether the server answered: an earlier try handed the call to a trigger"
        )
        assert keys(chat)[0] in error.message

    def test_with_resend_it_is_asked_again_by_the_same_key_and_said(self, airflow, chat, caplog):
        with airflow.dag():
            Lost(task_id="ask", prompt="Hi", on_uncertain="resend", **AGAIN)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 2, 2)
        assert len(set(keys(chat))) == 1
        assert "The task sends the request again and may pay for it twice" in caplog.text

    def test_another_request_is_asked_and_the_first_one_is_told_of(self, airflow, chat, caplog):
        with airflow.dag():
            Lost(task_id="ask", prompt="Try {{ ti.try_number }}", **AGAIN)
        assert airflow.run().state == "success"
        assert len(chat.requests) == 2
        assert "The task sends the request again and may pay for it twice" in caplog.text

    def test_an_execution_timeout_that_was_taken_up_is_asked_again(self, airflow, chat):
        chat.script(faults.hang())
        with airflow.dag():
            ask(prompt="Hi", execution_timeout=timedelta(seconds=2), **AGAIN)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 2, 2)
        assert len(set(keys(chat))) == 1

    def test_what_is_noted_is_the_key_and_nothing_of_the_request(self):
        store = Store()
        ledger = Ledger.open(context(store=store), REQUEST, "u")[0]
        ledger.hand_over(ledger.idempotency_key, [])
        assert store[KEY]["out"] == ledger.idempotency_key
        assert "Hi" not in str(store)

    def test_a_try_that_no_other_can_follow_notes_nothing(self):
        store = Store()
        ledger = Ledger.open(context(store=store, max_tries=0), REQUEST, "u")[0]
        ledger.hand_over(ledger.idempotency_key, [])
        ledger.keep([GOOD])
        assert store == {}

    def test_before_airflow_has_a_state_store_a_task_with_retries_is_warned(self, caplog):
        for most, said in ((0, False), (1, True)):
            caplog.clear()
            ledger = Ledger.open(context(max_tries=most), REQUEST, "u")[0]
            ledger.hand_over(ledger.idempotency_key, [])
            assert ("next try sends and pays again" in caplog.text) is said


class Lost(ChatCompletionOperator):
    """Ends in its first try when it is to take up its answer: as if it was killed, but for the rest of Airflow."""

    def resume_execution(self, next_method: str, next_kwargs: Any, context: Any) -> Any:
        if context["ti"].try_number == 1:
            raise RuntimeError("killed")
        return super().resume_execution(next_method, next_kwargs, context)


class Store(dict[str, Any]):
    def set(self, key: str, value: Any, *, retention: Any) -> None:
        self[key] = value


def context(
    try_number: int = 1, *, store: Any = None, max_tries: int = 1, clear_number: int = 0, began: str = "t0", **more: Any
):
    of = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, **more}
    ti = SimpleNamespace(try_number=try_number, max_tries=max_tries, **of)
    found = {"ti": ti, "dag_run": SimpleNamespace(start_date=began, clear_number=clear_number)}
    return found if store is None else {**found, "task_state_store": store}


def key(request: Any = REQUEST, base_url: str = "http://h/v1", **arguments: Any) -> str:
    return Ledger.open(context(**arguments), request, base_url)[0].idempotency_key


class TestKeys:
    def test_the_key_of_a_call_is_known_again_without_any_store(self):
        assert key(store=Store()) == key(store=Store(), try_number=2)

    @pytest.mark.parametrize(
        "other",
        [
            {"max_tries": 3},
            {"clear_number": 1},
            {"began": "another installation's"},
            {"request": {**REQUEST, "n": 2}},
            {"base_url": "http://other/v1"},
            {"region_id": UUID(int=5), "region_index": 1},
        ],
        ids=["cleared", "cleared while it ran", "another Airflow", "another request", "another server", "in a loop"],
    )
    def test_another_call_has_another_key(self, other):
        assert key(store=Store()) != key(store=Store(), **other)

    def test_a_task_outside_any_loop_has_the_key_that_it_has_on_an_airflow_without_loops(self):
        assert key() == key(region_id=UUID(int=0), region_index=-1)

    def test_operators_that_one_task_executes_in_threads_ask_by_keys_of_their_own(self):
        outer = context(store=Store(), id="a task instance of this test's")

        def of_one(number: int) -> str:
            return Ledger.open(outer, REQUEST, "u", inside="inner")[0].idempotency_key

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(of_one, range(200)))) == 200

    def test_without_a_state_store_each_try_is_a_call_of_its_own(self):
        assert key(try_number=1) == key(try_number=1) != key(try_number=2)

    def test_without_a_task_instance_each_ask_is_a_call_of_its_own(self):
        first, second = (Ledger.open({"ti": None}, REQUEST, "http://h/v1") for _ in range(2))
        assert first[0].idempotency_key != second[0].idempotency_key
        first[0].keep([GOOD])


def looped(body: Any, times: int = 3) -> None:
    """The loop, and a task ``read`` whose value is that of each iteration's ``ask``."""

    @task
    def read(ti: Any = None) -> list[Any]:
        return list(ti.xcom_pull(task_ids="body.ask"))

    group: Any = task_group(group_id="body")(body)
    group.loop(max_iterations=times) >> read()


@pytest.mark.skipif(not hasattr(sdk, "LoopDecision"), reason="Airflow has loops from 3.4 on")
class TestLoops:
    """Iterations share DAG, run, task and map index. (``dag.test()`` defers nothing in a loop: see test_e2e.py.)"""

    def test_each_iteration_is_a_call_of_its_own(self, run_dag, chat):
        airflow = Airflow(run_dag)
        with airflow.dag():
            looped(lambda: ask(prompt="Hi"))
        assert airflow.run().state == "success"
        assert len(keys(chat)) == len(set(keys(chat))) == 3

    def test_each_uses_the_answer_that_it_got_itself_in_an_earlier_try(self, run_dag, chat):
        airflow = Airflow(run_dag)
        chat.script(replies.ok("one"), replies.ok("two"), replies.ok("three"))
        with airflow.dag():
            looped(lambda: ask(prompt="Hi", result_format="text", post_execute=fail_in_the_first_try, **AGAIN))
        assert airflow.run().xcoms("read")["return_value"] == ["one", "two", "three"]
        assert len(chat.requests) == 3

    def test_each_mapped_task_of_an_iteration_uses_its_own_answer(self, run_dag, chat):
        chat.default = lambda request: replies.ok(request.json["messages"][0]["content"])
        airflow = Airflow(run_dag)

        def body() -> None:
            @task
            def prompts(*, loop: Any = None) -> list[str]:
                return [f"{loop.index}a", f"{loop.index}b"]

            arguments = {"result_format": "text", "post_execute": fail_in_the_first_try, **AGAIN}
            ChatCompletionOperator.partial(task_id="ask", **arguments).expand(prompt=prompts())

        with airflow.dag():
            looped(body, 2)
        assert sorted(airflow.run().xcoms("read")["return_value"]) == ["0a", "0b", "1a", "1b"]
        assert len(chat.requests) == 4

    def test_a_rate_limit_waits_in_its_own_iteration(self, run_dag, chat):
        airflow = Airflow(run_dag)
        chat.script(replies.ok("one"), replies.rate_limited(retry_after=0.1), replies.ok("two"))
        with airflow.dag():
            looped(lambda: ask(prompt="Hi", result_format="text", max_attempts=1), 2)
        assert airflow.run().xcoms("read")["return_value"] == ["one", "two"]
        assert len(set(keys(chat))) == 3


class TestStore:
    def test_the_first_try_asks_no_store(self):
        class Unasked(Store):
            def get(self, *arguments: Any) -> Any:
                raise AssertionError("a round trip for nothing")

        assert key(store=Unasked())

    def test_a_try_that_was_rescheduled_asks_it(self):
        store = Store()
        Ledger.open(context(store=store), REQUEST, "u")[0].keep([GOOD])
        again = {**context(store=store), "task_reschedule_count": 1}
        assert [reply.status for reply in Ledger.open(again, REQUEST, "u")[1]] == [200]

    @pytest.mark.parametrize(
        ("policy", "written"),
        [(ChatCompletionRetryPolicy, False), (object, RESCHEDULES)],
        ids=["ours", "one of the user's"],
    )
    def test_where_no_retry_can_follow_an_answer_is_kept_for_a_policy_that_may_reschedule_the_task(
        self, policy, written
    ):
        store = Store()
        task = SimpleNamespace(retry_policy=policy())
        Ledger.open(context(store=store, max_tries=0, task=task), REQUEST, "u")[0].keep([GOOD])
        assert bool(store) is written

    @pytest.mark.parametrize("cleared", [{"max_tries": 2}, {"clear_number": 1}])
    def test_a_clear_forgets_the_answer(self, cleared):
        store = Store()
        Ledger.open(context(store=store), REQUEST, "u")[0].keep([GOOD])
        assert [reply.status for reply in Ledger.open(context(2, store=store), REQUEST, "u")[1]] == [200]
        assert Ledger.open(context(2, store=store, **cleared), REQUEST, "u")[1] == []

    def test_an_answer_of_another_iteration_of_a_loop_is_not_used_even_if_a_store_took_them_for_one(self):
        store = Store()
        Ledger.open(context(store=store, region_id=UUID(int=5), region_index=1), REQUEST, "u")[0].keep([GOOD])
        assert Ledger.open(context(2, store=store, region_id=UUID(int=5), region_index=1), REQUEST, "u")[1] != []
        assert Ledger.open(context(2, store=store, region_id=UUID(int=5), region_index=2), REQUEST, "u")[1] == []

    @pytest.mark.parametrize("strange", ["text", [1], {}, {"epoch": "x"}, {KEY: 1}])
    def test_what_somebody_else_wrote_there_is_ignored(self, strange):
        ledger, reply = Ledger.open(context(2, store=Store({KEY: strange})), REQUEST, "u")
        assert reply == []
        assert ledger.idempotency_key

    @pytest.mark.parametrize("strange", ["no JSON", "{}", ["a list"], '{"error": 5}'])
    def test_an_answer_that_somebody_else_wrote_there_is_not_used(self, strange):
        store = Store()
        Ledger.open(context(store=store), REQUEST, "u")[0].keep([GOOD])
        store[KEY]["replies"] = strange
        assert Ledger.open(context(2, store=store), REQUEST, "u")[1] == []

    def test_a_deferred_call_is_the_same_call_when_it_resumes(self):
        store = Store()
        ledger = Ledger.open(context(store=store), REQUEST, "u")[0]
        resumed = Ledger.resume(context(store=store), ledger.state)
        resumed.keep([GOOD])
        assert resumed.idempotency_key == ledger.idempotency_key
        assert [reply.status for reply in Ledger.open(context(2, store=store), REQUEST, "u")[1]] == [200]
