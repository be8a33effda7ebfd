"""The worker's half of a deferred call: hand the request over to the trigger, and find out what became of it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from airflow_chat_provider.core.answer.dialogue import after
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.cost.estimate import sure_tokens
from airflow_chat_provider.core.errors import ChatCompletionError, TransportError
from airflow_chat_provider.core.server.scrub import printable
from airflow_chat_provider.durable.entry import KEY, VERSION, Deferred, Entry, Unusable
from airflow_chat_provider.durable.journal import Journal

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_chat_provider.core.answer.dialogue import Dialogue
    from airflow_chat_provider.task.arguments import Try
    from airflow_chat_provider.task.base import RequestOperator

# The trigger keeps the task's time limit itself. Airflow's own, this much later, is for a trigger that never runs.
_GRACE = timedelta(seconds=60)
_ENDED = "success"
"""What ``dag.test()`` makes of a trigger's event that ends the task: there a worker goes on all the same."""
_SAME_VERSION = "install the same version of airflow-chat-provider on workers and triggerers"
# By the state that the trigger's event names, or, where the event tells nothing, by what was found of the journal.
_WHY = {
    "uncertain": "the triggerer ended while the request was under way",
    "spent": "a triggerer ended while the last of max_attempts requests was under way",
    "unstored": "the reply came, but Airflow could not store it in XCom",
    "overtaken": "two triggerers worked on the task, and the other one left no reply",
    "missing": f"its journal (XCom {KEY!r}) is missing; was it deleted while the task was deferred?",
    "foreign": f"its journal (XCom {KEY!r}) holds something else; does another program push that key?",
    "newer": f"its journal (XCom {KEY!r}) was written by a newer version; {_SAME_VERSION}",
    "outdated": f"the triggerer has an older version; {_SAME_VERSION}",
    "no event": "its trigger ended without an event",
    "strange event": f"its trigger sent an event of an unknown version; {_SAME_VERSION}",
    "failed": "its trigger failed; see the trigger's log",
    "broken": "Airflow could not run its trigger; does the triggerer have this version of airflow-chat-provider?",
    "done": "its journal holds no reply",
}


class Found(NamedTuple):
    """What the trigger left. ``replies`` are in the order in which they came; ``entry`` is None if nothing is known.

    ``error`` says why the last reply is not the end of the call, if it is not.
    """

    journal: Journal
    entry: Entry | None
    replies: list[Reply]
    error: BaseException | None = None
    has_ended: bool = False
    """The trigger has set all XComs: only the value is still to be returned."""

    @property
    def unfinished(self) -> Reply | None:
        """What is known of the call whose end nobody saw; None if there is no such call."""
        if self.error is None or self.entry is None or self.entry.state == "done":
            return None
        error = self.error if isinstance(self.error, ChatCompletionError) else None
        return Reply(None, None, attempts=self.entry.begun.attempt - 1, seconds=self.entry.elapsed, error=error)

    @property
    def final(self) -> Reply | None:
        """The reply that carries ``error``; None if there is no such error, or if it is Airflow's time-out."""
        if not isinstance(self.error, ChatCompletionError):
            return None
        if self.entry is not None and self.entry.state == "done":
            return self.replies[-1]._replace(error=self.error)
        lost = self.unfinished or Reply(None, None, attempts=0, error=self.error)
        return after([reply for reply in self.replies if reply.error is None], lost)


def needs_worker(task: BaseOperator, ti: Any, *, is_customised: bool) -> str | None:
    """Why a trigger cannot end this task: some of what is due at its end runs in workers only. None: it can.

    ``is_customised``: the class of the task has methods of its own for its end.
    """
    from airflow_chat_provider.airflow_api.compat import has_success_listeners
    from airflow_chat_provider.task.link import ConversationLink

    reasons = {
        "do_xcom_push=False": not task.do_xcom_push,  # XComs tell a trigger that comes back that all is done
        "a subclass has methods of its own": is_customised,
        "post_execute": task._post_execute_hook is not None,  # noqa: SLF001 - where Airflow keeps the argument
        "on_success_callback": bool(task.on_success_callback),
        "outlets": bool(task.outlets),
        "multiple_outputs": task.multiple_outputs,
        # Ours is pushed by the worker that defers.
        "operator_extra_links": any(not isinstance(link, ConversationLink) for link in task.operator_extra_links),
        "a downstream task maps over its value": ti.map_index in (None, -1)
        and next(task.iter_mapped_dependants(), None) is not None,
        "map_index_template": task.map_index_template is not None and not getattr(ti, "rendered_map_index", None),
        "returns_dag_result": bool(getattr(task, "returns_dag_result", False)),
        "a listener waits for the end of tasks": has_success_listeners(),
    }
    return next((why for why, holds in reasons.items() if holds), None)


