"""A reply: the end of one call, and whether its body is a chat completion at all."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from airflow_chat_provider.core.answer.ending import ended_in_error, may_lack_message, remedy, unanswered
from airflow_chat_provider.core.errors import ChatCompletionError, IncompleteReply
from airflow_chat_provider.core.messages import text_of
from airflow_chat_provider.core.server.error_body import is_error
from airflow_chat_provider.core.types import JSON, JSONObject

_Error = TypeVar("_Error", bound=ChatCompletionError)


class Reply(NamedTuple):
    """What one call ended with, however many attempts it took.

    ``body`` is parsed JSON, or text if the server sent none; ``status`` is None if no response began. ``error`` is what
    is wrong with the reply, if anything. ``seconds`` is the time from the first attempt to the last byte. ``notes`` has
    a line for each attempt that was made again. ``changes`` says what was changed in ``body`` so that XCom can keep it,
    and ``doubts`` what was read otherwise than the server wrote it: sentences for a log, which quote nothing of the
    answer.
    """

    status: int | None
    body: Any
    headers: Mapping[str, str] = MappingProxyType({})
    request_id: str | None = None
    attempts: int = 1
    seconds: float = 0.0
    error: ChatCompletionError | None = None
    notes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Nothing of what was said: a reply may stand in a traceback or a log."""
        error = type(self.error).__name__ if self.error is not None else None
        return f"Reply(status={self.status}, attempts={self.attempts}, error={error})"

    def raise_for_error(self) -> Reply:
        """The reply itself; raises its error if it has one."""
        if self.error is not None:
            raise self.error
        return self

    def as_error(self, kind: type[_Error], message: str) -> _Error:
        """An error of this class about this reply, with its status, request id and body."""
        return kind(message, status=self.status, request_id=self.request_id, body=self.body)

    @property
    def message(self) -> JSONObject:
        """The first choice's message; empty if it has none."""
        return dict(self.body["choices"][0].get("message") or {})

    @property
    def text(self) -> str:
        """The first choice's text; empty if it has none."""
        return text_of(self.message.get("content"))

    @property
    def tokens(self) -> int | None:
        """All tokens of the call's last attempt; None if the server does not count them."""
        return tokens_of(self.body.get("usage") if isinstance(self.body, dict) else None)


def tokens_of(usage: JSON) -> int | None:
    """``total_tokens`` of a ``usage``, or the sum of its parts; None if it has no counts."""
    if not isinstance(usage, dict):
        return None
    if type(total := usage.get("total_tokens")) is int:
        return total
    for names in (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")):
        counts = [count for name in names if type(count := usage.get(name)) is int]
        if counts:
            return sum(counts)
    return None


def flaw(body: JSON, *, is_json: bool) -> str | None:
    """Why the body of a 2xx is not a chat completion; None if it is one."""
    if not is_json:
        return "an empty body" if not body else "text that is not JSON"
    if not isinstance(body, dict):
        return f"JSON that is not an object (a {type(body).__name__})" if body is not None else "the JSON null"
    if body.get("error") and is_error(body["error"]):
        return "an error in place of a completion"
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        return "a body without choices"
    for index, choice in enumerate(choices):
        if not isinstance(choice, dict):
            return f"choices[{index}] without a message"
        if ended_in_error(choice):
            return f"choices[{index}] that ended in an error"
        if not isinstance(choice.get("message"), dict) and not (index and may_lack_message(choice)):
            return f"choices[{index}] without a message"
    return None


def unanswered_error(reply: Reply) -> IncompleteReply | None:
    """The error of an answer that was cut off, filtered or aborted before there was a message; None for any other."""
    reason = unanswered(reply.body)
    return reply.as_error(IncompleteReply, f"{remedy(reply.body)}: {reason}") if reason is not None else None
