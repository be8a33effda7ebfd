"""The worker's half of a deferred call: leaving the request for the trigger, and finding out what became of it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from airflow_chat_provider.core.errors import ChatCompletionError, TransportError
from airflow_chat_provider.core.journal import KEY, VERSION, Deferred, Entry, Unusable
from airflow_chat_provider.core.response import Reply
from airflow_chat_provider.core.scrub import printable
from airflow_chat_provider.journal import Journal

if TYPE_CHECKING:
    from airflow_chat_provider.core.dialogue import Dialogue
    from airflow_chat_provider.ledger import Ledger
    from airflow_chat_provider.operators import ChatCompletionOperator

_GRACE = timedelta(seconds=60)  # the trigger itself keeps the task's time limit; Airflow's is for where there is none
_SAME_VERSION = "have one version of airflow-chat-provider on workers and triggerers"
_WHY = {
    "uncertain": "the triggerer ended while the request was under way",
    "unstored": "the reply came, but Airflow did not take it into XCom",
    "missing": f"its journal (XCom {KEY!r}) is not there; was it deleted while the task was deferred?",
    "foreign": f"its journal (XCom {KEY!r}) holds something else; does another program push that key?",
    "newer": f"its journal (XCom {KEY!r}) is of a newer version; {_SAME_VERSION}",
    "other_try": f"its journal (XCom {KEY!r}) is of another try of the task",
    "outdated": f"the triggerer has an older version; {_SAME_VERSION}",
    "no event": "its trigger ended without an event",
    "strange event": f"its trigger's event is of an unknown version; {_SAME_VERSION}",
    "failed": "its trigger failed, see the trigger's log",
    "broken": "Airflow could not run its trigger; does the triggerer have this version of airflow-chat-provider?",
    "done": "its journal holds no reply",
}


class Outcome(NamedTuple):
    """What the trigger left. ``entry`` is None where nothing of the call is known."""

    journal: Journal
    entry: Entry | None
    reply: Reply


def leave(
    task: ChatCompletionOperator,
    ti: Any,
    limits: dict[str, Any],
    dialogue: Dialogue,
    configuration: dict[str, Any],
    ledger: Ledger,
) -> NoReturn:
    """Write the journal's first entry and let the task wait for its trigger."""
    from airflow_chat_provider.triggers import ChatCompletionTrigger

    request = dialogue.request
    key = ledger.key_of(dialogue.sends, request)
    deferred = Deferred(limits, request, configuration, ledger.state, key, dialogue.state())
    journal, limit = Journal.of(ti), task.execution_timeout
    journal.write(Entry.of(deferred, ti.try_number))
    trigger = ChatCompletionTrigger(
        **journal.slot.identity,
        try_number=ti.try_number,
        on_uncertain=task.on_uncertain,
        expires=time.time() + limit.total_seconds() if limit else None,
    )
    task.defer(trigger=trigger, method_name="execute_complete", timeout=limit + _GRACE if limit else None)


def failure_event(next_kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """An event for what Airflow says of a trigger that fired none."""
    said = next_kwargs or {}
    if said.get("error") == "Trigger timeout":
        return {"version": VERSION, "state": "timed_out"}
    lines = "".join(said.get("traceback") or ()).strip().splitlines()
    return {"version": VERSION, "state": "broken", "error": printable(lines[-1])[:200] if lines else None}


def find(ti: Any, event: Any, *, on_uncertain: str) -> Outcome:
    """What became of a deferred call, by its trigger's event and its journal. Raises AirflowTaskTimeout."""
    state, detail = _read(event)
    journal, entry = Journal.of(ti), None
    try:
        entry = journal.read()
    except Unusable as unusable:
        state = unusable.why if state == "done" else state
    reply = entry.reply if entry is not None else None
    if state == "timed_out" and reply is None:
        if entry is not None:
            journal.drop()
        _time_out(entry)
    if reply is not None and state in ("no event", "strange event"):
        message = f"See the reply in XCom (body, status), and clear the task to ask again: {_WHY[state]}"
        error = ChatCompletionError(message, status=reply.status, request_id=reply.request_id, body=reply.body)
        error.final = True
        reply = reply._replace(error=error)
    why = _WHY.get(state, _WHY["strange event"]) + (f" ({detail})" if detail else "")
    reply = reply or Reply(None, None, error=_lost(why, state, entry, on_uncertain))
    return Outcome(journal, entry, reply)


def _read(event: Any) -> tuple[str, str | None]:
    if event is None:
        return "no event", None
    if not isinstance(event, dict) or event.get("version") != VERSION or not isinstance(event.get("state"), str):
        return "strange event", None
    return event["state"], event.get("error")


def _time_out(entry: Entry | None) -> NoReturn:
    from airflow_chat_provider.compat import AirflowTaskTimeout

    waits = entry is not None and entry.state == "ready"
    where = "before a trigger took it up; is a triggerer running?" if waits else "while the request was under way"
    raise AirflowTaskTimeout(f"The task's execution_timeout ran out {where}")


def _lost(why: str, state: str, entry: Entry | None, on_uncertain: str) -> TransportError:
    """There is no reply: may there have been one?"""
    if state == "outdated" or (entry is not None and entry.state == "ready"):
        return TransportError(f"Try again: the request was not sent, {why}", sent=False)
    if on_uncertain == "resend":
        return TransportError(f"Try again: {why}; the request may have been paid for", sent=True)
    key = f" (Idempotency-Key {entry.deferred.idempotency_key})" if entry is not None else ""
    message = (
        f"Find out if the server answered{key}, then clear the task to ask again, or set on_uncertain='resend': "
        f"the request may have been paid for, and {why}"
    )
    return TransportError(message, sent=True, final=True)
