"""The errors that a chat completion can end with. They are plain data: each survives pickle and JSON."""

from __future__ import annotations

from typing import Any


class ChatCompletionError(Exception):
    """A chat completion that failed. ``message`` starts with what its reader can do.

    - ``status``: the HTTP status, if a response began
    - ``code``: the server's own error code
    - ``request_id``: the server's name for the request, which its support may ask for
    - ``retry_after``: seconds that the server asked to wait, if that wait was not made
    - ``body``: what was received (parsed JSON or text); never the request
    - ``final``: True if running the task again cannot help
    """

    final: bool = False
    why: str = ""
    """What went wrong, without the advice; empty where ``message`` has no better part. It is lost in a pickle."""
    fields: tuple[str, ...] = ("status", "code", "request_id", "retry_after", "body")

    def __init__(self, message: str, **values: Any) -> None:
        super().__init__(message)
        self.message = message
        for name in self.fields:
            setattr(self, name, values.pop(name, _DEFAULTS.get(name)))
        if values:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(values))}")

    status: int | None
    code: str | int | None
    request_id: str | None
    retry_after: float | None
    body: Any

    def reword(self, message: str) -> None:
        """Replace the message, in ``str(error)`` too."""
        self.message = message
        self.args = (message,)

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON-ready data; ``ChatCompletionError.from_dict`` reads it back."""
        values = {name: getattr(self, name) for name in self.fields}
        return {"error": type(self).__name__, "message": self.message, **values}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ChatCompletionError:
        """The error that ``to_dict`` described; an unknown class reads as the base class."""
        values = dict(data)
        cls = _BY_NAME.get(values.pop("error", ""), ChatCompletionError)
        message = values.pop("message", "")
        return cls(message, **{name: values[name] for name in cls.fields if name in values})

    def __reduce__(self) -> tuple[Any, ...]:
        return ChatCompletionError.from_dict, (self.to_dict(),)


class InvalidRequest(ChatCompletionError, ValueError):
    """The request breaks its schema or a rule, or an argument is wrong; nothing was sent.

    ``path`` is a JSON path (``$.messages[0].role``), ``keyword`` the schema keyword or rule that was broken.
    """

    final: bool = True
    fields = (*ChatCompletionError.fields, "path", "keyword")
    path: str | None
    keyword: str | None


class InvalidConnection(ChatCompletionError, ValueError):
    """The Airflow connection cannot be used; ``field`` names the part to correct. Nothing was sent."""

    final: bool = True
    fields = (*ChatCompletionError.fields, "field")
    field: str | None


class TransportError(ChatCompletionError):
    """No complete response came. ``sent``: may the server have begun (and billed) the request?

    ``final`` is True if only a human can decide whether the request may be sent again.
    """

    fields = (*ChatCompletionError.fields, "sent", "final")
    sent: bool | None
    final: bool


class TransportTimeout(TransportError):
    """``connect_timeout``, ``timeout`` or ``deadline`` ran out."""


class StatusError(ChatCompletionError):
    """The server's last answer was 4xx or 5xx, or a 2xx that holds an error with such a code (``status`` is 2xx then).

    The message contains what the server says about it. ``final`` is True if the same request would be refused again
    (401, 404, an account without money, ``x-should-retry: false``).
    """

    fields = (*ChatCompletionError.fields, "final")
    final: bool


class RateLimited(StatusError):
    """429 or an overload, by whichever status, after every attempt. ``retry_after`` says when to try again."""


class ProtocolError(ChatCompletionError):
    """A 2xx that is not a chat completion: an error without a known code, HTML, no choices, cut off, or too large.

    ``broken`` is True if the answer ended early or never began (a stream without its end, blank lines). Another attempt
    may then bring it, so the request was sent again, up to ``max_attempts``.
    """

    fields = (*ChatCompletionError.fields, "broken")
    broken: bool


class IncompleteReply(ChatCompletionError):
    """The answer was cut off, filtered or aborted, or is a refusal.

    Raised with ``on_incomplete="fail"``, and always if there is no message at all.
    """


class InvalidOutput(ChatCompletionError, ValueError):
    """The answer is not JSON, or does not fit ``response_schema`` or the tools."""


class BudgetExceeded(ChatCompletionError):
    """``max_total_tokens`` or ``max_cost`` would be exceeded, so nothing was sent, or nothing more.

    ``limit`` names which of the two. What had come until then is kept, as it is with any error.
    """

    final: bool = True
    fields = (*ChatCompletionError.fields, "limit")
    limit: str | None


def kind_of(error: BaseException) -> str:
    """The name under which an error is counted, in a task's ``usage`` and in a batch: its class, and the status."""
    return kind_named(type(error).__name__, error.status if isinstance(error, ChatCompletionError) else None)


def kind_named(name: str, status: int | None) -> str:
    """``kind_of`` an error of which only this is known."""
    return name if status is None else f"{name} {status}"


_DEFAULTS = {"final": False, "broken": False}
# Ours alone: a class of the user's may have the name of one of ours.
_BY_NAME = {
    name: cls for name, cls in globals().items() if isinstance(cls, type) and issubclass(cls, ChatCompletionError)
}
