"""What a task knows of its earlier tries, so that a crash pays for no answer twice and a second ask is a second call.

Airflow 3.3 keeps it in the task state store, which outlives a try. A clear is a deliberate second ask: it changes
``max_tries`` or the run's ``clear_number``, and what was written before it counts no more.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow_chat_provider.core import record
from airflow_chat_provider.core.errors import TransportError
from airflow_chat_provider.core.plain import encode

if TYPE_CHECKING:
    from airflow_chat_provider.core.errors import ChatCompletionError
    from airflow_chat_provider.core.response import Reply

KEY = "chat_ledger"
log = logging.getLogger(__name__)
_RETENTION = timedelta(days=3)  # more than the longest delay of a retry


class Ledger:
    """One for each try. ``idempotency_key`` belongs to the call, whoever sends it however often."""

    def __init__(self, context: Any, asked: int, digest: str, idempotency_key: str) -> None:
        self._ti = context.get("ti")
        self._store = context.get("task_state_store")
        self._run = context.get("dag_run")
        self._asked = asked
        self._digest = digest
        self.idempotency_key = idempotency_key

    @classmethod
    def open(cls, context: Any, request: dict[str, Any], base_url: str) -> tuple[Self, list[Reply]]:
        """For a try that has not asked yet; and the replies to this very request that an earlier try had got."""
        digest = hashlib.sha256(base_url.encode() + b"\n" + encode(request)).hexdigest()
        ledger = cls(context, 0, digest, str(uuid.uuid4()))
        found = ledger._read()
        if ledger._ti is None or ledger._run is None:
            return ledger, []
        ledger._asked = found.get("asked", 0) if ledger._store is not None else ledger._ti.try_number
        ledger.idempotency_key = ledger._key()
        return ledger, _replies(found.get("replies")) if found.get("digest") == digest else []

    @classmethod
    def resume(cls, context: Any, state: dict[str, Any]) -> Self:
        """For a try that has asked, and was deferred."""
        return cls(context, **state)

    @property
    def state(self) -> dict[str, Any]:
        return {"asked": self._asked, "digest": self._digest, "idempotency_key": self.idempotency_key}

    def key_of(self, send: int, request: dict[str, Any]) -> str:
        """The key of one send of a dialogue, counted from 1."""
        if send == 1:
            return self.idempotency_key
        digest = hashlib.sha256(encode(request)).hexdigest()
        return str(uuid.uuid5(uuid.UUID(self.idempotency_key), f"{send} {digest}"))

    def keep(self, reply: Reply, after: int = 0) -> None:
        """Remember an answer that was paid for, the one ``after`` so many others of the same dialogue."""
        if reply.error is None:
            earlier = self._found().get("replies") if after else None
            kept = earlier[:after] if isinstance(earlier, list) else []
            self._write(asked=self._asked, replies=[*kept, record.dump(reply)])

    def close(self, error: ChatCompletionError) -> None:
        """The task fails with ``error``: where there was an answer, the next try asks anew, and by another key."""
        if not isinstance(error, TransportError):
            self._write(asked=self._asked + 1, replies=[])

    def _epoch(self) -> list[Any]:
        return [getattr(self._ti, "max_tries", None), getattr(self._run, "clear_number", None)]

    def _key(self) -> str:
        """Made of what is the same in each try of this run alone, so that it needs no store to be known again."""
        ti = self._ti
        began = str(getattr(self._run, "start_date", None))  # tells apart two Airflows with the same DAG
        parts = [began, ti.dag_id, ti.run_id, ti.task_id, ti.map_index, *self._epoch(), self._asked, self._digest]
        return str(uuid.UUID(bytes=hashlib.sha256(json.dumps(parts).encode()).digest()[:16], version=5))

    def _read(self) -> dict[str, Any]:
        return self._found() if self._ti is not None and self._ti.try_number > 1 else {}

    def _found(self) -> dict[str, Any]:
        if self._store is None or self._ti is None:
            return {}
        found = self._store.get(KEY)
        return found if isinstance(found, dict) and found.get("epoch") == self._epoch() else {}

    def _write(self, **values: Any) -> None:
        if self._store is None or self._ti is None:
            return
        from airflow.sdk.exceptions import AirflowRuntimeError

        entry = {"epoch": self._epoch(), "digest": self._digest, **values}
        try:
            self._store.set(KEY, entry, retention=_RETENTION)
        except AirflowRuntimeError as error:  # the answer is here all the same
            log.warning("Airflow did not take the reply into its task state store: %s", error.error.error)


def _replies(kept: Any) -> list[Reply]:
    """What was kept; none where somebody has changed it: anyone may, who may edit a task's state."""
    try:
        return [record.load(text) for text in kept or ()]
    except (KeyError, TypeError, ValueError):
        return []
