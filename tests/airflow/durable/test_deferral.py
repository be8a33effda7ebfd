"""A deferred call on a real Airflow: what its trigger does by the journal, and what the task says where that is bad.

``dag.test()`` runs the trigger where the task deferred. The tests reach in between: the operators here change what lies
in XCom, or what the trigger says, just as a crash, another version or another program would have.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from airflow_chat_provider import triggers
from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.airflow_api.xcom import Slot
from airflow_chat_provider.core.answer import record
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.durable.entry import KEY, VERSION, Entry
from airflow_chat_provider.durable.journal import PIECE, Journal
from airflow_chat_provider.errors import (
    ChatCompletionError,
    InvalidConnection,
    TransportError,
)
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import faults, replies
from airflow_chat_provider.transport.session import AsyncSession
from airflow_chat_provider.triggers import ChatCompletionTrigger
from tests.support.running import Airflow

PROMPT = "canary prompt of a task that waits"


class Between(ChatCompletionOperator):
    """``meanwhile(trigger)`` happens once the task has deferred; ``told`` or ``failure`` stands in for the event."""

    def __init__(self, *, meanwhile: Any = None, told: Any = ..., failure: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.meanwhile = meanwhile
        self.told = told
        self.failure = failure

    def defer(self, *, trigger: Any, **kwargs: Any) -> Any:
        if self.meanwhile is not None:
            self.meanwhile(trigger)
        super().defer(trigger=trigger, **kwargs)

    def resume_execution(self, next_method: str, next_kwargs: Any, context: Any) -> Any:
        if self.failure is not None:
            return super().resume_execution("__fail__", self.failure, context)
        kwargs = next_kwargs if self.told is ... else {"event": self.told}
        return super().resume_execution(next_method, kwargs, context)


@pytest.fixture
def airflow(run_dag):
    return Airflow(run_dag, deferrable=True)


@pytest.fixture
def deferred(airflow, chat):
    """Runs one deferred task; the run, and the error that the task ended with."""

    def run(**arguments: Any):
        with airflow.dag():
            Between(task_id="ask", prompt=PROMPT, **arguments)
        return airflow.run(), airflow.error()

    return run


def journal(trigger) -> Entry:
    return Journal(trigger.journal.slot).read()


def set_journal(change):
    """The journal is changed while nobody looks."""

    def meanwhile(trigger):
        Journal(trigger.journal.slot).write(change(journal(trigger)))

    return meanwhile


def idle(change):
    """A trigger that does nothing, as if its triggerer had ended when the journal was as ``change`` leaves it."""

    def meanwhile(trigger):
        set_journal(change)(trigger)
        trigger.version = VERSION + 1

    return meanwhile


def in_flight(entry: Entry) -> Entry:
    return entry.sent("a triggerer that is gone", entry.key, 1, 0.0)


class TestWhatIsStored:
    def test_a_trigger_knows_its_task_instance_and_nothing_of_the_call(self, deferred, chat):
        seen = []
        deferred(meanwhile=lambda trigger: seen.append(trigger.serialize()))
        path, arguments = seen[0]
        assert path == "airflow_chat_provider.triggers.ChatCompletionTrigger"
        assert set(arguments) == {
            "dag_id",
            "run_id",
            "task_id",
            "map_index",
            "try_number",
            "on_uncertain",
            "expires",
            "version",
        }
        assert ChatCompletionTrigger(**arguments).serialize() == (path, arguments)
        assert PROMPT not in str(arguments)

    def test_the_journal_is_gone_when_the_task_is_done_well_or_not(self, deferred, chat):
        chat.script(replies.ok(), replies.error(401, "no"))
        assert set(deferred()[0].xcoms()) == {"body", "status", "usage", "configuration", "messages", "return_value"}
        assert set(deferred()[0].xcoms()) == {"body", "status", "usage"}

    def test_the_worker_validates_before_it_defers(self, airflow, chat):
        with airflow.dag(params={"t": "hot"}):
            Between(task_id="ask", prompt="Hi", request={"temperature": "{{ params.t }}"}, meanwhile=pytest.fail)
        assert airflow.run().state == "failed"
        assert airflow.error().path == "$.temperature"
        assert chat.requests == []

    def test_a_mapped_task_has_a_journal_for_each_of_its_instances(self, airflow, chat):
        chat.script(replies.ok("one"), replies.ok("two"))
        with airflow.dag():
            Between.partial(task_id="ask", result_format="text").expand(prompt=["1", "2"])
        run = airflow.run()
        assert {run.xcoms(map_index=n)["return_value"] for n in (0, 1)} == {"one", "two"}
        assert len({request.headers["idempotency-key"] for request in chat.requests}) == 2

    @pytest.mark.parametrize("size", [PIECE - 100, 3 * PIECE], ids=["almost a piece", "several pieces"])
    def test_long_requests_and_replies_lie_in_pieces_and_come_whole(self, airflow, chat, size, monkeypatch):
        text = "é" * size
        written: dict[str, int] = {}
        put = Slot.put

        def noted(slot, value):
            written[slot.key] = max(written.get(slot.key, 0), len(str(value)))
            put(slot, value)

        monkeypatch.setattr(Slot, "put", noted)
        chat.script(replies.ok(text))
        with airflow.dag():
            Between(task_id="ask", prompt=text, result_format="text")
        run = airflow.run()
        assert chat.requests[0].json["messages"][0]["content"] == text
        assert run.xcoms()["return_value"] == text
        assert set(run.xcoms()) == {"body", "status", "usage", "configuration", "messages", "return_value"}
        journal = [length for key, length in written.items() if key.startswith(KEY)]
        assert len(journal) > 10, "é takes six characters of ASCII"
        assert max(journal) < 3 * PIECE

    def test_a_piece_that_is_missing_is_an_entry_that_cannot_be_read(self, deferred, chat):
        _, error = deferred(
            meanwhile=lambda trigger: trigger.journal.slot._replace(key=f"{KEY}_1_call_1").drop(),
            system_prompt="x" * 3 * PIECE,
        )
        assert "holds something else" in error.message
        assert chat.requests == []

    def test_an_xcom_backend_of_the_users_own_holds_the_journal(self, deferred, chat, monkeypatch):
        from airflow.sdk.bases.xcom import BaseXCom
        from airflow.sdk.execution_time import xcom

        written = []

        class Backend(BaseXCom):
            @staticmethod
            def serialize_value(value, *, key=None, **kwargs):
                written.append(key)
                return BaseXCom.serialize_value(value)

        monkeypatch.setattr(xcom, "XCom", Backend)
        run, error = deferred()
        assert (run.state, error) == ("success", None)
        assert written.count(f"{KEY}_1") == 3, "ready, sent, done"


class TestRestarts:
    def test_what_may_have_been_sent_is_not_sent_again(self, deferred, chat):
        run, error = deferred(meanwhile=set_journal(in_flight), retries=3, retry_delay=0)
        assert chat.requests == []
        assert run.tries() == 1
        assert isinstance(error, TransportError)
        assert (error.sent, error.final) == (True, True)
        assert error.message.startswith(
            "Find out whether the server answered: the triggerer ended while the request was"
        )
        assert "the triggerer ended while the request was under way" in error.message

    def test_on_uncertain_resend_sends_it_again_by_the_same_key(self, deferred, chat):
        keys = []

        def crash(trigger):
            keys.append(journal(trigger).key)
            set_journal(in_flight)(trigger)

        run, error = deferred(meanwhile=crash, on_uncertain="resend")
        assert (run.state, error) == ("success", None)
        assert [request.headers["idempotency-key"] for request in chat.requests] == keys

    def test_a_reply_that_is_in_the_journal_is_used(self, deferred, chat):
        reply = Reply(200, replies.completion(), request_id="req_1")
        run, error = deferred(meanwhile=set_journal(lambda entry: in_flight(entry).done("gone", record.dump(reply))))
        assert (run.state, error, chat.requests) == ("success", None, [])
        assert run.xcoms()["body"] == replies.completion()

    def test_a_wait_is_gone_on_with_and_its_attempts_count(self, deferred, chat):
        due = time.time() + 0.5
        chat.script(replies.status(500), replies.status(500))
        run, error = deferred(
            meanwhile=set_journal(lambda entry: in_flight(entry).waiting("gone", 2.0, due)), max_attempts=2
        )
        assert run.state == "failed"
        assert error.status == 500
        assert len(chat.requests) == 1, "the second of two attempts"

    def test_the_deadline_counts_what_went_before(self, deferred, chat):
        chat.script(replies.error(500, "oops", headers={"retry-after": "5"}))
        waited = set_journal(lambda entry: in_flight(entry).waiting("gone", 57.0, 0.0))
        _, error = deferred(meanwhile=waited, deadline=60, max_attempts=9)
        assert error.retry_after == 5
        assert len(chat.requests) == 1

    def test_each_step_is_in_the_journal_before_it_is_made(self, deferred, chat, monkeypatch):
        steps = []
        write = Journal.awrite

        async def noted(journal, entry):
            steps.append((entry.state, entry.attempt, len(chat.requests)))
            await write(journal, entry)

        monkeypatch.setattr(Journal, "awrite", noted)
        chat.script(replies.error(429, "slow down", headers={"retry-after-ms": "1"}))
        assert deferred()[0].state == "success"
        assert steps == [("sent", 1, 0), ("waiting", 2, 1), ("sent", 2, 1), ("done", 1, 2)]


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda slot, entry: slot.drop(), "was it deleted while the task was deferred?"),
            (lambda slot, entry: slot.put("something else"), "does another program push that key?"),
            (lambda slot, entry: slot.put({**entry.to_dict(), "version": VERSION + 1}), "by a newer version"),
        ],
        ids=["missing", "not ours", "newer"],
    )
    def test_a_journal_that_is_none_of_this_try_is_named_and_nothing_is_sent(self, deferred, chat, change, says):
        run, error = deferred(meanwhile=lambda trigger: change(trigger.journal.slot, journal(trigger)))
        assert run.state == "failed"
        assert isinstance(error, TransportError)
        assert says in error.message
        assert error.final
        assert chat.requests == []

    @pytest.mark.parametrize(
        ("told", "says"),
        [
            (None, "its trigger ended without an event"),
            ({}, "of an unknown version"),
            ({"version": VERSION + 1, "state": "done"}, "of an unknown version"),
            ("done", "of an unknown version"),
            ({"version": VERSION}, "of an unknown version"),
            ({"version": VERSION, "state": ["done"]}, "of an unknown version"),
        ],
    )
    def test_an_event_that_cannot_be_read_fails_the_task_and_loses_no_reply(self, deferred, chat, told, says):
        run, error = deferred(told=told, retries=2, retry_delay=0)
        assert isinstance(error, ChatCompletionError)
        assert says in error.message
        assert error.final
        xcoms = run.xcoms()
        assert xcoms.pop("usage")["total_tokens"] == 11
        assert xcoms == {"body": replies.completion(), "status": 200}
        assert len(chat.requests) == 1

    def test_an_unreadable_event_without_a_reply_is_an_error_too(self, deferred, chat):
        _, error = deferred(meanwhile=set_journal(in_flight), told=None)
        assert isinstance(error, TransportError)
        assert "its trigger ended without an event" in error.message
        assert error.final

    def test_a_connection_that_was_deleted_meanwhile_is_named(self, deferred, chat, monkeypatch):
        run, error = deferred(meanwhile=lambda _: monkeypatch.delenv("AIRFLOW_CONN_CHAT_DEFAULT"))
        assert run.state == "failed"
        assert isinstance(error, InvalidConnection)
        assert error.message.startswith("Create connection 'chat_default'")
        assert chat.requests == []

    def test_a_triggerer_with_an_older_version_says_so(self, deferred, chat):
        def newer(trigger):
            trigger.version = VERSION + 1

        _, error = deferred(meanwhile=newer)
        assert "the triggerer has an older version" in error.message
        assert (error.sent, error.final) == (False, False)
        assert chat.requests == []

    def test_arguments_of_a_newer_version_do_not_keep_the_trigger_from_saying_so(self):
        _, arguments = ChatCompletionTrigger(dag_id="d", run_id="r", task_id="t").serialize()
        ChatCompletionTrigger(**arguments | {"version": VERSION + 1, "priority": 5})

    @pytest.mark.parametrize(
        ("state", "sent", "advice"),
        [(lambda entry: entry, False, "Try again: the request was not sent"), (in_flight, True, "Find out whether")],
        ids=["ready", "sent"],
    )
    def test_a_trigger_that_could_not_run_is_told_of_with_what_may_have_been_sent(
        self, deferred, chat, state, sent, advice
    ):
        lines = ["Traceback:\n", "ModuleNotFoundError: No module named 'airflow_chat_provider'\n"]
        failure = {"error": "Trigger failure", "traceback": lines}
        _, error = deferred(meanwhile=idle(state), failure=failure)
        assert error.message.startswith(advice)
        assert "does the triggerer have this version of airflow-chat-provider?" in error.message
        assert "(ModuleNotFoundError: No module named 'airflow_chat_provider')" in error.message
        assert error.sent is sent

    def test_a_reply_in_the_journal_counts_although_the_trigger_failed(self, deferred, chat):
        run, error = deferred(failure={"error": "Trigger failure"})
        assert (run.state, error) == ("success", None)

    def test_a_trigger_that_fails_says_where_and_not_what_it_held(self, deferred, chat, monkeypatch, capfd):
        async def fail(*_arguments, **_more):
            raise RuntimeError(PROMPT)

        monkeypatch.setattr(AsyncSession, "send", fail)
        _, error = deferred()
        assert "its trigger failed; see the trigger's log (RuntimeError)" in error.message
        assert error.sent is False
        out = capfd.readouterr()
        assert "The trigger failed with RuntimeError at" in out.out + out.err
        assert PROMPT not in out.out + out.err

    def test_a_reply_that_xcom_does_not_take_is_offered_again(self, deferred, chat, monkeypatch):
        left = refusing(monkeypatch, 2)
        run, error = deferred()
        assert (run.state, error, left) == ("success", None, [])

    @pytest.mark.parametrize(("on_uncertain", "final"), [("fail", True), ("resend", False)])
    def test_a_reply_that_xcom_never_takes_is_told_of(self, deferred, chat, monkeypatch, on_uncertain, final):
        refusing(monkeypatch, 99)
        _, error = deferred(on_uncertain=on_uncertain)
        assert "the reply came, but Airflow could not store it in XCom" in error.message
        assert (error.sent, error.final) == (True, final)
        assert len(chat.requests) == 1


def refusing(monkeypatch, times):
    """XCom refuses a reply, and what it may take nobody has to wait for."""
    left, put = ["no"] * times, Slot.aput

    async def refuse(slot, value, **more):
        if value["state"] == "done" and left:
            raise ConnectionError(left.pop())
        await put(slot, value)

    monkeypatch.setattr(Slot, "aput", refuse)
    monkeypatch.setattr(triggers, "_PATIENCE", (0.0, 0.0, 0.0))
    return left


class TestTime:
    def test_the_tasks_execution_timeout_ends_the_call_and_closes_its_socket(self, airflow, chat):
        chat.script(faults.hang())
        with airflow.dag():
            Between(task_id="ask", prompt="Hi", execution_timeout=timedelta(seconds=3))
        run = airflow.run()
        assert isinstance(airflow.error(), exceptions.AirflowTaskTimeout)
        assert chat.wait_closed()
        assert set(run.xcoms()) == {"usage"}

    @pytest.mark.parametrize(
        ("state", "where", "attempts"),
        [(lambda entry: entry, "Check that a triggerer runs", 0), (in_flight, "while the request was under way", 1)],
        ids=["ready", "sent"],
    )
    def test_airflows_own_time_limit_is_told_as_what_it_is(self, deferred, chat, state, where, attempts):
        run, error = deferred(meanwhile=idle(state), failure={"error": "Trigger timeout"})
        assert isinstance(error, exceptions.AirflowTaskTimeout)
        assert where in str(error)
        assert [usage["attempts"] for usage in run.xcoms().values()] == [attempts] * attempts

    def test_a_reply_that_was_there_in_time_counts_although_airflow_gave_up(self, deferred, chat):
        run, error = deferred(failure={"error": "Trigger timeout"})
        assert (run.state, error) == ("success", None)
