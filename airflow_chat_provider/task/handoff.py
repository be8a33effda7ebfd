"""The worker's half of a deferred call: leaving the request for the trigger, and finding out what became of it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from airflow_chat_provider.core.answer.dialogue import after
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.errors import ChatCompletionError, TransportError
from airflow_chat_provider.core.server.scrub import printable
from airflow_chat_provider.durable.entry import KEY, VERSION, Deferred, Entry, Unusable
from airflow_chat_provider.durable.journal import Journal
from airflow_chat_provider.durable.results import is_left
from airflow_chat_provider.task.delivery import delivery_of

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.durable.ledger import Ledger
    from airflow_chat_provider.operators import ChatCompletionOperator

_GRACE = timedelta(seconds=60)  # the trigger itself keeps the task's time limit; Airflow's is for where there is none
_ENDED = "success"
"""What ``dag.test()`` makes of a trigger's event that ends the task: there a worker goes on all the same."""
_SAME_VERSION = "have one version of airflow-chat-provider on workers and triggerers"
_WHY = {
    "uncertain": "the triggerer ended while the request was under way",
    "spent": "a triggerer ended while the last of max_attempts requests was under way",
    "unstored": "the reply came, but Airflow did not take it into XCom",
    "overtaken": "two triggerers worked for the task, and the other one left no reply",
    "missing": f"its journal (XCom {KEY!r}) is not there; was it deleted while the task was deferred?",
    "foreign": f"its journal (XCom {KEY!r}) holds something else; does another program push that key?",
    "newer": f"its journal (XCom {KEY!r}) is of a newer version; {_SAME_VERSION}",
    "outdated": f"the triggerer has an older version; {_SAME_VERSION}",
    "no event": "its trigger ended without an event",
    "strange event": f"its trigger's event is of an unknown version; {_SAME_VERSION}",
    "failed": "its trigger failed, see the trigger's log",
    "broken": "Airflow could not run its trigger; does the triggerer have this version of airflow-chat-provider?",
    "done": "its journal holds no reply",
}


class Found(NamedTuple):
    """What the trigger left: ``replies`` in the order in which they came; ``error`` where the last one is not the end.

    ``entry`` is None where nothing of the call is known.
    """

    journal: Journal
    entry: Entry | None
    replies: list[Reply]
    error: BaseException | None = None
    has_ended: bool = False
    """The trigger has left all XComs: there is nothing to do but to return the value."""

    @property
    def final(self) -> Reply | None:
        """A reply with the error, if there is one."""
        if not isinstance(self.error, ChatCompletionError):
            return None
        if self.entry is not None and self.entry.state == "done":
            return self.replies[-1]._replace(error=self.error)
        return after([reply for reply in self.replies if reply.error is None], Reply(None, None, error=self.error))


def deferred_call(
    task: ChatCompletionOperator,
    ti: Any,
    limits: dict[str, Any],
    wanted: Wanted,
    rung: int,
    configuration: dict[str, Any],
    ledger: Ledger,
) -> Deferred:
    """All that the trigger has to know but the request."""
    why = needs_worker(task, ti)
    if why is not None:
        task.log.debug("A worker will end this task, not its trigger: %s", why)
    delivery = delivery_of(task)._asdict() if why is None else None
    return Deferred(limits, {}, None, rung, wanted.to_dict(), delivery, configuration, ledger.state)


def needs_worker(task: Any, ti: Any) -> str | None:
    """Why a trigger cannot end this task, where it cannot: some of what is due at its end runs in workers alone."""
    from airflow_chat_provider.airflow_api.compat import has_success_listeners

    reasons = {
        "do_xcom_push=False": not task.do_xcom_push,  # XComs tell a trigger that comes back that all is done
        "a subclass has methods of its own": not task.ends_as_usual(),
        "post_execute": task._post_execute_hook is not None,  # noqa: SLF001 - where Airflow keeps the argument
        "on_success_callback": bool(task.on_success_callback),
        "outlets": bool(task.outlets),
        "multiple_outputs": bool(getattr(task, "multiple_outputs", False)),
        "operator_extra_links": bool(task.operator_extra_links),
        "a downstream task maps over its value": ti.map_index in (None, -1)
        and next(task.iter_mapped_dependants(), None) is not None,
        "map_index_template": task.map_index_template is not None and not getattr(ti, "rendered_map_index", None),
        "returns_dag_result": bool(getattr(task, "returns_dag_result", False)),
        "a listener waits for the end of tasks": has_success_listeners(),
    }
    return next((why for why, holds in reasons.items() if holds), None)


def leave(task: ChatCompletionOperator, ti: Any, entry: Entry, ledger: Ledger, replies: list[Reply]) -> NoReturn:
    """Write the journal's first entry and let the task wait for its trigger. ``replies``: those that came before."""
    from airflow_chat_provider.triggers import ChatCompletionTrigger

    journal, limit = Journal.of(ti), task.execution_timeout
    journal.write(entry)
    ledger.hand_over(entry.key, replies)  # after the journal: a worker that ends here has made no trigger
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


def find(ti: Any, event: Any, *, on_uncertain: str) -> Found:
    """What became of a deferred call, by its trigger's event and its journal."""
    state, detail = _read(event)
    journal, entry = Journal.of(ti), None
    try:
        entry = journal.read()
    except Unusable as unusable:
        if unusable.why == "missing" and is_left(journal):
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


def _read(event: Any) -> tuple[str, str | None]:
    if event is None:
        return "no event", None
    if event == _ENDED:
        return _ENDED, None
    if not isinstance(event, dict) or event.get("version") != VERSION or not isinstance(event.get("state"), str):
        return "strange event", None
    return event["state"], event.get("error")


def _strange(reply: Reply, state: str) -> ChatCompletionError:
    message = f"See the reply in XCom (body, status), and clear the task to ask again: {_WHY[state]}"
    error = ChatCompletionError(message, status=reply.status, request_id=reply.request_id, body=reply.body)
    error.final = True
    return error


def _time_out(entry: Entry | None) -> BaseException:
    from airflow_chat_provider.airflow_api.compat import AirflowTaskTimeout

    waits = entry is not None and entry.state == "ready" and entry.owner is None
    where = "before a trigger took it up; is a triggerer running?" if waits else "while the request was under way"
    return AirflowTaskTimeout(f"The task's execution_timeout ran out {where}")


def _lost(why: str, state: str, entry: Entry | None, on_uncertain: str) -> TransportError:
    """There is no reply: may there have been one?"""
    if state == "outdated" or (entry is not None and entry.state == "ready"):
        return TransportError(f"Try again: the request was not sent, {why}", sent=False)
    key = f" (Idempotency-Key {entry.key})" if entry is not None else ""
    if on_uncertain == "resend":
        return TransportError(f"Try again: {why}; the request may have been paid for{key}", sent=True)
    message = (
        f"Find out if the server answered{key}, then clear the task to ask again, or set on_uncertain='resend': "
        f"the request may have been paid for, and {why}"
    )
    return TransportError(message, sent=True, final=True)
