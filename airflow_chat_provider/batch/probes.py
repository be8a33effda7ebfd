"""The order of the rows where most requests are answered already: those that may have changed come first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from airflow_chat_provider.batch.input import Row

_CELL = 64  # rows
_FEW = 64 * _CELL  # rows that are through in a second anyway

RowsOf: TypeAlias = "Callable[[Callable[[int], bool]], Iterator[Row]]"
"""Reads the rows whose index is wanted, in their order."""


class Probes:
    """Takes one row in 64 first; then the neighbours of those that had to be asked for; then all others.

    A table grows at its end, or changes in a few places. Row by row it would take minutes to get there, in which no
    request is under way.
    """

    def __init__(self, rows: range) -> None:
        self._rows = rows
        self._changed = bytearray(len(rows) // _CELL + 1)

    def asked(self, index: int) -> None:
        """Note that the row has to be asked for."""
        self._changed[self._place(index) // _CELL] = 1

    def _place(self, index: int) -> int:
        return (index - self._rows.start) // self._rows.step

    def in_order(self, rows_of: RowsOf, is_missing: Callable[[int], bool]) -> Iterator[Row]:
        """All missing rows, each once. They are read in several passes, as what is noted meanwhile decides."""
        if len(self._rows) < _FEW:
            yield from rows_of(is_missing)
            return
        yield from rows_of(lambda index: is_missing(index) and not self._place(index) % _CELL)
        near = bytes(self._changed)  # notes that come later must not move a row from one pass to the other

        def is_near(index: int) -> bool:
            place = self._place(index)
            return bool(place % _CELL and near[place // _CELL])

        def is_far(index: int) -> bool:
            place = self._place(index)
            return bool(place % _CELL and not near[place // _CELL])

        yield from rows_of(lambda index: is_missing(index) and is_near(index))
        yield from rows_of(lambda index: is_missing(index) and is_far(index))
