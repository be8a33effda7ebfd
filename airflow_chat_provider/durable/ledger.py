"""What a task knows of its earlier tries, so that a crash pays for no answer twice and a second ask is a second call.

Airflow 3.3 keeps it in the task state store, which outlives a try. A clear is a deliberate second ask: it changes
``max_tries`` or the run's ``clear_number``, and what was written before it counts no more. From Airflow 3.4 on a task
may be rescheduled, which keeps the number of its try: that counts as another try here.

An operator that is executed inside another task has the other one's task instance. It keeps what it knows under a key
of its own, made of its task_id, its request, and how often the running try has asked the same before. So does whoever
executes a task's operator more than once.

Whatever Airflow has against it, a reply that is here is paid for: no failure of the store fails a task that has one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow_chat_provider.core.answer import record
from airflow_chat_provider.core.errors import StatusError, TransportError
from airflow_chat_provider.core.request.json_values import encode
from airflow_chat_provider.retry_policy import may_reschedule, reschedules, waits_for_server

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.errors import ChatCompletionError

KEY = "chat_ledger"
log = logging.getLogger(__name__)
_RETENTION = timedelta(days=3)  # more than the longest delay of a retry


class _Turns:
    """Numbers the asks of the same within a try, from 1. Threads may ask at once.

    One that came to nothing leaves its number, and how often it was asked, to the next one, which takes its place.
    """

    def __init__(self) -> None:
        self._new = itertools.count(1)
        self._left: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int]:
        try:
            return self._left.pop()
        except IndexError:
            return next(self._new), 0

    def leave(self, number: int, asked: int) -> None:
        self._left.append((number, asked))


_turns: dict[tuple[Any, ...], _Turns] = {}
"""Of the task that this process runs."""


class Ledger:
    """One for each try. ``idempotency_key`` belongs to the call, whoever sends it however often."""

    def __init__(
        self, context: Any, asked: int, digest: str, idempotency_key: str, place: tuple[Any, ...] = ()
    ) -> None:
        self._ti = context.get("ti")
        self._store = context.get("task_state_store")
        self._run = context.get("dag_run")
        self._rescheduled = reschedules(context) > 0
        self._asked = asked
        self._digest = digest
        self._place = place
        self._turn: tuple[_Turns, int] | None = None
        self._answers: list[str] = []
        self._is_out = False
        self.idempotency_key = idempotency_key

    @classmethod
    def open(
        cls,
        context: Any,
        request: dict[str, Any],
        base_url: str,
        *,
        on_uncertain: str = "fail",
        inside: str | None = None,
    ) -> tuple[Self, list[Reply]]:
        """For a try that has not asked yet; and the replies to this very request that an earlier try had got.

        ``inside``: the task_id of an operator that another task executes, whose task instance is in the context.
        Raises TransportError where an earlier try may have been answered and nobody knows: see ``hand_over``.
        """
        digest = hashlib.sha256(base_url.encode() + b"\n" + encode(request)).hexdigest()
        turns = _turns_of(context, inside, digest)
        number, left = turns.take()
        place = () if inside is None and number == 1 else (inside, number)
        ledger = cls(context, 0, digest, str(uuid.uuid4()), place)
        ledger._turn = turns, number
        found = ledger._read(on_uncertain)
        if ledger._ti is None or ledger._run is None:
            return ledger, []
        ledger._asked = max(found.get("asked", 0), left) if ledger._store is not None else ledger._ti.try_number
        ledger.idempotency_key = ledger._key()
        same = found.get("digest") == digest
        if found.get("out"):
            # Another request is another call: what became of the first is told, and keeps nobody from asking.
            _uncertain(found["out"], on_uncertain if same else "resend")
        return ledger, _replies(found.get("replies")) if same else []

    @classmethod
    def resume(cls, context: Any, state: dict[str, Any]) -> Self:
        """For a try that has asked, and was deferred."""
        ledger = cls(context, **state)
        ledger._is_out = True
        return ledger

    @property
    def state(self) -> dict[str, Any]:
        """For ``resume``. An operator inside another task is never deferred."""
        return {"asked": self._asked, "digest": self._digest, "idempotency_key": self.idempotency_key}

    def key_of(self, send: int, request: dict[str, Any]) -> str:
        """The key of one send of a dialogue, counted from 1."""
        return key_of_call(self.idempotency_key, send, request)

    def hand_over(self, key: str, replies: list[Reply]) -> None:
        """Note that a trigger is about to send the call of this key.

        Only a worker reaches the store. If this try ends before a worker has taken up what the trigger left, the next
        one finds the note; without it, it would ask again and nobody would know that it pays twice.
        """
        if self._may_retry and self._store is None:
            log.warning(
                "If this try ends once its deferred call is answered and before a worker has taken up the answer, the "
                "next one asks and pays again: before Airflow 3.3 there is no task state store to tell it"
            )
        self._write(asked=self._asked, replies=_dumped(replies), out=key)

    def keep(self, replies: list[Reply]) -> None:
        """Remember the answers of a dialogue, which were paid for, and that none is out."""
        self._answers = _dumped(replies)
        if self._answers:
            self._write(asked=self._asked, replies=self._answers)

    def close(self, error: ChatCompletionError) -> None:
        """The task fails with ``error``: where there was an answer, the next try asks anew, and by another key.

        What a server refused was no answer: a dialogue goes on after those that it had.
        """
        is_unknown = isinstance(error, TransportError)
        if self._turn is not None and (is_unknown or self._store is not None):
            turns, number = self._turn
            turns.leave(number, self._asked + (not is_unknown))
        if is_unknown:
            self.release()
            return
        answers = self._answers if isinstance(error, StatusError) else []
        self._write(needed=waits_for_server(error), asked=self._asked + 1, replies=answers)

    def release(self) -> None:
        """What became of the call that was handed over is known, so far as it can be."""
        if self._is_out:
            self._write(asked=self._asked, replies=[])

    @property
    def _may_retry(self) -> bool:
        """Can another try follow, or this one be run again? Where Airflow does not say, it may."""
        tries, most = (getattr(self._ti, name, None) for name in ("try_number", "max_tries"))
        if not (isinstance(tries, int) and isinstance(most, int)) or tries <= most:
            return True
        policy = getattr(getattr(self._ti, "task", None), "retry_policy", None)
        return may_reschedule(policy, after_answer=not self._place)  # inside another task, other calls may follow

    @property
    def _store_key(self) -> str:
        return "_".join(map(str, (KEY, *self._place, self._digest[:16]))) if self._place else KEY

    def _epoch(self) -> list[Any]:
        return [getattr(self._ti, "max_tries", None), getattr(self._run, "clear_number", None), *self._region()]

    def _region(self) -> list[Any]:
        """The iteration of a loop, from Airflow 3.4 on; nothing outside of loops."""
        region = getattr(self._ti, "region_id", None)
        return [str(region), self._ti.region_index] if region is not None and region.int else []

    def _key(self) -> str:
        """Made of what is the same in each try of this run alone, so that it needs no store to be known again."""
        ti = self._ti
        began = str(getattr(self._run, "start_date", None))  # tells apart two Airflows with the same DAG
        where = [began, ti.dag_id, ti.run_id, ti.task_id, ti.map_index, *self._place]
        parts = [*where, *self._epoch(), self._asked, self._digest]
        return str(uuid.UUID(bytes=hashlib.sha256(json.dumps(parts).encode()).digest()[:16], version=5))

    def _read(self, on_uncertain: str) -> dict[str, Any]:
        if self._store is None or self._ti is None or not (self._ti.try_number > 1 or self._rescheduled):
            return {}
        try:
            found = self._store.get(self._store_key)
        except Exception as error:  # noqa: BLE001 - each backend has errors of its own
            why = f"Airflow's task state store cannot be read ({type(error).__name__})"
            if on_uncertain != "resend":
                raise TransportError(
                    f"Mend it and try again, or set on_uncertain='resend': {why}, so nobody knows whether an earlier "
                    "try was answered. Nothing was sent",
                    sent=False,
                ) from None
            log.warning("The request may be paid for twice: %s, so nobody knows whether it was answered", why)
            return {}
        return found if isinstance(found, dict) and found.get("epoch") == self._epoch() else {}

    def _write(self, *, needed: bool = False, **values: Any) -> None:
        """``needed``: this try is to be run again, whatever number of tries is left."""
        if self._store is None or self._ti is None or not (needed or self._may_retry):
            return
        entry = {"epoch": self._epoch(), "digest": self._digest, **values}
        self._is_out = "out" in values
        try:
            self._store.set(self._store_key, entry, retention=_RETENTION)
        except Exception as error:  # noqa: BLE001 - the answer is here all the same
            said = getattr(getattr(error, "error", None), "error", None) or type(error).__name__
            log.warning("Airflow did not take the reply into its task state store: %s", said)


def _turns_of(context: Any, task_id: str | None, digest: str) -> _Turns:
    ti = context.get("ti")
    if getattr(ti, "id", None) is None:
        return _Turns()
    return _turns.setdefault((ti.id, ti.try_number, reschedules(context), task_id, digest), _Turns())


def key_of_call(idempotency_key: str, call: int, request: dict[str, Any]) -> str:
    """The Idempotency-Key of one call of a dialogue (counted from 1): the first one's, and what tells this one apart.

    So an error that names the first one names all that were made after it.
    """
    if call == 1:
        return idempotency_key
    return f"{idempotency_key}.{call}.{hashlib.sha256(encode(request)).hexdigest()[:12]}"


def _uncertain(key: Any, on_uncertain: str) -> None:
    what = (
        f"an earlier try handed the call to a trigger (Idempotency-Key {str(key)[:64]}) and ended before a worker had "
        "taken up the answer"
    )
    if on_uncertain != "resend":
        raise TransportError(
            "Find out if the server answered, then clear the task to ask again, or set on_uncertain='resend': the "
            f"request may have been paid for, and {what}",
            sent=True,
            final=True,
        )
    log.warning("The task asks again, and may pay twice: %s", what)


def _dumped(replies: list[Reply]) -> list[str]:
    return [record.dump(reply) for reply in replies if reply.error is None]


def _replies(kept: Any) -> list[Reply]:
    """What was kept; none where somebody has changed it: anyone may, who may edit a task's state."""
    try:
        return [record.load(text) for text in kept or ()]
    except (KeyError, TypeError, ValueError):
        return []
