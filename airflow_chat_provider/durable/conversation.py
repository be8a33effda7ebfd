"""A deferred dialogue as its trigger leads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
from airflow_chat_provider.core.answer.result import Delivery, Outcome, outcome
from airflow_chat_provider.durable.ledger import key_of_call

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.types import JSONObject
    from airflow_chat_provider.durable.entry import Entry


class Conversation:
    """Made from the journal's entry alone, so that whoever finds the entry can go on with it.

    ``dialogue`` is None if only a worker can tell whether an answer fits: then the first reply is final for the
    trigger. ``final`` is the reply that ends the conversation; None while another call is due.
    """

    def __init__(self, entry: Entry) -> None:
        self._deferred = deferred = entry.deferred
        self._key = entry.key
        self.dialogue: Dialogue | None = None
        self.final: Reply | None = None
        if deferred.wanted is not None:
            question = deferred.question or deferred.request
            self.dialogue = Dialogue(question, Wanted.from_dict(deferred.wanted), deferred.rung)
            self.final = self.dialogue.replay(entry.received())
        elif entry.state == "done":
            self.final = entry.received()[-1]

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

    def take(self, reply: Reply) -> Reply | None:
        """See ``Dialogue.take``."""
        self.final = reply if self.dialogue is None else self.dialogue.take(reply)
        return self.final

    def outcome(self) -> Outcome | None:
        """What the task leaves; None if a worker has to decide that, or to raise its error."""
        if self.final is None or self.dialogue is None or self._deferred.delivery is None:
            return None
        how = Delivery(**self._deferred.delivery)
        found = outcome(how, self.dialogue.question, self.final, self._deferred.configuration)
        return found if found.error is None else None
