"""What a call writes into the log: a line for each attempt that failed, one for a long wait, and one at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_chat_provider.core.answer.usage import currency_of, total_of
from airflow_chat_provider.core.cost.prices import shown
from airflow_chat_provider.core.server.scrub import printable
from airflow_chat_provider.core.spelling import plural

if TYPE_CHECKING:
    from airflow_chat_provider.airflow_api.connections import Log
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.call.steps import Send, Sleep
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.errors import ChatCompletionError
    from airflow_chat_provider.core.types import JSONObject

LONG = 15.0
"""Seconds without an answer after which the log says that it is waited for. Most answers take less."""
_LONGEST_MODEL = 200  # characters of a model's name
_ABSURD = 10**18  # tokens: a larger count is the server's mistake, and Python may refuse to write it
_LONGEST_WHY = 500  # characters of what went wrong; the error at the end has all of it


class CallLog:
    """Writes the lines of the calls over one connection. No prompt, answer or key is in them."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log

    def failed(self, step: Sleep) -> None:
        """An attempt failed, and the wait before the next one begins."""
        most = self._settings.max_attempts
        self._log.warning(
            "Attempt %d of %d failed, the next one begins in %s: %s",
            step.attempt,
            most,
            duration(step.seconds),
            what_went_wrong(step.error),
        )

    def waits(self, send: Send) -> None:
        """Nothing has come for ``LONG`` seconds."""
        self._log.info(
            "Still waiting for an answer after %.0f s (attempt %d of %d, which may take %s)",
            LONG,
            send.attempt,
            self._settings.max_attempts,
            duration(send.timeout),
        )

    def ended(self, request: JSONObject, reply: Reply) -> None:
        """The call is over: a line for its last attempt if that failed, and one for the call."""
        if reply.error is not None and not reply.attempts:
            self._log.warning("Nothing was sent: %s", what_went_wrong(reply.error))
        elif reply.error is not None:
            self._log.warning(
                "Attempt %d of %d failed, no other one follows: %s",
                reply.attempts,
                max(reply.attempts, self._settings.max_attempts),
                what_went_wrong(reply.error),
            )
        self._log.info("Chat completion: %s", ", ".join(_numbers(request, reply)))


def _numbers(request: JSONObject, reply: Reply) -> list[str]:
    """What README promises of the line, without what is not known. Tokens and cost are those of all attempts."""
    model, messages = request.get("model"), request.get("messages")
    counts = [tokens for attempt in (*reply.earlier, reply) if (tokens := attempt.tokens) is not None]
    tokens, (_, cost) = sum(counts) if counts else None, total_of(reply)
    found = [
        f"model {printable(str(model)[:_LONGEST_MODEL])}" if model is not None else "",
        plural(len(messages) if isinstance(messages, list) else 0, "message"),
        f"status {reply.status}" if reply.status is not None else "no answer",
        plural(reply.attempts, "attempt"),
        f"{reply.seconds:.2f} s",
        plural(tokens, "token") if tokens is not None and abs(tokens) < _ABSURD else "",
        "" if cost is None else shown(cost, currency_of(reply)),
        f"request id {printable(str(reply.request_id))}" if reply.request_id is not None else "",
    ]
    return [part for part in found if part]


def what_went_wrong(error: ChatCompletionError) -> str:
    """An error in one line of the log, without the advice where that is known to be a part of its own."""
    return printable((error.why or error.message)[:_LONGEST_WHY])


def duration(seconds: float) -> str:
    """``0.35 s``, ``12 s``, ``10 min``: as exact as a reader wants to know it."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
