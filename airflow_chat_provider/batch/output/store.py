"""The output of a batch: a folder that one run at a time may write to."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from airflow_chat_provider.batch.files import StoreError, reason
from airflow_chat_provider.batch.output.spill import Spill
from airflow_chat_provider.core.json_text.nesting import loads

IDENTITY, MANIFEST, OWNER, RESULTS, ERRORS = "batch.json", "manifest.json", "owner.json", "results", "errors"
KEPT_FOR = "airflow_chat_provider batch"
"""What the small files of an output folder hold under "kept_for", so that nobody else's are taken for them."""


class TakenOver(StoreError):
    """Another run writes to the folder now, or the folder is gone: trying again does not help."""


class Store(Protocol):
    """An output folder. ``RESULTS`` and ``ERRORS`` are the two kinds of lines in it."""

    full: bool
    """No room is left: the answers under way can still be written, but no more than these."""
    error: StoreError | None
    """Why nothing can be written any more, and where the lines are that came since."""
    spill: Spill
    """Keeps the lines that the output does not take."""

    def holds(self, kind: str) -> bool:
        """Are there lines of a kind?"""

    def open(self) -> None:
        """Make the folder. Raises InvalidRequest where it cannot be written to, or where another run writes to it."""

    def claim(self) -> None:
        """Mark the folder as this run's, once it is known that it belongs to the batch."""

    def check(self) -> None:
        """Raises TakenOver where another run has marked the folder as its own since ``claim``."""

    def read(self, name: str) -> bytes | None:
        """A small file of the folder; None where it is missing."""

    def put(self, name: str, content: bytes) -> None:
        """Replace a small file of the folder, in one step."""

    def lines(self, kind: str) -> Iterator[bytes]:
        """All lines of a kind, in the order in which they were written, without half a line at the end."""

    def add(self, kind: str, lines: list[bytes]) -> None:
        """Add lines before the batch begins. Raises ChatCompletionError."""

    def place(self, kind: str, number: int) -> str:
        """Where a reader finds the line that ``lines`` gave out as the ``number``th, counted from 0."""

    async def write(self, kind: str, line: bytes, stored: Callable[[], None]) -> None:
        """Add a line. Returns once the line survives a crash, or waits in the open part; raises StoreError.

        ``stored`` is called once the line survives a crash, and never if it does not get into the output.
        """

    async def flush(self) -> None:
        """Wait until all lines survive a crash. Raises StoreError."""

    def rewrite_errors(self, keep: Callable[[int, bytes], bool]) -> None:
        """Drop the lines of failed rows that ``keep`` refuses. It is given a line and its number in ``lines``."""

    def clear(self) -> None:
        """Remove every line."""

    def close(self) -> None:
        """Let others write."""

    def where(self, kind: str) -> str:
        """The path of the lines of a kind, for a reader: with a ``*`` where there are several files."""


def read_own(content: bytes) -> dict[str, Any] | None:
    """The JSON of a small file that a batch wrote; None for anything else."""
    try:
        found = loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("kept_for") == KEPT_FOR else None


def new_owner(run: str) -> bytes:
    """The file that marks a folder as one run's. A run that loses the folder reads in it who has taken it."""
    where = f"process {os.getpid()} on {socket.gethostname()}"
    return json.dumps({"kept_for": KEPT_FOR, "run": run, "where": where}).encode()


def taken_over(folder: object, owner: bytes | None) -> TakenOver:
    """The error of a run whose folder now has another owner, or (None) none."""
    if owner is None:
        return TakenOver(f"Leave the output alone while a batch runs: {folder} was removed or emptied")
    where = (read_own(owner) or {}).get("where")
    who = f" ({where[:200]})" if isinstance(where, str) else ""
    return TakenOver(f"Let one run end before the next one begins: another run{who} now writes to {folder}")


def cannot_write(folder: object, error: Exception) -> str:
    """The message for lines that the output refused."""
    return f"Repair the output, then run the task again: {folder} cannot be written ({reason(error)})"
