"""What earlier runs of a batch left: which rows have a result, and what the others took without one."""

from __future__ import annotations

import contextlib
import logging
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.files import file_error, readable
from airflow_chat_provider.batch.output.lines import Foreign, Recorded, read_line, unnamed
from airflow_chat_provider.batch.output.spill import taking_up
from airflow_chat_provider.batch.output.store import ERRORS, RESULTS
from airflow_chat_provider.batch.output.usage import counted

if TYPE_CHECKING:
    from airflow_chat_provider.batch.output.store import Store
    from airflow_chat_provider.batch.output.tally import Tally
    from airflow_chat_provider.batch.requests import Requests

_SHOWN = 10  # places in a warning

log = logging.getLogger(__name__)


class History:
    """``done[index]`` is 1 for a row with a result.

    Of another row, ``asked`` has how many calls came to an end without one, and ``usage`` what these took.
    """

    def __init__(self, rows: int, wanted: range) -> None:
        self.done = bytearray(rows)
        self._wanted = wanted
        self.asked: dict[int, int] = {}
        self.usage: dict[int, Any] = {}
        self._stale = False

    def load(self, store: Store, tally: Tally, requests: Requests) -> None:
        """Read all that is there, and count it.

        What is left of a line is passed over, and told. Raises InvalidRequest for lines of another batch or shard.
        """
        for recorded in self._read(store, RESULTS):
            if recorded.failed:  # somebody put the files together
                self._note(recorded)
            elif self.done[recorded.index]:
                tally.spent(recorded.usage)
            else:
                self._count(recorded, tally, requests)
        for recorded in self._read(store, ERRORS):
            self._stale = True
            self._note(recorded)
        for path in store.spill.earlier():
            self._take_up(path, store, tally, requests)
        for index, usage in list(self.usage.items()):
            if self.done[index]:  # its result says what the row took in all
                del self.usage[index]
            else:
                tally.spent(usage)

    def _count(self, recorded: Recorded, tally: Tally, requests: Requests) -> None:
        self.done[recorded.index] = 1
        tally.recorded(recorded.usage, incomplete=recorded.incomplete)
        if recorded.name not in (None, unnamed(recorded.index)):
            requests.note(str(recorded.name), recorded.index)

    def _take_up(self, path: Path, store: Store, tally: Tally, requests: Requests) -> None:
        """Add to the output what it did not take from an earlier run."""
        lines: dict[str, list[bytes]] = {RESULTS: [], ERRORS: []}
        with readable("output", path), taking_up(path) as found:
            for line in found:
                recorded = self._line(line)
                if recorded is None or self.done[recorded.index]:
                    continue
                if recorded.failed:
                    self._stale = True
                    self._note(recorded)
                else:
                    self._count(recorded, tally, requests)
                lines[ERRORS if recorded.failed else RESULTS].append(line)
            for kind, some in lines.items():
                if some:
                    store.add(kind, some)
        log.info("Took up %d results and %d errors from %s", len(lines[RESULTS]), len(lines[ERRORS]), path)

    def _note(self, recorded: Recorded) -> None:
        """The last line of a row counts: it has the usage of the ones before."""
        if recorded.asked:
            self.asked[recorded.index] = recorded.asked
        if recorded.usage:
            self.usage[recorded.index] = counted(recorded.usage)

    def _read(self, store: Store, kind: str) -> Iterator[Recorded]:
        skipped, places = 0, list[str]()
        for number, line in enumerate(store.lines(kind)):
            try:
                recorded = self._line(line)
            except Foreign:
                # What stands around it may be of another batch too, and would answer the wrong rows.
                why = f"holds lines of something else ({store.place(kind, number)}); move them out, the others count"
                raise file_error("output", store.where(kind), why) from None
            if recorded is not None:
                yield recorded
                continue
            skipped += 1
            if skipped <= _SHOWN:
                places.append(store.place(kind, number))
        if skipped:
            self._stale |= kind == ERRORS
            _warn(skipped, places)

    def _line(self, line: bytes) -> Recorded | None:
        recorded = read_line(line)
        if recorded is not None and recorded.index not in self._wanted:
            raise Foreign
        return recorded

    def tidy(self, store: Store) -> None:
        """Leave one line for each row that has failed at last, and none for those that have a result by now."""
        if not self._stale:  # this run alone writes one line for a row
            return
        last = array("L", bytes(array("L").itemsize * len(self.done)))
        for number, line in enumerate(store.lines(ERRORS)):
            with contextlib.suppress(Foreign):
                if (recorded := self._line(line)) is not None:
                    last[recorded.index] = number

        def keep(number: int, line: bytes) -> bool:
            try:
                recorded = self._line(line)
            except Foreign:  # somebody has put it there since this run began, and may want it
                return True
            return recorded is not None and not self.done[recorded.index] and last[recorded.index] == number

        store.rewrite_errors(keep)


def _warn(skipped: int, places: list[str]) -> None:
    more = f" and {skipped - len(places):,} more" if skipped > len(places) else ""
    log.warning(
        "Remove these lines, of which nothing can be read: %s%s. Rows that have no other line are asked for again; a "
        "write that was cut off, or a disk that lost its power, leaves such lines",
        ", ".join(places),
        more,
    )
