"""The output of a batch: a folder that one run at a time may write to."""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from airflow_chat_provider.batch.files import StoreError, file_error, local_path
from airflow_chat_provider.batch.output.spill import Spill
from airflow_chat_provider.core.json_text.nesting import loads

__all__ = ["StoreError"]

IDENTITY, MANIFEST, OWNER, RESULTS, ERRORS = "batch.json", "manifest.json", "owner.json", "results", "errors"
KEPT_FOR = "airflow_chat_provider batch"
"""What tells a folder of ours from somebody else's."""


class TakenOver(StoreError):
    """Another run writes to the folder now, or the folder is gone: to try again does not help."""


class Store(Protocol):
    """Where lines go, and where those of earlier runs are. ``RESULTS`` and ``ERRORS`` are its two kinds of lines."""

    full: bool
    """No room is left: what is under way can still be written, and no more."""
    error: StoreError | None
    """Why nothing can be written any more, and where what came since is."""
    spill: Spill
    """Keeps what the output does not take."""

    def holds(self, kind: str) -> bool:
        """Are there lines of a kind?"""

    def open(self) -> None:
        """Make the folder; raises InvalidRequest where it cannot be written to or another run writes to it."""

    def claim(self) -> None:
        """Begin to write, once it is known whose folder this is: mark it as this run's."""

    def check(self) -> None:
        """Raises TakenOver where another run has marked the folder as its own since."""

    def read(self, name: str) -> bytes | None:
        """A small file of the folder."""

    def put(self, name: str, content: bytes) -> None:
        """Replace a small file of the folder, in one step."""

    def lines(self, kind: str) -> Iterator[bytes]:
        """All lines of a kind, in the order in which they were written; half a line at the end is dropped."""

    def add(self, kind: str, lines: list[bytes]) -> None:
        """Add lines before the first is written; raises ChatCompletionError."""

    def place(self, kind: str, number: int) -> str:
        """Where a reader finds a line that ``lines`` has given out, told its number there, from 0."""

    async def write(self, kind: str, line: bytes, stored: Callable[[], None]) -> None:
        """Add a line. It returns when the line survives a crash, or is in the open part; raises StoreError.

        ``stored`` is called once it survives a crash, and never where it does not get into the output.
        """

    async def flush(self) -> None:
        """Wait until all lines survive a crash; raises StoreError."""

    def rewrite_errors(self, keep: Callable[[int, bytes], bool]) -> None:
        """Drop the lines of failed rows but those that are kept: told their number in ``lines`` and the line."""

    def clear(self) -> None:
        """Remove every line."""

    def close(self) -> None:
        """Let others write."""

    def where(self, kind: str) -> str:
        """The path of the lines of a kind, for a reader: with a ``*`` where there are several files."""


def store_for(
    output: Any, *, part_rows: int, part_seconds: float, in_flight: int, file_mode: int | None = 0o600
) -> Store:
    """The store of a folder, to be opened. ``in_flight``: how many replies may come once it has no more room."""
    from airflow_chat_provider.batch.output.local import LocalStore
    from airflow_chat_provider.batch.output.object_store import ObjectStore

    text = str(output)
    if text.endswith((".jsonl", ".csv", ".json")):
        raise file_error("output", text, "is a file's name; name a folder, for results, errors and a manifest")
    local = local_path(output)
    if local is not None:
        return LocalStore(local, in_flight, file_mode)
    return ObjectStore(output, part_rows, part_seconds)


def identity_in(store: Store) -> dict[str, Any] | None:
    """What the folder says of the batch that it holds; None where it holds none. Raises InvalidRequest for others'."""
    content = store.read(IDENTITY)
    if content is None:
        if store.holds(RESULTS) or store.holds(ERRORS) or store.read(MANIFEST) is not None:
            raise file_error("output", store.where(RESULTS), "was not written by a batch; name another folder")
        owner = store.read(OWNER)
        if owner is not None and _ours(owner) is None:
            raise file_error("output", store.where(OWNER), "belongs to something else; name another folder")
        return None
    found = _ours(content)
    if found is None or not isinstance(found.get("id"), str) or not isinstance(found.get("fingerprint"), dict):
        raise file_error("output", store.where(IDENTITY), "belongs to something else; name another folder")
    return found


def _ours(content: bytes) -> dict[str, Any] | None:
    """A small file of a batch's; None for anything else."""
    try:
        found = loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("kept_for") == KEPT_FOR else None


def new_identity(fingerprint: dict[str, str], rows: int) -> dict[str, Any]:
    """What marks a folder as this batch's."""
    return {"kept_for": KEPT_FOR, "version": 1, "id": uuid.uuid4().hex, "rows": rows, "fingerprint": fingerprint}


def new_owner(run: str) -> bytes:
    """What marks a folder as one run's, and says to whoever loses it where that run is."""
    where = f"process {os.getpid()} on {socket.gethostname()}"
    return json.dumps({"kept_for": KEPT_FOR, "run": run, "where": where}).encode()


def taken_over(folder: Any, owner: bytes | None) -> TakenOver:
    """The error of a run whose folder has another owner, or none any more."""
    if owner is None:
        return TakenOver(f"Leave the output alone while a batch runs: {folder} was removed or emptied")
    where = (_ours(owner) or {}).get("where")
    who = f" ({where[:200]})" if isinstance(where, str) else ""
    return TakenOver(f"Let one run end before the next: another one{who} writes to {folder} since this one began")
