"""The output of a batch: a folder that one run at a time may write to."""

from __future__ import annotations

import json
import os
import socket
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_chat_provider.batch.files import StoreError, reason
from airflow_chat_provider.batch.output.spill import Spill
from airflow_chat_provider.core.json_text.nesting import loads

IDENTITY, MANIFEST, OWNER, RESULTS, ERRORS = "batch.json", "manifest.json", "owner.json", "results", "errors"
KEPT_FOR = "airflow_chat_provider batch"
"""What the small files of an output folder hold under "kept_for", so that nobody else's are taken for them."""


class TakenOver(StoreError):
    """Another run writes to the folder now, or the folder is gone: trying again does not help."""


class Store(ABC):
    """An output folder. ``RESULTS`` and ``ERRORS`` are the two kinds of lines in it.

    Lines are written in a thread of the store's own. Those that the folder does not take go to the spill.
    """

    def __init__(self, folder: object) -> None:
        self.full = False
        """No room is left: the answers under way can still be written, but no more than these."""
        self.error: StoreError | None = None
        """Why nothing can be written any more, and where the lines are that came since."""
        self.spill = Spill()
        self._name = str(folder)
        run = uuid.uuid4().hex
        self._owner = _owner_file(run)
        self._run = run[:12]
        self._why_refused = ""
        self._thread = ThreadPoolExecutor(1, "chat-batch-output")

    @abstractmethod
    def holds(self, kind: str) -> bool:
        """Are there lines of a kind?"""

    def open(self) -> None:
        """Make the folder. Raises InvalidRequest where it cannot be written to, or where another run writes to it."""
        self._thread.submit(int)  # starts the thread now: later this process may get none

    @abstractmethod
    def claim(self) -> None:
        """Mark the folder as this run's, once it is known that it belongs to the batch."""

    @abstractmethod
    def check(self) -> None:
        """Raises TakenOver where another run has marked the folder as its own since ``claim``."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """A small file of the folder; None where it is missing."""

    @abstractmethod
    def put(self, name: str, content: bytes) -> None:
        """Replace a small file of the folder, in one step."""

    @abstractmethod
    def lines(self, kind: str) -> Iterator[bytes]:
        """All lines of a kind, in the order in which they were written, without half a line at the end."""

    @abstractmethod
    def add(self, kind: str, lines: list[bytes]) -> None:
        """Add lines before the batch begins. Raises ChatCompletionError."""

    @abstractmethod
    def place(self, kind: str, number: int) -> str:
        """Where a reader finds the line that ``lines`` gave out as the ``number``th, counted from 0."""

    @abstractmethod
    async def write(self, kind: str, line: bytes, stored: Callable[[], None]) -> None:
        """Add a line. Returns once the line survives a crash, or waits in the open part; raises StoreError.

        ``stored`` is called once the line survives a crash, and never if it does not get into the output.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Wait until all lines survive a crash. Raises StoreError."""

    @abstractmethod
    def rewrite_errors(self, keep: Callable[[int, bytes], bool]) -> None:
        """Drop the lines of failed rows that ``keep`` refuses. It is given a line and its number in ``lines``."""

    @abstractmethod
    def clear(self) -> None:
        """Remove every line."""

    def close(self) -> None:
        """Let others write."""
        self._thread.shutdown()

    @abstractmethod
    def where(self, kind: str) -> str:
        """The path of the lines of a kind, for a reader: with a ``*`` where there are several files."""

    def _refuse(self, error: Exception) -> None:
        """From now on nothing goes into the folder, because of this error."""
        cannot = f"Repair the output, then run the task again: {self._name} cannot be written ({reason(error)})"
        self._why_refused = error.message if isinstance(error, StoreError) else cannot

    def _spill(self, lines: list[bytes]) -> None:
        self.spill.keep(lines)
        self.error = StoreError(f"{self._why_refused}. {self.spill.summary()}")

    def _note_bug(self, error: Exception) -> None:
        """The writer itself has failed: nothing more can be written."""
        why = f"Run the task again: writing to {self._name} failed ({reason(error)})"
        self.error = self.error or StoreError(why)

    def _taken_over(self, owner: bytes | None) -> TakenOver:
        """The error of a run whose folder now has another owner, or (None) none."""
        if owner is None:
            return TakenOver(f"Leave the output alone while a batch runs: {self._name} was removed or emptied")
        where = (read_own(owner) or {}).get("where")
        who = f" ({where[:200]})" if isinstance(where, str) else ""
        return TakenOver(f"Let one run end before the next one begins: another run{who} now writes to {self._name}")


def read_own(content: bytes) -> dict[str, Any] | None:
    """The JSON of a small file that a batch wrote; None for anything else."""
    try:
        found = loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("kept_for") == KEPT_FOR else None


def _owner_file(run: str) -> bytes:
    """The file that marks a folder as one run's. A run that loses the folder reads in it who has taken it."""
    where = f"process {os.getpid()} on {socket.gethostname()}"
    return json.dumps({"kept_for": KEPT_FOR, "run": run, "where": where}).encode()
