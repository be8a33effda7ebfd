"""A deferred call as its trigger leads it: which request is next, and what its replies come to."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.result import Delivery, Outcome, outcome
from airflow_chat_provider.durable.entry import Entry
from airflow_chat_provider.durable.ledger import key_of_call


class Conversation:
    """Made of the journal's entry alone, so that whoever finds the entry goes on where another one ended.

    ``dialogue`` is None where only a worker can tell if an answer is what was wanted. ``final`` is the reply that ends
    the dialogue, None while there is another call to make.
    """

    def __init__(self, entry: Entry) -> None:
        deferred = entry.deferred
        self._deferred = deferred
        self._key = entry.key
        self.final: Reply | None = None
        self.dialogue: Dialogue | None = None
        if deferred.wanted is not None:
            question = deferred.question or deferred.request
            self.dialogue = Dialogue(question, Wanted.from_dict(deferred.wanted), deferred.rung)
            for reply in entry.received():
                self.hear(reply)
        elif entry.state == "done":
            self.hear(entry.received()[-1])

    @property
    def request(self) -> dict[str, Any]:
        """What is to be sent now."""
        return self._deferred.request if self.dialogue is None else self.dialogue.request

    @property
    def key(self) -> str:
        """Its Idempotency-Key."""
        if self.dialogue is None:
            return self._key
        return key_of_call(self._deferred.idempotency_key, self.dialogue.call, self.request)

    def hear(self, reply: Reply) -> None:
        self.final = reply if self.dialogue is None else self.dialogue.take(reply)

    def outcome(self) -> Outcome | None:
        """What the task leaves; None where a worker has to see to it."""
        if self.final is None or self.dialogue is None or self._deferred.delivery is None:
            return None
        how = Delivery(**self._deferred.delivery)
        left = outcome(how, self.dialogue.question, self.final, self._deferred.configuration)
        return left if left.error is None else None
