"""The journal of a deferred call: one entry, which tells whoever finds it what may be done next.

    ready     the worker has left the request; nothing was sent
    sent      an attempt is under way, or was when its triggerer ended
    waiting   an attempt failed and the next one is due at ``until`` (epoch seconds)
    done      the call has ended, and its reply is the last of ``replies``; its dialogue may go on with another call

Whoever writes ``sent``, ``waiting`` or ``done`` signs it as ``owner`` with a token of its own. Two triggers may work
for one task after a triggerer was frozen and came back; only the one that finds its own entry unchanged goes on.

The entry is plain JSON, since it lies in XCom. Request and replies are texts in it, so no XCom backend parses them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

from airflow_chat_provider.core.answer import record
from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
from airflow_chat_provider.core.answer.result import Delivery, Outcome, outcome
from airflow_chat_provider.core.call.steps import Begun
from airflow_chat_provider.core.cost.budget import Amount, Budget, Limits
from airflow_chat_provider.core.request.attachments import Attachments
from airflow_chat_provider.durable.ledger import key_of_call

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.types import JSON, JSONObject

VERSION = 2
KEY = "chat_journal"
State: TypeAlias = Literal["ready", "sent", "waiting", "done"]
Flaw: TypeAlias = Literal["missing", "foreign", "newer"]
"""Why there is no entry to go by: none is there, something else is, or a newer version wrote it."""
Ending: TypeAlias = (
    Flaw | Literal["done", "ended", "uncertain", "spent", "unstored", "overtaken", "timed_out", "outdated", "failed"]
)
"""How a trigger ended its work; but for ``ended``, the ``state`` of its event. ``handoff`` tells the user of each."""
TEXTS = ("call", "replies")
"""The fields of an entry that grow with the request and its answers."""


class Unusable(Exception):
    """There is no entry to go by."""

    def __init__(self, why: Flaw) -> None:
        super().__init__(why)
        self.why = why


class Deferred(NamedTuple):
    """What the worker hands over: the request, and all that is needed to judge and deliver its replies.

    ``request`` is prepared and in the form of ``rung``; ``question`` is the same before that, or None if it is no
    different. ``wanted`` (see ``Wanted``) says what an answer has to be; None if only a worker can tell, because it is
    a class of the DAG's. ``delivery`` (see ``Delivery``) says how the trigger ends the task; None if a worker has to.
    """

    limits: dict[str, float]
    request: dict[str, Any]
    question: dict[str, Any] | None
    rung: int
    wanted: dict[str, Any] | None
    delivery: dict[str, Any] | None
    configuration: dict[str, Any]
    ledger: dict[str, Any]
    attachments: dict[str, Any] | None = None
    """The paths of files (see ``Attachments``). Whoever sends reads them."""
    budget: dict[str, Any] | None = None
    """What may be spent (see ``Limits`` in core/cost/budget.py); None if there is no limit."""

    def __repr__(self) -> str:
        return f"Deferred({self.conn_id!r})"  # without the prompt

    @property
    def conn_id(self) -> str:
        return str(self.configuration["chat_conn_id"])

    @property
    def idempotency_key(self) -> str:
        """The key of the dialogue's first call; see ``key_of_call``."""
        return str(self.ledger["idempotency_key"])


