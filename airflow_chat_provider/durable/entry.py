"""The journal of a deferred call: one entry, from which whoever finds it knows what may be done.

    ready     the worker has left the request; nothing was sent
    sent      a request is under way, or was when its triggerer ended
    waiting   an attempt failed in a way that allows for another, which is due ``until`` (epoch seconds)
    done      the call has ended, its outcome is the last of ``replies``; a dialogue may go on with another call

Whoever writes ``sent``, ``waiting`` or ``done`` puts a token of its own there: the owner. Two triggers may work for one
task, where a triggerer was frozen and came back; only the one that finds its own words in the entry goes on.

Only plain JSON, since it lies in XCom; request and replies are texts in it, which no store looks into.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

from airflow_chat_provider.core.answer import record
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.steps import Begun

VERSION = 2
KEY = "chat_journal"
_STATES = ("ready", "sent", "waiting", "done")
TEXTS = ("call", "replies")
"""The fields of an entry that grow with what is asked and answered."""


class Unusable(Exception):
    """There is no entry to go by; ``why`` is ``missing``, ``foreign`` or ``newer``."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Deferred(NamedTuple):
    """What the worker hands over: the prepared request, and all that its replies are read and delivered with.

    ``question`` is the task's own request, before it was put into the form of ``rung``; ``wanted`` is what an answer
    has to be, None where only the worker can tell (a class of the DAG's). ``delivery`` says how the trigger ends the
    task, None where the worker has to. See ``Wanted`` and ``Delivery``.
    """

    limits: dict[str, float]
    request: dict[str, Any]
    question: dict[str, Any] | None
    rung: int
    wanted: dict[str, Any] | None
    delivery: dict[str, Any] | None
    configuration: dict[str, Any]
    ledger: dict[str, Any]

    def __repr__(self) -> str:
        return f"Deferred({self.conn_id!r})"  # nothing of the request

    @property
    def conn_id(self) -> str:
        return str(self.configuration["chat_conn_id"])

    @property
    def idempotency_key(self) -> str:
        """Of the first call of the dialogue; see ``key_of_call``."""
        return str(self.ledger["idempotency_key"])


@dataclass(frozen=True, repr=False)
class Entry:
    """One state of a call's journal.

    ``key`` is the Idempotency-Key of the call that is next or under way, ``replies`` a JSON list of what
    ``record.dump`` wrote, oldest first.
    """

    call: str
    key: str
    state: str = "ready"
    owner: str | None = None
    attempt: int = 1
    elapsed: float = 0.0
    until: float = 0.0
    replies: str = "[]"

    def __repr__(self) -> str:
        return f"Entry({self.stamp})"  # nothing of request and replies

    @classmethod
    def of(cls, deferred: Deferred, key: str, replies: list[Reply] | None = None) -> Entry:
        """The first entry, which the worker writes; ``replies`` came before."""
        call = json.dumps(deferred._asdict(), separators=(",", ":"))
        return cls(call, key, replies=_joined([record.dump(reply) for reply in replies or ()]))

    @classmethod
    def read(cls, value: Any) -> Entry:
        """What was found under KEY; raises Unusable."""
        entry = cls._shaped(value)
        try:
            _ = entry.deferred.conn_id, len(entry.deferred.idempotency_key), list(map(record.load, entry.texts))
        except (KeyError, TypeError, ValueError):
            raise Unusable("foreign") from None
        return entry

    @classmethod
    def read_head(cls, value: Any) -> Entry:
        """The same, of an entry whose texts may lie elsewhere. Raises Unusable."""
        return cls._shaped({**value, **dict.fromkeys(TEXTS, "[]")} if isinstance(value, dict) else value)

    @classmethod
    def _shaped(cls, value: Any) -> Entry:
        if value is None:
            raise Unusable("missing")
        if not isinstance(value, dict) or not isinstance(value.get("version"), int):
            raise Unusable("foreign")
        if value["version"] > VERSION:
            raise Unusable("newer")
        try:
            entry = cls(**{field.name: value[field.name] for field in fields(cls)})
            _ = entry.begun.elapsed + entry.until + entry.attempt
        except (KeyError, TypeError):
            raise Unusable("foreign") from None
        if entry.state not in _STATES or not isinstance(value["owner"], str | None) or type(value["key"]) is not str:
            raise Unusable("foreign")
        return entry

    def to_dict(self) -> dict[str, Any]:
        return {"version": VERSION, **{field.name: getattr(self, field.name) for field in fields(self)}}

    @property
    def stamp(self) -> tuple[Any, ...]:
        """What tells two states of one call apart, without its texts."""
        return self.state, self.owner, self.key, self.attempt, self.elapsed, self.until

    @cached_property
    def deferred(self) -> Deferred:
        return Deferred(**json.loads(self.call))

    @property
    def begun(self) -> Begun:
        """Where the call goes on: a send whose end nobody knows is an attempt that was made."""
        return Begun(self.attempt + (self.state == "sent"), self.elapsed)

    @cached_property
    def texts(self) -> list[str]:
        texts = json.loads(self.replies)
        if not isinstance(texts, list) or (self.state == "done" and not texts):
            raise ValueError("no list of replies, or an empty one")
        return texts

    def received(self) -> list[Reply]:
        """Each reply that came so far, fresh for whoever changes it."""
        return [record.load(text) for text in self.texts]

    def sent(self, owner: str, key: str, attempt: int, elapsed: float) -> Entry:
        return replace(self, state="sent", owner=owner, key=key, attempt=attempt, elapsed=elapsed)

    def waiting(self, owner: str, elapsed: float, until: float) -> Entry:
        """``elapsed`` counts the wait as over."""
        attempt = self.attempt + (self.state == "sent")
        return replace(self, state="waiting", owner=owner, attempt=attempt, elapsed=elapsed, until=until)

    def done(self, owner: str, dumped: str) -> Entry:
        """With one reply more (``record.dump``), and as before the first attempt of another call."""
        texts = _joined([*self.texts, dumped])
        return replace(self, state="done", owner=owner, attempt=1, elapsed=0.0, until=0.0, replies=texts)


def _joined(texts: list[str]) -> str:
    return json.dumps(texts, separators=(",", ":"))
