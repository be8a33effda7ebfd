"""What came for one row, as its calls go on: paid for, it belongs into the row's line whatever becomes of the row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.input.row import row_error
from airflow_chat_provider.batch.output.usage import together
from airflow_chat_provider.core.answer.result import output_error
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest, TransportError

if TYPE_CHECKING:
    from airflow_chat_provider.batch.input.row import Row
    from airflow_chat_provider.core.answer.reply import Reply


class Spent:
    """``reply`` is the last one, of any attempt; ``paid`` the last that was an answer, or says what it took."""

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self.paid: Reply | None = None
        self.usage: Any = None

    def take(self, reply: Reply) -> None:
        self.reply = reply
        usage = reply.body.get("usage") if isinstance(reply.body, dict) else None
        if isinstance(usage, dict):
            self.usage = together(self.usage, usage)
        if reply.error is None or (isinstance(usage, dict) and usage):
            self.paid = reply

    @property
    def ended(self) -> bool:
        """Did the last call come to an end? Of one whose connection broke nobody knows."""
        return self.reply is not None and not isinstance(self.reply.error, TransportError)

    def failure(self, row: Row, error: Exception) -> ChatCompletionError:
        """``error`` as the row's: where an answer came, with that answer, and never as if nothing had been sent."""
        if self.reply is None:
            if isinstance(error, ChatCompletionError):
                return error
            return row_error(row.place, f"no request can be made of it ({type(error).__name__})")
        if isinstance(error, ChatCompletionError) and not isinstance(error, InvalidRequest):
            return error
        # Its message may quote the answer.
        return output_error(
            self.reply, f"Look into the answer, it cannot be used: {type(error).__name__} while it was looked at"
        )

    def unfinished(self) -> ChatCompletionError | None:
        """The error of a row whose batch ended between two of its calls; None where nothing was paid for it."""
        if self.paid is None:
            return None
        why = "Run the task again: the batch ended before this row, whose answer does not fit, could be asked again"
        return self.paid.error or output_error(self.paid, why)
