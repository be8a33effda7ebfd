"""What a batch tells of its pace: each kind of failure once, and long pauses. No row has a line of its own."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from airflow_chat_provider.transport.call_log import duration, what_went_wrong

if TYPE_CHECKING:
    from airflow_chat_provider.core.errors import ChatCompletionError

_WORTH_TELLING = 5.0  # seconds of a pause
_MOST_KINDS = 20  # of errors: a server may send a new code with each

log = logging.getLogger(__name__)


class PaceLog:
    """One for a batch. Its times are those of the batch's loop."""

    def __init__(self) -> None:
        self._kinds: set[tuple[type, int | None, str | int | None]] = set()
        self._paused_until = -math.inf

    def failed(self, error: ChatCompletionError) -> None:
        """An attempt failed and will be made again."""
        if self._is_new(error):
            log.warning(
                "A request failed and is sent again, the first with this kind of error: %s", what_went_wrong(error)
            )

    def pauses(self, now: float, until: float, error: ChatCompletionError | None) -> None:
        """Nothing is sent ``until`` then. Logged when a long pause begins, and again if it becomes much longer."""
        if until - max(now, self._paused_until) >= _WORTH_TELLING:
            self._paused_until = until
            why = "the server says that the allowance is used up" if error is None else what_went_wrong(error)
            log.info("The batch pauses for %s: %s", duration(until - now), why)
            if error is not None:
                self._is_new(error)  # not any more: this line has told of it

    def _is_new(self, error: ChatCompletionError) -> bool:
        """Is this the first error of its kind? The next one is not."""
        kind = type(error), error.status, error.code
        if kind in self._kinds or len(self._kinds) >= _MOST_KINDS:
            return False
        self._kinds.add(kind)
        return True