@dataclass(frozen=True, repr=False)
class Entry:
    """One state of a call's journal.

    ``call`` is a Deferred as JSON. ``key`` is the Idempotency-Key of the call that is due or under way, ``elapsed``
    the seconds that this call has taken. ``replies`` is a JSON list of texts by ``record.dump``, oldest first.
    ``spent`` (see ``Amount``) is what the task has spent of its limits, with what is under way; None if it has none.
    """

    call: str
    key: str
    state: State = "ready"
    owner: str | None = None
    attempt: int = 1
    elapsed: float = 0.0
    until: float = 0.0
    replies: str = "[]"
    spent: JSONObject | None = None

    def __repr__(self) -> str:
        return f"Entry({self.stamp})"  # without request and replies

    @classmethod
    def from_deferred(
        cls, deferred: Deferred, key: str, replies: list[Reply] | None = None, spent: Amount | None = None
    ) -> Entry:
        """The first entry, which the worker writes. ``replies``: those to earlier calls of the dialogue."""
        values = deferred._asdict()
        if values["budget"] is None:  # a triggerer of an older version does not know it
            del values["budget"]
        call = json.dumps(values, separators=(",", ":"))
        replied = _joined([record.dump(reply) for reply in replies or ()])
        return cls(call, key, replies=replied, spent=None if spent is None else spent.to_dict())

    @classmethod
    def read(cls, value: JSON) -> Entry:
        """An entry from what lies in XCom. Raises Unusable."""
        entry = cls._shaped(value)
        try:
            _ = entry.deferred.conn_id, len(entry.deferred.idempotency_key), list(map(record.load, entry.texts))
            _ = entry.budget
        except (KeyError, TypeError, ValueError):
            raise Unusable("foreign") from None
        return entry

    @classmethod
    def read_head(cls, value: JSON) -> Entry:
        """The same without its TEXTS, which may lie elsewhere. Raises Unusable."""
        return cls._shaped({**value, **dict.fromkeys(TEXTS, "[]")} if isinstance(value, dict) else value)

    @classmethod
    def _shaped(cls, value: JSON) -> Entry:
        if value is None:
            raise Unusable("missing")
        if not isinstance(value, dict) or not isinstance(value.get("version"), int):
            raise Unusable("foreign")
        if value["version"] > VERSION:
            raise Unusable("newer")
        try:
            known = {"spent": None, **value}  # which an older version does not write
            entry = cls(**{field.name: known[field.name] for field in fields(cls)})
            _ = entry.begun.elapsed + entry.until + entry.attempt
        except (KeyError, TypeError):
            raise Unusable("foreign") from None
        if (
            entry.state not in get_args(State)
            or not isinstance(value["owner"], str | None)
            or type(value["key"]) is not str
        ):
            raise Unusable("foreign")
        return entry

    def to_dict(self) -> dict[str, Any]:
        return {"version": VERSION, **{field.name: getattr(self, field.name) for field in fields(self)}}

    @property
    def stamp(self) -> tuple[object, ...]:
        """Equal for two entries only if nobody wrote between them."""
        return self.state, self.owner, self.key, self.attempt, self.elapsed, self.until

    @property
    def budget(self) -> Budget | None:
        """What is left of the task's limits, for a trigger; None if it has none."""
        limits = self.deferred.budget
        return None if limits is None else Budget(Limits.from_dict(limits), Amount.from_dict(self.spent))

    @cached_property
    def deferred(self) -> Deferred:
        return Deferred(**json.loads(self.call))

    @property
    def begun(self) -> Begun:
        """How far the call had come. An attempt whose end nobody knows counts as made."""
        return Begun(self.attempt + (self.state == "sent"), self.elapsed)

    @cached_property
    def texts(self) -> list[str]:
        texts = json.loads(self.replies)
        if not isinstance(texts, list) or (self.state == "done" and not texts):
            raise ValueError("replies: not a list, or an empty one")
        return texts

    def received(self) -> list[Reply]:
        """The replies so far, read anew each time, so that the caller may change them."""
        return [record.load(text) for text in self.texts]

    def sent(self, owner: str, key: str, attempt: int, elapsed: float) -> Entry:
        return replace(self, state="sent", owner=owner, key=key, attempt=attempt, elapsed=elapsed)

    def waiting(self, owner: str, elapsed: float, until: float) -> Entry:
        """``elapsed`` includes the wait."""
        attempt = self.attempt + (self.state == "sent")
        return replace(self, state="waiting", owner=owner, attempt=attempt, elapsed=elapsed, until=until)

    def done(self, owner: str, dumped: str) -> Entry:
        """With one more reply (a text by ``record.dump``), and ready for the first attempt of another call."""
        texts = _joined([*self.texts, dumped])
        return replace(self, state="done", owner=owner, attempt=1, elapsed=0.0, until=0.0, replies=texts)


def _joined(texts: list[str]) -> str:
    return json.dumps(texts, separators=(",", ":"))


class Conversation:
    """A deferred dialogue as its trigger leads it: made from the entry alone, for whoever finds that to go on with.

    ``dialogue`` is None if only a worker can tell whether an answer fits: then the first reply is final for the
    trigger. ``final`` is the reply that ends the conversation; None while another call is due.
    """

    def __init__(self, entry: Entry) -> None:
        self._deferred = deferred = entry.deferred
        self._key = entry.key
        self.dialogue: Dialogue | None = None
        self.final: Reply | None = None
        self._replies = entry.received()
        if deferred.wanted is not None:
            question = deferred.question or deferred.request
            self.dialogue = Dialogue(question, Wanted.from_dict(deferred.wanted), deferred.rung)
            self.final = self.dialogue.replay(self._replies)
        elif entry.state == "done":
            self.final = self._replies[-1]

    @property
    def request(self) -> JSONObject:
        """The request of the call that is due."""
        return self._deferred.request if self.dialogue is None else self.dialogue.request

    @property
    def key(self) -> str:
        """The Idempotency-Key of the call that is due."""
        if self.dialogue is None:
            return self._key
        return key_of_call(self._deferred.idempotency_key, self.dialogue.call, self.request)

    @property
    def attachments(self) -> Attachments:
        return Attachments.from_dict(self._deferred.attachments)

    def take(self, reply: Reply) -> Reply | None:
        """See ``Dialogue.take``."""
        self._replies.append(reply)
        self.final = reply if self.dialogue is None else self.dialogue.take(reply)
        return self.final

    def outcome(self) -> Outcome | None:
        """What the task leaves; None if a worker has to decide that, or to raise its error."""
        if self.final is None or self.dialogue is None or self._deferred.delivery is None:
            return None
        how = Delivery(**self._deferred.delivery)
        found = outcome(how, self.dialogue.question, self.final, self._deferred.configuration, self._replies)
        return found if found.error is None else None
