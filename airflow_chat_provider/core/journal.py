"""The journal of a deferred call: one entry, from which whoever finds it knows what may be done.

    ready     the worker has left the request; nothing was sent
    sent      a request is under way, or was when its triggerer ended
    waiting   an attempt failed in a way that allows for another, which is due ``until`` (epoch seconds)
    done      the outcome is here

Only plain JSON, since it lies in XCom; request and reply are texts in it, which no store looks into.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

from airflow_chat_provider.core import record
from airflow_chat_provider.core.exchange import Begun
from airflow_chat_provider.core.response import Reply

VERSION = 1
KEY = "chat_journal"
_STATES = ("ready", "sent", "waiting", "done")


class Unusable(Exception):
    """There is no entry to go by; ``why`` is ``missing``, ``foreign``, ``newer`` or ``other_try``."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Deferred(NamedTuple):
    """What the worker hands over: the prepared request, and all that its reply is delivered with."""

    limits: dict[str, float]
    request: dict[str, Any]
    configuration: dict[str, Any]
    ledger: dict[str, Any]
    idempotency_key: str
    dialogue: dict[str, Any]

    @property
    def conn_id(self) -> str:
        return str(self.configuration["chat_conn_id"])


@dataclass(frozen=True)
class Entry:
    """One state of a call's journal."""

    try_number: int
    call: str
    state: str = "ready"
    attempt: int = 1
    elapsed: float = 0.0
    until: float = 0.0
    outcome: str | None = None

    @classmethod
    def of(cls, deferred: Deferred, try_number: int) -> Entry:
        """The first entry, which the worker writes."""
        return cls(try_number, json.dumps(deferred._asdict(), separators=(",", ":")))

    @classmethod
    def read(cls, value: Any, try_number: int) -> Entry:
        """What was found under KEY; raises Unusable."""
        if value is None:
            raise Unusable("missing")
        if not isinstance(value, dict) or not isinstance(value.get("version"), int):
            raise Unusable("foreign")
        if value["version"] > VERSION:
            raise Unusable("newer")
        try:
            entry = cls(**{field.name: value[field.name] for field in fields(cls)})
            entry._check()
        except (KeyError, TypeError, ValueError):
            raise Unusable("foreign") from None
        if entry.try_number != try_number:
            raise Unusable("other_try")
        return entry

    def _check(self) -> None:
        """Raise what reading it raises, now and not when a request depends on it."""
        _ = self.deferred.conn_id, len(self.deferred.idempotency_key), self.begun.elapsed + self.until + self.attempt
        if self.state not in _STATES or (self.reply is not None) != (self.state == "done"):
            raise ValueError(self.state)

    def to_dict(self) -> dict[str, Any]:
        return {"version": VERSION, **{field.name: getattr(self, field.name) for field in fields(self)}}

    @cached_property
    def deferred(self) -> Deferred:
        return Deferred(**json.loads(self.call))

    @property
    def begun(self) -> Begun:
        return Begun(self.attempt, self.elapsed)

    @cached_property
    def reply(self) -> Reply | None:
        return record.load(self.outcome) if self.outcome is not None else None

    def sent(self, attempt: int, elapsed: float) -> Entry:
        return replace(self, state="sent", attempt=attempt, elapsed=elapsed)

    def waiting(self, elapsed: float, until: float) -> Entry:
        return replace(self, state="waiting", attempt=self.attempt + 1, elapsed=elapsed, until=until)

    def done(self, reply: Reply) -> Entry:
        return replace(self, state="done", outcome=record.dump(reply))
