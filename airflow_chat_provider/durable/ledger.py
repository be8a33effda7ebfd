"""What a task knows of its earlier tries, so that after a crash no answer is paid for twice.

Airflow 3.3 keeps that in the task state store, which outlives a try. Clearing a task asks anew on purpose: it changes
``max_tries`` or the run's ``clear_number``, and what was written before no longer counts. From Airflow 3.4 on, a task
may be rescheduled without a new try number: that counts as another try here.

An operator that another task executes gets the other task's instance. It keeps its notes under a key of its own, made
of its task_id, its request, and how often the running try has sent the same request before. So does whoever executes
an operator more than once in a task.

A reply that is here is paid for: no failure of the store fails a task that has one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

from airflow_chat_provider.airflow_api.compat import may_reschedule, reschedules, waits_for_server
from airflow_chat_provider.core.answer import record
from airflow_chat_provider.core.errors import BudgetExceeded, StatusError, TransportError
from airflow_chat_provider.core.request.json_values import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.errors import ChatCompletionError
    from airflow_chat_provider.core.types import JSON, JSONObject

    Context: TypeAlias = Mapping[str, Any]

KEY = "chat_ledger"
log = logging.getLogger(__name__)
_RETENTION = timedelta(days=3)  # more than the longest delay of a retry


class _Turns:
    """Numbers the executions of one operator and request within a try, from 1. Threads may execute it at once.

    One that failed hands its number, and how many calls were answered under it, to the next, which takes its place.
    """

    def __init__(self) -> None:
        self._new = itertools.count(1)
        self._left: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int]:
        try:
            return self._left.pop()
        except IndexError:
            return next(self._new), 0

    def leave(self, number: int, answered: int) -> None:
        self._left.append((number, answered))


_turns: dict[tuple[object, ...], _Turns] = {}
"""Those of the task that this process runs."""


class Place(NamedTuple):
    """Where the notes on one request of a task lie in the task state store, and which notes still count.

    ``inside``: empty, or the task_id and number that tell this execution from others in the same task. ``name`` begins
    the key of the notes, and ``what`` they are is said where they cannot be stored.
    """

    context: Context
    digest: str
    inside: tuple[str | int | None, ...] = ()
    name: str = KEY
    what: str = "the reply"

    def __repr__(self) -> str:
        return f"Place({self.digest!r})"  # without the context

    @property
    def ti(self) -> Any:
        return self.context.get("ti")

    @property
    def store(self) -> Any:
        """None before Airflow 3.3."""
        return self.context.get("task_state_store")

    @property
    def key(self) -> str:
        return "_".join(map(str, (self.name, *self.inside, self.digest[:16]))) if self.inside else self.name

    @property
    def epoch(self) -> list[JSON]:
        """Changes when the task is cleared, and in each iteration of a loop (from Airflow 3.4 on)."""
        region = getattr(self.ti, "region_id", None)
        iteration = [str(region), self.ti.region_index] if region is not None and region.int else []
        return [
            getattr(self.ti, "max_tries", None),
            getattr(self.context.get("dag_run"), "clear_number", None),
            *iteration,
        ]

    def idempotency_key(self, asked: int) -> str:
        """Made only of what is the same in each try of this run, so that it is known again without any store.

        ``asked``: how many calls were answered before.
        """
        ti = self.ti
        began = str(getattr(self.context.get("dag_run"), "start_date", None))  # another Airflow may have the same DAG
        where = [began, ti.dag_id, ti.run_id, ti.task_id, ti.map_index, *self.inside]
        parts = [*where, *self.epoch, asked, self.digest]
        return str(uuid.UUID(bytes=hashlib.sha256(json.dumps(parts).encode()).digest()[:16], version=5))

    def may_retry(self, *, after_answer: bool) -> bool:
        """Can another try follow, or this one be run again? If Airflow does not say, it can.

        ``after_answer``: the server has answered, and no other call follows in the task.
        """
        tries, most = (getattr(self.ti, name, None) for name in ("try_number", "max_tries"))
        if not (isinstance(tries, int) and isinstance(most, int)) or tries <= most:
            return True
        policy = getattr(getattr(self.ti, "task", None), "retry_policy", None)
        return may_reschedule(policy, after_answer=after_answer)

    def notes(self) -> JSONObject:
        """The notes of an earlier try; empty if there are none. Raises what the store raises."""
        if self.store is None or self.ti is None or not (self.ti.try_number > 1 or reschedules(self.context)):
            return {}
        found = self.store.get(self.key)
        return found if isinstance(found, dict) and found.get("epoch") == self.epoch else {}

    def read(self, on_uncertain: str) -> JSONObject:
        """``notes``, or none where the user wants the request to be sent all the same. Raises TransportError."""
        try:
            return self.notes()
        except Exception as error:  # noqa: BLE001 - each backend has errors of its own
            why = f"Airflow's task state store cannot be read ({type(error).__name__})"
            if on_uncertain != "resend":
                raise TransportError(
                    f"Repair it and try again, or set on_uncertain='resend': {why}, so nobody knows whether an earlier "
                    "try was answered. Nothing was sent",
                    sent=False,
                ) from None
            log.warning("The request may be paid for twice: %s, so nobody knows whether it was answered", why)
            return {}

    def write(self, **values: JSON) -> None:
        entry = {"epoch": self.epoch, "digest": self.digest, **values}
        try:
            self.store.set(self.key, entry, retention=_RETENTION)
        except Exception as error:  # noqa: BLE001 - the answer is here all the same
            said = getattr(getattr(error, "error", None), "error", None) or type(error).__name__
            log.warning("Airflow could not store %s in its task state store: %s", self.what, said)


class Ledger:
    """One for each try. ``idempotency_key`` belongs to the call, whichever try makes its attempts."""

    def __init__(
        self,
        place: Place,
        asked: int,
        idempotency_key: str,
        *,
        turn: tuple[_Turns, int] | None = None,
        is_out: bool = False,
    ) -> None:
        self.idempotency_key = idempotency_key
        self._place = place
        self._asked = asked
        self._turn = turn
        self._answers: list[str] = []
        self._is_out = is_out
        """Does the store say that a trigger makes the call?"""

    @classmethod
    def open(
        cls,
        context: Context,
        request: JSONObject,
        base_url: str,
        *,
        on_uncertain: str = "fail",
        inside: str | None = None,
    ) -> tuple[Self, list[Reply]]:
        """For a try that has sent nothing yet; and the replies to this very request that an earlier try had got.

        ``inside``: the task_id of an operator that another task executes, whose task instance is in the context.
        Raises TransportError if an earlier try may have been answered and nobody knows: see ``hand_over``.
        """
        digest = hashlib.sha256(base_url.encode() + b"\n" + encode(request)).hexdigest()
        turns = _turns_of(context, inside, digest)
        number, answered = turns.take()
        place = Place(context, digest, () if inside is None and number == 1 else (inside, number))
        found = place.read(on_uncertain)
        if place.ti is None or context.get("dag_run") is None:
            return cls(place, 0, str(uuid.uuid4()), turn=(turns, number)), []
        asked = max(found.get("asked", 0), answered) if place.store is not None else place.ti.try_number
        ledger = cls(place, asked, place.idempotency_key(asked), turn=(turns, number))
        is_same = found.get("digest") == digest
        if found.get("out"):
            # Another request is another call: what may have become of the first is logged, and stops nobody.
            _uncertain(found["out"], on_uncertain if is_same else "resend")
        return ledger, _replies(found.get("replies")) if is_same else []

    @classmethod
    def resume(cls, context: Context, state: JSONObject) -> Self:
        """For a try that was deferred, from its ``state``."""
        return cls(Place(context, state["digest"]), state["asked"], state["idempotency_key"], is_out=True)

    @property
    def state(self) -> JSONObject:
        """For ``resume``. An operator inside another task is never deferred."""
        return {"asked": self._asked, "digest": self._place.digest, "idempotency_key": self.idempotency_key}

    def key_of(self, call: int, request: JSONObject) -> str:
        """The Idempotency-Key of one call of a dialogue, counted from 1."""
        return key_of_call(self.idempotency_key, call, request)

    def hand_over(self, key: str, replies: list[Reply]) -> None:
        """Note that a trigger is about to make the call of this Idempotency-Key.

        Only a worker reaches the store. If this try ends before a worker has taken up the trigger's reply, the next try
        finds the note; without it, it would send the request again, and nobody would know that it is paid for twice.
        """
        if self._place.store is None and self._may_retry:
            log.warning(
                "If this try ends after its deferred call was answered and before a worker has taken up the answer, "
                "the next try sends and pays again: it cannot know, because Airflow before 3.3 has no task state store"
            )
        self._write(asked=self._asked, replies=_dumped(replies), out=key)

    def keep(self, replies: list[Reply]) -> None:
        """Remember the answers of a dialogue, which were paid for, and that no trigger makes a call."""
        self._answers = _dumped(replies)
        if self._answers:
            self._write(asked=self._asked, replies=self._answers)

    def close(self, error: ChatCompletionError) -> None:
        """The task fails with ``error``: if there was an answer, the next try makes a new call, with another key.

        A refusal is not an answer: after one, the dialogue goes on from the answers that it had. So it does after a
        request that was not sent, because it would have cost too much.
        """
        is_unknown = isinstance(error, TransportError)
        if self._turn is not None and (is_unknown or self._place.store is not None):
            turns, number = self._turn
            turns.leave(number, self._asked + (not is_unknown))
        if is_unknown:
            self.release()
            return
        answers = self._answers if isinstance(error, StatusError | BudgetExceeded) else []
        self._write(needed=waits_for_server(error), asked=self._asked + 1, replies=answers)

    def release(self) -> None:
        """What became of the call that was handed over is now known, as far as it can be."""
        if self._is_out:
            self._write(asked=self._asked, replies=[])

    def _write(self, *, needed: bool = False, **values: JSON) -> None:
        """Write if somebody may read it. ``needed``: this try will be run again, however many tries are left."""
        place = self._place
        if place.store is not None and place.ti is not None and (needed or self._may_retry):
            self._is_out = "out" in values
            place.write(**values)

    @property
    def _may_retry(self) -> bool:
        return self._place.may_retry(after_answer=not self._place.inside)  # inside another task, other calls may follow


def _turns_of(context: Context, task_id: str | None, digest: str) -> _Turns:
    ti: Any = context.get("ti")
    if getattr(ti, "id", None) is None:
        return _Turns()
    return _turns.setdefault((ti.id, ti.try_number, reschedules(context), task_id, digest), _Turns())


def key_of_call(idempotency_key: str, call: int, request: JSONObject) -> str:
    """The Idempotency-Key of one call of a dialogue, counted from 1.

    It begins with the first call's, so an error that names the first call's key helps to find all of them.
    """
    if call == 1:
        return idempotency_key
    return f"{idempotency_key}.{call}.{hashlib.sha256(encode(request)).hexdigest()[:12]}"


def _uncertain(key: JSON, on_uncertain: str) -> None:
    what = "an earlier try handed the call to a trigger and ended before a worker had taken up the answer"
    name = f"(Idempotency-Key {str(key)[:64]})"
    if on_uncertain != "resend":
        raise TransportError(
            f"Find out whether the server answered: {what}. The request may have been paid for {name}. To send it "
            "again, clear the task, or set on_uncertain='resend'",
            sent=True,
            final=True,
        )
    log.warning("The task sends the request again and may pay for it twice: %s %s", what, name)


def _dumped(replies: list[Reply]) -> list[str]:
    return [record.dump(reply) for reply in replies if reply.error is None]


def _replies(kept: list[str] | None) -> list[Reply]:
    """The replies that were kept; none if somebody has changed them, as whoever may edit a task's state can."""
    try:
        return [record.load(text) for text in kept or ()]
    except (KeyError, TypeError, ValueError):
        return []
