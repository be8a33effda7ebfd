"""What earlier runs of a batch left: which rows have a result, and what the failed ones have cost."""

from __future__ import annotations

import contextlib
import logging
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_chat_provider.batch.files import readable
from airflow_chat_provider.batch.output.lines import Foreign, Recorded, default_id, read_line
from airflow_chat_provider.batch.output.scan import Scan
from airflow_chat_provider.batch.output.store import ERRORS, RESULTS, taking_up
from airflow_chat_provider.core.answer.usage import Spending, counted
from airflow_chat_provider.core.spelling import plural

if TYPE_CHECKING:
    from airflow_chat_provider.batch.output.store import Store
    from airflow_chat_provider.batch.output.tally import Tally
    from airflow_chat_provider.batch.requests import Requests

log = logging.getLogger(__name__)


class History:
    """``done[index]`` is 1 for a row that has a result.

    ``rows`` are the indices of this shard's rows. For a row without a result, ``ended_calls`` is how many calls
    for it came to an end, and ``took`` what they took. ``batches`` names the vendor's batch
    that its line is from, if there is one.
    """

    def __init__(self, total: int, rows: range) -> None:
        self.done = bytearray(total)
        self.rows = rows
        self.ended_calls: dict[int, int] = {}
        self.took: dict[int, Spending] = {}
        self.batches: dict[int, str] = {}
        self._stale = False

    def is_missing(self, index: int) -> bool:
        """Is this a row of the shard, and has it no result yet?"""
        return index in self.rows and not self.done[index]

    def load(self, store: Store, tally: Tally, requests: Requests) -> None:
        """Read the output's lines and count them.

        Damaged lines are skipped, with a warning. Raises InvalidRequest for lines of another batch or shard.
        """
        for recorded in self._read(store, RESULTS):
            if recorded.failed:  # somebody has joined the files
                self._note(recorded, tally)
            elif self.done[recorded.index]:
                tally.spent(recorded.took)
            else:
                self._count(recorded, tally, requests)
        for recorded in self._read(store, ERRORS):
            self._stale = True
            self._note(recorded, tally)
        for path in store.spill.earlier():
            self._take_up(path, store, tally, requests)
        for index, took in list(self.took.items()):
            if self.done[index]:  # its result holds what all its calls took
                del self.took[index]
            else:
                tally.spent(took)

    def failed_again(self, index: int, asked: int, took: Spending, batch: str | None) -> None:
        """Note what the line of a row says that failed now, and that may be asked for again in this run."""
        self._stale = True  # the row may have an earlier line
        self.ended_calls[index], self.took[index] = asked, took
        if batch is not None:
            self.batches[index] = batch

    def _count(self, recorded: Recorded, tally: Tally, requests: Requests) -> None:
        self.done[recorded.index] = 1
        tally.first_failures.forget(recorded.index)
        tally.recorded(recorded.took, incomplete=recorded.incomplete, source=recorded.source)
        if recorded.own_id not in (None, default_id(recorded.index)):
            requests.note_id(str(recorded.own_id), recorded.index)

    def _take_up(self, path: Path, store: Store, tally: Tally, requests: Requests) -> None:
        """Add to the output the lines of an earlier run that it had refused."""
        lines: dict[str, list[bytes]] = {RESULTS: [], ERRORS: []}
        with readable("output", path), taking_up(path) as found:
            for line in found:
                recorded = self._line(line)
                if recorded is None or self.done[recorded.index]:
                    continue
                if recorded.failed:
                    self._stale = True
                    self._note(recorded, tally)
                else:
                    self._count(recorded, tally, requests)
                lines[ERRORS if recorded.failed else RESULTS].append(line)
            for kind, some in lines.items():
                if some:
                    store.add(kind, some)
        results, errors = plural(len(lines[RESULTS]), "result"), plural(len(lines[ERRORS]), "error")
        log.info("Picked up %s and %s from %s", results, errors, path)

    def _note(self, recorded: Recorded, tally: Tally) -> None:
        """Note a failed row. Its last line counts: it includes what the lines before it say."""
        if recorded.failure is not None and not self.done[recorded.index]:
            kind, message = recorded.failure
            own_id = None if recorded.own_id == default_id(recorded.index) else recorded.own_id
            tally.first_failures.note(kind, recorded.index, own_id, message)
        if recorded.batch is not None:
            self.batches[recorded.index] = recorded.batch
        if recorded.asked:
            self.ended_calls[recorded.index] = recorded.asked
        if recorded.took.usage or any(recorded.took.calls) or recorded.took.cost is not None:
            self.took[recorded.index] = recorded.took._replace(usage=counted(recorded.took.usage))

    def _read(self, store: Store, kind: str) -> Iterator[Recorded]:
        if not store.holds(kind):  # nor is there a file, if the folder is only read
            return
        scan = Scan(store, kind, self._line, "The batch asks again for rows that have no other line")
        yield from scan
        self._stale |= kind == ERRORS and scan.skipped > 0

    def _line(self, line: bytes) -> Recorded | None:
        recorded = read_line(line)
        if recorded is not None and recorded.index not in self.rows:
            raise Foreign
        return recorded

    def tidy(self, store: Store) -> None:
        """Leave one line in the errors for each row without a result, and none for the others."""
        if not self._stale:  # all lines are of this run, which writes one for a row
            return
        last = array("L", bytes(array("L").itemsize * len(self.done)))
        for number, line in enumerate(store.lines(ERRORS)):
            with contextlib.suppress(Foreign):
                if (recorded := self._line(line)) is not None:
                    last[recorded.index] = number

        def keep(number: int, line: bytes) -> bool:
            try:
                recorded = self._line(line)
            except Foreign:  # somebody has put it there since this run began, and may need it
                return True
            return recorded is not None and not self.done[recorded.index] and last[recorded.index] == number

        store.rewrite_errors(keep)
