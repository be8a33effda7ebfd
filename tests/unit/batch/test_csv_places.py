"""Where something is in a record of a CSV file."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.batch.csv_places import places


@pytest.mark.parametrize(
    ("record", "cells"),
    [
        (["a,b\n"], [(0, 1), (0, 3)]),
        (['"a,b",c\r\n'], [(0, 1), (0, 7)]),
        (['"a ""b"", c",d\n'], [(0, 1), (0, 14)]),
        (['a"b,c\n'], [(0, 1), (0, 5)]),
        (['"a\n', 'b",c\n'], [(0, 1), (1, 4)]),
        ([",,\n"], [(0, 1), (0, 2), (0, 3)]),
        ([], [(0, 1)]),
    ],
)
def test_each_cell_of_a_record_has_a_line_and_a_column(record: list[str], cells: list[tuple[int, int]]) -> None:
    assert places(record, ",").cells == cells


@given(st.text(alphabet='a",\n é', max_size=40))
def test_there_are_as_many_cells_as_the_csv_module_reads(text: str) -> None:
    lines = [*text.split("\n")[:-1], text.rsplit("\n", maxsplit=1)[-1]]
    record = [f"{line}\n" for line in lines[:-1]] + [lines[-1]]
    reader = csv.reader(iter(record), strict=True)
    try:
        row = next(reader, None)
    except csv.Error:
        return
    if row:
        found = places(record[: reader.line_num], ",")
        assert len(found.cells) == len(row)
        assert found.stray is None


@given(st.text(alphabet='a", é', max_size=20))
def test_what_the_csv_module_refuses_has_a_place(text: str) -> None:
    try:
        list(csv.reader([text], strict=True))
    except csv.Error:
        found = places([text], ",")
        assert found.stray is not None or found.opened is not None
