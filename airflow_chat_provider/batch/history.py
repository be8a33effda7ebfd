"""What earlier runs of a batch left: which rows have a result, and how often the others were asked for."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from airflow_chat_provider.batch.files import file_error
from airflow_chat_provider.batch.lines import Recorded, read_line, unnamed
from airflow_chat_provider.batch.store import ERRORS, RESULTS

if TYPE_CHECKING:
    from airflow_chat_provider.batch.requests import Requests
    from airflow_chat_provider.batch.store import Store
    from airflow_chat_provider.batch.tally import Tally


class History:
    """``done[index]`` is 1 for a row with a result; ``asked`` how many calls for another came to an end without one."""

    def __init__(self, rows: int) -> None:
        self.done = bytearray(rows)
        self.asked: dict[int, int] = {}
        self._stale = False

    def load(self, store: Store, tally: Tally, requests: Requests) -> None:
        """Read all that is there, and count it. Raises InvalidRequest for lines that are none of this batch."""
        for number, line in enumerate(store.lines(RESULTS), 1):
            recorded = self._read(store, RESULTS, number, line)
            if not self.done[recorded.index]:
                self.done[recorded.index] = 1
                tally.success(recorded.usage, incomplete=recorded.incomplete)
                if recorded.name != unnamed(recorded.index):
                    requests.note(recorded.name, recorded.index)
        for number, line in enumerate(store.lines(ERRORS), 1):
            recorded = self._read(store, ERRORS, number, line)
            self._stale = True
            if recorded.asked:
                self.asked[recorded.index] = recorded.asked

    def _read(self, store: Store, kind: str, number: int, line: bytes) -> Recorded:
        recorded = read_line(line)
        if recorded is None or recorded.index >= len(self.done):
            why = f"holds a line that is none of this batch (the {number}.); on_changed='restart' begins anew"
            raise file_error("output", store.where(kind), why)
        return recorded

    def tidy(self, store: Store) -> None:
        """Leave one line for each row that has failed at last, and none for those that have a result by now."""
        if not self._stale:  # this run alone writes one line for a row
            return
        last = array("L", bytes(array("L").itemsize * len(self.done)))
        for number, line in enumerate(store.lines(ERRORS)):
            last[self._read(store, ERRORS, number + 1, line).index] = number

        def keep(number: int, line: bytes) -> bool:
            recorded = read_line(line)
            return recorded is not None and not self.done[recorded.index] and last[recorded.index] == number

        store.rewrite_errors(keep)
