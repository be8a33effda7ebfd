"""What a task has spent in its earlier tries counts against its limits: Airflow's task state store keeps it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import task

from airflow_chat_provider.airflow_api.compat import FINAL_BY_POLICY, RESCHEDULES
from airflow_chat_provider.airflow_api.xcom import Slot
from airflow_chat_provider.durable.account import KEY
from airflow_chat_provider.durable.journal import Journal
from airflow_chat_provider.durable.ledger import Place
from airflow_chat_provider.errors import BudgetExceeded, TransportError
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import faults, replies
from tests.support.asking import ask
from tests.support.running import Airflow

AGAIN: Any = {"retries": 1, "retry_delay": 0, "max_attempts": 1}
TWENTY = "x" * 80  # tokens, by the guess

retries = pytest.mark.skipif(not FINAL_BY_POLICY, reason="dag.test() of this Airflow does not retry")


def lost(tokens: int) -> replies.Reply:
    """A failure that is worth another try, and that has taken tokens."""
    return replies.json_reply(500, {"error": {"message": "oops"}, "usage": {"total_tokens": tokens}})


@pytest.fixture
def noted(monkeypatch):
    """What was written to the task state store, in its order."""
    found = []
    write = Place.write

    def noting(place, **values):
        if place.name == KEY:
            found.append(values["tokens"])
        write(place, **values)

    monkeypatch.setattr(Place, "write", noting)
    return found


@retries
class TestTries:
    def test_what_a_failed_try_has_spent_counts(self, airflow, chat):
        chat.script(lost(90), replies.ok("Hi"))
        with airflow.dag():
            ask(prompt=TWENTY, max_total_tokens=100, **AGAIN)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("failed", 2, 1)
        assert isinstance(airflow.error(), BudgetExceeded)
        assert "of at most 100 tokens, 90 tokens are spent" in airflow.error().message

    def test_another_try_goes_on_with_what_is_left(self, airflow, chat):
        chat.script(lost(79), replies.ok("Hi"))
        with airflow.dag():
            ask(prompt=TWENTY, max_total_tokens=100, **AGAIN)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 2, 2)

    def test_an_attempt_that_may_have_been_answered_counts_as_the_guess(self, airflow, chat):
        chat.script(faults.reset(), replies.ok("Hi"))
        with airflow.dag():
            ask(prompt=TWENTY, max_total_tokens=39, **AGAIN)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("failed", 2, 1)

    def test_so_does_one_whose_end_nobody_saw(self, airflow, chat):
        chat.script(faults.hang(), replies.ok("Hi"))
        with airflow.dag():
            ask(prompt=TWENTY, max_total_tokens=39, execution_timeout=timedelta(seconds=2), **AGAIN)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("failed", 2, 1)
        assert isinstance(airflow.error(), BudgetExceeded)

    def test_an_answer_that_is_used_again_is_counted_once(self, airflow, chat):
        def fail_in_the_first_try(context, result=None):
            if context["ti"].try_number == 1:
                raise RuntimeError("after the answer")

        with airflow.dag():
            ask(prompt="Hi", max_total_tokens=11, post_execute=fail_in_the_first_try, **AGAIN)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 2, 1)

    def test_calls_that_an_operator_inside_another_task_made_count_in_its_next_try(self, run_dag, chat):
        airflow = Airflow(run_dag)
        with airflow.dag():

            @task(retries=1, retry_delay=0)
            def other(ti=None):
                prompt = f"{ti.try_number} {TWENTY}"
                inner = ChatCompletionOperator(task_id="inner", prompt=prompt, max_total_tokens=30, deferrable=False)
                try:
                    inner.execute({})
                except BudgetExceeded as error:
                    return error.message
                raise RuntimeError("after the answer")

            other()
        said = airflow.run().xcoms("other")["return_value"]
        assert "11 tokens are spent" in said
        assert len(chat.requests) == 1

    def test_a_store_that_cannot_be_read_stops_a_task_with_limits(self, run_dag, chat, monkeypatch):
        airflow = Airflow(run_dag)
        chat.script(replies.status(500), replies.ok("Hi"))
        monkeypatch.setattr(Place, "notes", _broken)
        with airflow.dag():
            ask(prompt="Hi", max_total_tokens=100, on_uncertain="resend", **AGAIN)
        run = airflow.run()
        assert (run.state, chat.requests) == ("failed", [])
        assert isinstance(airflow.error(), TransportError)
        assert airflow.error().message.startswith(
            "Repair Airflow's task state store and try again, or remove the limit"
        )


def _broken(place: Any) -> Any:
    raise OSError("no route to the database")


@retries
class TestNotes:
    def test_an_attempt_is_noted_before_it_is_made_and_after_its_answer(self, run_dag, chat, noted):
        airflow = Airflow(run_dag)
        with airflow.dag():
            ask(prompt=TWENTY, max_total_tokens=100, **AGAIN)
        assert airflow.run().state == "success"
        assert noted == [20, 11]

    def test_a_deferred_call_is_noted_until_a_worker_takes_it_up(self, run_dag, chat, noted):
        airflow = Airflow(run_dag, deferrable=True)
        with airflow.dag():
            ask(prompt=TWENTY, max_total_tokens=100, post_execute=lambda context, result=None: None, **AGAIN)
            ChatCompletionOperator(task_id="trigger", prompt=TWENTY, max_total_tokens=100, **AGAIN)
        assert airflow.run().state == "success"
        assert sorted(noted) == [11, 20, 20]  # what a trigger ends has no other try

    def test_nothing_is_noted_without_a_limit(self, run_dag, chat, noted):
        airflow = Airflow(run_dag)
        with airflow.dag():
            ask(prompt="Hi", **AGAIN)
        assert airflow.run().state == "success"
        assert noted == []

    def test_nothing_is_noted_in_a_last_try_unless_airflow_may_reschedule_it(self, run_dag, chat, noted):
        airflow = Airflow(run_dag)
        with airflow.dag():
            ask(prompt="Hi", max_total_tokens=100)
        assert airflow.run().state == "success"
        assert noted == ([1, 11] if RESCHEDULES else [])

    def test_notes_that_somebody_has_changed_count_nothing(self, run_dag, chat):
        airflow = Airflow(run_dag)
        chat.script(replies.status(500), replies.ok("Hi"))

        def change(context):
            if context["ti"].try_number == 2:
                store = context["task_state_store"]
                store.set(KEY, {**store.get(KEY), "tokens": "all", "cost": "NaN"})

        with airflow.dag():
            ask(prompt=TWENTY, max_total_tokens=100, pre_execute=change, **AGAIN)
        assert airflow.run().state == "success"


class Between(ChatCompletionOperator):
    """``meanwhile(trigger)`` happens once the task has deferred."""

    def __init__(self, *, meanwhile: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.meanwhile = meanwhile

    def defer(self, *, trigger: Any, **kwargs: Any) -> Any:
        self.meanwhile(trigger)
        super().defer(trigger=trigger, **kwargs)


class TestJournal:
    def test_an_attempt_whose_triggerer_ended_counts_as_the_guess(self, run_dag, chat):
        def end_while_it_is_sent(trigger):
            journal = Journal.from_slot(trigger.journal.slot, trigger.try_number)
            entry = journal.read()
            spent = {"tokens": 20, "cost": "0"}
            journal.write(replace(entry.sent("another", entry.key, 1, 0.0), spent=spent))

        airflow = Airflow(run_dag, deferrable=True)
        with airflow.dag():
            Between(
                task_id="ask", prompt=TWENTY, max_total_tokens=39, on_uncertain="resend", meanwhile=end_while_it_is_sent
            )
        assert airflow.run().state == "failed"
        assert isinstance(airflow.error(), BudgetExceeded)
        assert "20 tokens are spent" in airflow.error().message
        assert chat.requests == []

    def test_a_journal_of_an_older_version_has_no_limits(self, run_dag, chat):
        def make_older(trigger):
            slot: Slot = trigger.journal.slot
            value = slot.get()
            del value["spent"]
            assert '"budget"' not in value["call"]
            slot.put(value)

        airflow = Airflow(run_dag, deferrable=True)
        with airflow.dag():
            Between(task_id="ask", prompt=TWENTY, meanwhile=make_older)
        assert airflow.run().state == "success"

    @pytest.mark.parametrize("spent", [None, {}, {"tokens": "1", "cost": "0"}, {"tokens": 1, "cost": "NaN"}], ids=repr)
    def test_an_entry_whose_account_is_strange_is_none_of_ours(self, run_dag, chat, spent):
        def change(trigger):
            slot: Slot = trigger.journal.slot
            slot.put({**slot.get(), "spent": spent})

        airflow = Airflow(run_dag, deferrable=True)
        with airflow.dag():
            Between(task_id="ask", prompt=TWENTY, max_total_tokens=100, meanwhile=change)
        assert airflow.run().state == "failed"
        assert "holds something else" in airflow.error().message
        assert chat.requests == []
