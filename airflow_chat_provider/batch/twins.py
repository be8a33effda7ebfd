"""Equal requests of one batch: one row is asked for, and the others take its answer, or share its failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.batch.output.answered import Answered
from airflow_chat_provider.batch.output.digest_table import DigestTable, short
from airflow_chat_provider.batch.output.lines import SAME_AS, error_in
from airflow_chat_provider.batch.output.store import ERRORS, RESULTS
from airflow_chat_provider.batch.reuse import Answer

if TYPE_CHECKING:
    from airflow_chat_provider.batch.input import Row
    from airflow_chat_provider.batch.output.lines import Shape
    from airflow_chat_provider.batch.output.store import Store
    from airflow_chat_provider.core.answer.usage import Spending
    from airflow_chat_provider.core.errors import ChatCompletionError


class Shared(NamedTuple):
    """A failure that a row shares with the row whose index is ``by``: their requests are equal."""

    error: ChatCompletionError
    by: int


class PutOff:
    """The row waits for another one's answer."""


class Twins:
    """Which rows wait for the answer to an equal request.

    A row waits in the input, not in memory: once all other rows are through, those that wait are read again. Then the
    lines of the others are in the output, also those of earlier runs.
    """

    def __init__(self, store: Store, shape: Shape, rows: range, total: int) -> None:
        self._store, self._shape = store, shape
        self._asked = DigestTable(len(rows))
        self._waiting = bytearray(total)
        self._final = bytearray(total)
        self._answered: Answered | None = None
        self._failed: Answered | None = None
        self.count = 0
        """How many rows wait."""

    def look(self, kind: str) -> None:
        """Read where the answers, or the failures, lie in the output now. Raises ChatCompletionError."""
        if self._store.holds(kind):
            found = Answered([self._store], kind, last=kind == ERRORS)  # a row may have failed in earlier runs, too
            if kind == RESULTS:
                self._answered = _in_place_of(self._answered, found)
            else:
                self._failed = _in_place_of(self._failed, found)

    def must_wait(self, row: Row, digest: str) -> bool:
        """Is an equal request asked already? If not, this row's is, and others wait for it."""
        if self._waiting[row.index] or self._asked.add(short(digest), row.index) is None:
            return False
        self._waiting[row.index] = 1
        self.count += 1
        return True

    def is_waiting(self, index: int) -> bool:
        """Has the row been put off?"""
        return bool(self._waiting[index])

    def failed(self, row: Row, error: ChatCompletionError) -> None:
        """Note whether the row would fail again: a line does not say so."""
        self._final[row.index] = error.final

    def given(self, row: Row, digest: str, took: Spending) -> Answer | None:
        """The line of a row that takes another's answer; None if there is none. Raises ChatCompletionError."""
        found = self._answered.find(digest) if self._answered is not None else None
        if found is None:
            return None
        source = {SAME_AS: _asked_row(found.line)}
        line = self._shape.copied(row, found.line, self._shape.response_key or "response", source, took, digest)
        return Answer(*line, SAME_AS) if line is not None else None

    def shared(self, digest: str) -> Shared | None:
        """The failure of an equal request in this run; None if there is none. Raises ChatCompletionError."""
        found = self._failed.find(digest) if self._failed is not None else None
        error = error_in(found.line) if found is not None else None
        if found is None or error is None:
            return None
        index: int = found.line["index"]
        error.final = bool(self._final[index]) if index < len(self._final) else False
        return Shared(error, index)

    def close(self) -> None:
        for one in (self._answered, self._failed):
            if one is not None:
                one.close()


def _asked_row(line: dict[str, Any]) -> int:
    """The index of the row that was asked for: a line may be a copy itself."""
    index: int = line["index"]
    other = line.get(SAME_AS)
    return other if type(other) is int else index


def _in_place_of(old: Answered | None, new: Answered) -> Answered:
    if old is not None:
        old.close()
    return new
