"""Where something is in a record of a CSV file, for errors: the csv module tells a line at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Place = tuple[int, int]
"""A line, counted from 0 in the record, and a column, counted from 1."""


class Places(NamedTuple):
    """``cells``: where each cell begins; ``opened``: the last opening quote; ``stray``: what is behind a closing one.

    ``end`` is behind the last character.
    """

    cells: list[Place]
    end: Place
    opened: Place | None = None
    stray: Place | None = None


def places(record: Sequence[str], delimiter: str) -> Places:
    """Go through the lines of a record as the csv module does in its strict mode."""
    cells: list[Place] = [(0, 1)]
    opened = None
    begins, quoted, closed = True, False, False
    for line, text in enumerate(record):
        for column, sign in enumerate(text.rstrip("\r\n"), 1):
            if sign == '"' and (begins or quoted or closed):
                quoted, closed = not quoted, quoted  # a doubled quote closes the cell and opens it again
                opened = (line, column) if begins else opened
            elif sign == delimiter and not quoted:
                cells.append((line, column + 1))
                begins, closed = True, False
                continue
            elif closed:
                return Places(cells, (line, column), opened, (line, column))
            begins = False
    return Places(cells, (len(record) - 1, len(record[-1].rstrip("\r\n")) + 1) if record else (0, 1), opened)
