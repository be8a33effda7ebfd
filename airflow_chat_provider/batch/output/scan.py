"""Going through the lines of an output, some of which may be damaged or not the batch's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from airflow_chat_provider.batch.files import file_error
from airflow_chat_provider.batch.output.lines import Foreign

if TYPE_CHECKING:
    from airflow_chat_provider.batch.output.store import Store

_SHOWN = 10  # places in a warning
_T = TypeVar("_T")

log = logging.getLogger(__name__)


class Scan(Generic[_T]):
    """The lines of a kind, as ``read`` reads them; ``skipped`` counts those for which it returned None.

    Damaged lines are skipped, and named in one warning at the end; ``then`` is what follows for their rows.
    Raises InvalidRequest for a line of another batch: the lines around it may be another batch's too, and would then
    answer the wrong rows.
    """

    def __init__(self, store: Store, kind: str, read: Callable[[bytes], _T | None], then: str) -> None:
        self.skipped = 0
        self._store, self._kind, self._read, self._then = store, kind, read, then

    def __iter__(self) -> Iterator[_T]:
        return self.through(self._store.lines(self._kind))

    def through(self, lines: Iterable[bytes]) -> Iterator[_T]:
        """The same for the lines of the kind, however they are read."""
        store, kind, places = self._store, self._kind, list[str]()
        for number, line in enumerate(lines):
            try:
                found = self._read(line)
            except Foreign:
                where = store.place(kind, number)
                why = f"has a line that does not belong to this batch ({where}); move such lines out of the folder"
                raise file_error("output", store.where(kind), why) from None
            if found is not None:
                yield found
                continue
            self.skipped += 1
            if self.skipped <= _SHOWN:
                places.append(store.place(kind, number))
        if self.skipped:
            self._warn(places)

    def _warn(self, places: list[str]) -> None:
        log.warning(
            "Remove these damaged lines: %s%s. %s. A write that was cut off, or a power loss, leaves such lines",
            ", ".join(places),
            f" and {self.skipped - len(places):,} more" if self.skipped > len(places) else "",
            self._then,
        )