def hand_over(task: BaseOperator, this: Try, dialogue: Dialogue, deferred: Deferred, replies: list[Reply]) -> NoReturn:
    """Write the first entry of the journal, then let the task wait for its trigger.

    ``deferred`` lacks its request: that is what the dialogue asks now, after ``replies``.
    """
    from airflow_chat_provider.transport.observer import traceparent
    from airflow_chat_provider.triggers import ChatCompletionTrigger

    request, question = dialogue.request, dialogue.question
    deferred = deferred._replace(request=request, question=None if request is question else question)
    spent = None
    if (account := this.account) is not None:
        deferred, spent = deferred._replace(budget=account.limits), account.hand_over(sure_tokens(request))
    entry = Entry.from_deferred(deferred, this.ledger.key_of(dialogue.call, request), replies, spent)
    ti, limit = this.context["ti"], task.execution_timeout
    journal = Journal.from_ti(ti)
    journal.write(entry)
    this.ledger.hand_over(entry.key, replies)  # after the journal: a worker that ends here has made no trigger
    trigger = ChatCompletionTrigger(
        **journal.slot.identity,
        try_number=ti.try_number,
        on_uncertain=this.arguments.on_uncertain,
        expires=time.time() + limit.total_seconds() if limit else None,
        traceparent=traceparent(),
    )
    task.defer(trigger=trigger, method_name="execute_complete", timeout=limit + _GRACE if limit else None)


def failure_event(next_kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """The event to go by when Airflow says that a trigger fired none: it timed out, or could not run."""
    said = next_kwargs or {}
    if said.get("error") == "Trigger timeout":
        return {"version": VERSION, "state": "timed_out"}
    lines = "".join(said.get("traceback") or ()).strip().splitlines()
    return {"version": VERSION, "state": "broken", "error": printable(lines[-1])[:200] if lines else None}


def find(ti: Any, event: Any, *, on_uncertain: str) -> Found:
    """Find out from its trigger's event and its journal what became of a deferred call."""
    state, detail = _read(event)
    journal, entry = Journal.from_ti(ti), None
    try:
        entry = journal.read()
    except Unusable as unusable:
        if unusable.why == "missing" and journal.is_left():
            return Found(journal, None, [], has_ended=True)
        state = unusable.why if state in ("done", _ENDED) else state
        journal.clear()
    replies = entry.received() if entry is not None else []
    if entry is not None and entry.state == "done":
        strange = state in ("no event", "strange event")
        return Found(journal, entry, replies, _strange(replies[-1], state) if strange else None)
    if state == "timed_out":
        journal.clear()
        return Found(journal, entry, replies, _time_out(entry))
    why = _WHY.get(state, _WHY["strange event"]) + (f" ({detail})" if detail else "")
    return Found(journal, entry, replies, _lost(why, state, entry, on_uncertain))


def lost(task: RequestOperator, this: Try, found: Found, question: dict[str, Any], dialogue: Dialogue | None) -> Reply:
    """The reply that says why the trigger could not end the call. Raises that if it is an error of Airflow's."""
    rejected = tuple(dialogue.rejected) if dialogue is not None else ()
    if found.final is not None:
        return found.final._replace(rejected=rejected)
    from airflow_chat_provider.task.xcoms import leave_usage

    error = found.error or RuntimeError("a deferred call has neither a reply nor an error")
    leave_usage(task, this, question, error, rejected)
    this.ledger.release()
    raise error


def _read(event: Any) -> tuple[str, str | None]:
    """The state that an event names, and its detail, which quotes nothing of the request."""
    if event is None:
        return "no event", None
    if event == _ENDED:
        return _ENDED, None
    if not isinstance(event, dict) or event.get("version") != VERSION or not isinstance(event.get("state"), str):
        return "strange event", None
    return event["state"], event.get("error")


def _strange(reply: Reply, state: str) -> ChatCompletionError:
    message = f"Read the reply in XCom (body, status): {_WHY[state]}. To send the request again, clear the task"
    error = ChatCompletionError(message, status=reply.status, request_id=reply.request_id, body=reply.body)
    error.final = True
    return error


def _time_out(entry: Entry | None) -> BaseException:
    from airflow_chat_provider.airflow_api.compat import exceptions

    if entry is not None and entry.state == "ready" and entry.owner is None:
        return exceptions.AirflowTaskTimeout(
            "Check that a triggerer runs: execution_timeout ran out before one took up the task"
        )
    return exceptions.AirflowTaskTimeout("Raise execution_timeout: it ran out while the request was under way")


def _lost(why: str, state: str, entry: Entry | None, on_uncertain: str) -> TransportError:
    """The error of a call without a reply: it says whether the server may have answered, and charged for it."""
    if state == "outdated" or (entry is not None and entry.state == "ready"):
        return TransportError(f"Try again: the request was not sent, {why}", sent=False)
    key = f" (Idempotency-Key {entry.key})" if entry is not None else ""
    if on_uncertain == "resend":
        return TransportError(f"Try again: {why}; the request may have been paid for{key}", sent=True)
    message = (
        f"Find out whether the server answered: {why}. The request may have been paid for{key}. To send it again, "
        "clear the task, or set on_uncertain='resend'"
    )
    return TransportError(message, sent=True, final=True)
