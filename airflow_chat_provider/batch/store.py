"""The output of a batch: a folder that one run at a time may write to."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from airflow_chat_provider.batch.files import file_error, local_path
from airflow_chat_provider.core.errors import ChatCompletionError

IDENTITY, MANIFEST, RESULTS, ERRORS = "batch.json", "manifest.json", "results", "errors"
KEPT_FOR = "airflow_chat_provider batch"
"""What tells a folder of ours from somebody else's."""


class StoreError(ChatCompletionError):
    """The output takes no more. What was received before is there."""


class Store(Protocol):
    """Where lines go, and where those of earlier runs are. ``RESULTS`` and ``ERRORS`` are its two kinds of lines."""

    full: bool
    """No room is left: what is under way can still be written, and no more."""
    error: StoreError | None
    """Why nothing can be written any more, and where what came since is."""

    def holds(self, kind: str) -> bool:
        """Are there lines of a kind?"""

    def open(self) -> None:
        """Make the folder; raises InvalidRequest where it cannot be written to or another run writes to it."""

    def claim(self) -> None:
        """Begin to write, once it is known whose folder this is."""

    def read(self, name: str) -> bytes | None:
        """A small file of the folder."""

    def put(self, name: str, content: bytes) -> None:
        """Replace a small file of the folder, in one step."""

    def lines(self, kind: str) -> Iterator[bytes]:
        """All lines of a kind, each whole; half a line at the end is dropped."""

    async def write(self, kind: str, line: bytes) -> None:
        """Add a line. It returns when the line survives a crash, or is in the open part; raises StoreError."""

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


def store_for(output: Any, *, part_rows: int, part_seconds: float, in_flight: int) -> Store:
    """The store of a folder, to be opened. ``in_flight``: how many replies may come once it has no more room."""
    from airflow_chat_provider.batch.local_store import LocalStore
    from airflow_chat_provider.batch.object_store import ObjectStore

    text = str(output)
    if text.endswith((".jsonl", ".csv", ".json")):
        raise file_error("output", text, "is a file's name; name a folder, for results, errors and a manifest")
    local = local_path(output)
    if local is not None:
        return LocalStore(local, in_flight)
    return ObjectStore(output, part_rows, part_seconds)


def identity_in(store: Store) -> dict[str, Any] | None:
    """What the folder says of the batch that it holds; None where it holds none. Raises InvalidRequest for others'."""
    content = store.read(IDENTITY)
    if content is None:
        if store.holds(RESULTS) or store.holds(ERRORS) or store.read(MANIFEST) is not None:
            raise file_error("output", store.where(RESULTS), "was not written by a batch; name another folder")
        return None
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("kept_for") != KEPT_FOR:
        raise file_error("output", store.where(IDENTITY), "belongs to something else; name another folder")
    return found


def new_identity(fingerprint: dict[str, str], rows: int) -> dict[str, Any]:
    """What marks a folder as this batch's."""
    return {"kept_for": KEPT_FOR, "version": 1, "id": uuid.uuid4().hex, "rows": rows, "fingerprint": fingerprint}
