"""The order of the rows where most requests are answered already: those that may have changed come first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from airflow_chat_provider.batch.input import Row

_CELL = 64  # rows at least
_PROBES = 8192  # they take a second or two
_STEP = 37  # the probes of two cells lie so far apart in them, as tables have patterns of their own
_FEW = 4096  # rows that are through in a second anyway

RowsOf: TypeAlias = "Callable[[Callable[[int], bool]], Iterator[Row]]"
"""Reads the rows whose index is wanted, in their order."""


class Probes:
    """Takes one row of each cell first; then the cells of those that had to be asked for; then all others.

    A table grows at its end, or changes in a few places. Row by row it would take minutes to get there, in which no
    request is under way.
    """

    def __init__(self, rows: range) -> None:
        self._rows = rows
        self._cell = max(_CELL, len(rows) // _PROBES)
        self._changed = bytearray(len(rows) // self._cell + 1)

    def asked(self, index: int) -> None:
        """Note that the row has to be asked for."""
        self._changed[self._place(index) // self._cell] = 1

    def _place(self, index: int) -> int:
        return (index - self._rows.start) // self._rows.step

    def _is_probe(self, index: int) -> bool:
        cell, place = divmod(self._place(index), self._cell)
        return place == cell * _STEP % self._cell

    def in_order(self, rows_of: RowsOf, is_missing: Callable[[int], bool]) -> Iterator[Row]:
        """All missing rows, each once. They are read in several passes, as what is noted meanwhile decides."""
        if len(self._rows) < _FEW:
            yield from rows_of(is_missing)
            return
        yield from rows_of(lambda index: is_missing(index) and self._is_probe(index))
        near = bytes(self._changed)  # notes that come later must not move a row from one pass to the other

        def is_near(index: int) -> bool:
            return bool(near[self._place(index) // self._cell])

        def is_left(index: int) -> bool:
            return is_missing(index) and not self._is_probe(index)

        yield from rows_of(lambda index: is_left(index) and is_near(index))
        yield from rows_of(lambda index: is_left(index) and not is_near(index))
