"""In which order rows are taken where most are answered already."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from airflow_chat_provider.batch.input import Row
from airflow_chat_provider.batch.probes import Probes

TOTAL = 10_000


def rows_of(is_wanted: Callable[[int], bool]) -> Iterator[Row]:
    return (Row(index, f"input[{index}]") for index in range(TOTAL) if is_wanted(index))


def taken(rows: range, changed: range, missing: Callable[[int], bool] = lambda _: True) -> list[int]:
    """The order of rows, of which those that have changed have to be asked for."""
    probes, found = Probes(rows), []
    for row in probes.in_order(rows_of, lambda index: index in rows and missing(index)):
        found.append(row.index)
        if row.index in changed:
            probes.asked(row.index)
    return found


@pytest.mark.parametrize(
    "rows", [range(TOTAL), range(1, TOTAL, 2), range(77, TOTAL - 5), range(100)], ids=["all", "odd", "slice", "few"]
)
def test_every_row_is_taken_once(rows: range) -> None:
    assert sorted(taken(rows, range(9000, TOTAL))) == list(rows)


def test_rows_that_are_done_are_left_out() -> None:
    found = taken(range(TOTAL), range(0), lambda index: index % 3 == 0)
    assert sorted(found) == list(range(0, TOTAL, 3))


def test_rows_near_those_that_changed_come_before_the_others() -> None:
    found = taken(range(TOTAL), range(9600, TOTAL))
    assert found.index(9999) < 157 + 400 + 64  # one row of each 64, then the 400, with what lies beside them
    assert found.index(1) > found.index(9999)


def test_a_pattern_in_the_table_does_not_hide_what_changed() -> None:
    changed = range(99, TOTAL, 100)
    found = taken(range(TOTAL), changed)
    assert next(place for place, index in enumerate(found) if index in changed) < 157


def test_few_rows_are_taken_in_their_order() -> None:
    assert taken(range(4000), range(3000, 3500)) == list(range(4000))
