"""The output of a batch: a folder that one run at a time may write to."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import stat
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from airflow_chat_provider.batch.files import StoreError, file_error, reason, write_lines
from airflow_chat_provider.core.json_text.nesting import loads

IDENTITY, MANIFEST, OWNER, RESULTS, ERRORS = "batch.json", "manifest.json", "owner.json", "results", "errors"
KEPT_FOR = "airflow_chat_provider batch"
"""What the small files of an output folder hold under "kept_for", so that nobody else's are taken for them."""
_PREFIX = "chat-batch-"


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
        self.name = str(folder)
        """The folder, as the user wrote it."""
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
        """All lines of a kind, in the order in which they were written.

        A run that writes to the folder removes half a line at the end first.
        """

    @abstractmethod
    def file(self, kind: str) -> IO[bytes]:
        """All lines of a kind in one file, for a reader that goes back and forth in it."""

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
    async def post(self, kind: str, line: bytes, stored: Callable[[], None]) -> None:
        """Add a line that took no call: the same, without waiting until it survives a crash, unless many lines wait."""

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
        cannot = f"Repair the output, then run the task again: it cannot be written ({reason(error)}): {self.name}"
        self._why_refused = error.message if isinstance(error, StoreError) else cannot

    def _spill(self, lines: list[bytes]) -> None:
        self.spill.keep(lines)
        self.error = StoreError(f"{self._why_refused}. {self.spill.summary()}")

    def _note_bug(self, error: Exception) -> None:
        """The writer itself has failed: nothing more can be written."""
        why = f"Run the task again: writing failed ({reason(error)}), to {self.name}"
        self.error = self.error or StoreError(why)

    def _taken_over(self, owner: bytes | None) -> TakenOver:
        """The error of a run whose folder now has another owner, or (None) none."""
        if owner is None:
            return TakenOver(f"Leave the output alone while a batch runs: it was removed or emptied: {self.name}")
        where = (read_own(owner) or {}).get("where")
        who = f" ({where[:200]})" if isinstance(where, str) else ""
        return TakenOver(f"Let one run end before the next one begins: another run{who} now writes to {self.name}")


def identity_in(store: Store) -> dict[str, Any] | None:
    """What the folder says about the batch in it: {"id", "fingerprint", ...}. None where it holds no batch.

    Raises InvalidRequest where the folder holds something else.
    """
    foreign = "belongs to something else; name another folder"
    content = store.read(IDENTITY)
    if content is None:
        if store.holds(RESULTS) or store.holds(ERRORS) or store.read(MANIFEST) is not None:
            raise file_error("output", store.where(RESULTS), "was not written by a batch; name another folder")
        owner = store.read(OWNER)
        if owner is not None and read_own(owner) is None:
            raise file_error("output", store.where(OWNER), foreign)
        return None
    found = read_own(content)
    if found is None or not isinstance(found.get("id"), str) or not isinstance(found.get("fingerprint"), dict):
        raise file_error("output", store.where(IDENTITY), foreign)
    return found


def manifest_in(store: Store) -> dict[str, Any] | None:
    """The manifest that the last run left; None if it left none, or if somebody has changed it."""
    content = store.read(MANIFEST)
    try:
        found = None if content is None else loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


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


class Spill:
    """Where lines go that the output does not take: they are paid for and must not be lost.

    They go into files on this machine that only this user can read, and that are made when they are needed.

    Each line goes to the first of ``places()`` that takes it. Lines hold prompts and answers, so they never go to the
    log. ``batch`` is the batch's id; by it, the next run of the batch on this machine finds the files.
    """

    def __init__(self) -> None:
        self.batch = ""
        self._files: dict[Path, Path] = {}
        self._refused: dict[Path, str] = {}
        self._lost = 0

    def keep(self, lines: Sequence[bytes]) -> None:
        """Write the lines where there is room. Never raises; ``summary`` says what became of them."""
        left = list(lines)
        for place in places():
            try:
                left = self._write(place, left)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with this place, the next one may work
                self._refused[place] = reason(error)
            if not left:
                return
        self._lost += len(left)

    def _write(self, place: Path, lines: list[bytes]) -> list[bytes]:
        """Write lines to a place; returns those that did not fit."""
        taken, error = 0, None
        file, path = self._open(place)
        try:
            taken, error = write_lines(file, lines)
        finally:
            os.close(file)
            if taken:
                self._files[place] = path
            elif place not in self._files:
                path.unlink(missing_ok=True)
        if error is not None:
            self._refused[place] = reason(error)
        return lines[taken:]

    def _open(self, place: Path) -> tuple[int, Path]:
        """The file of a place, locked so that no other run takes it up while lines are added."""
        if (path := self._files.get(place)) is not None:
            with contextlib.suppress(FileNotFoundError):
                file = os.open(path, os.O_WRONLY | os.O_APPEND)
                _lock(file)
                if os.fstat(file).st_nlink:
                    return file, path
                os.close(file)  # another run has taken it up
        file, name = tempfile.mkstemp(prefix=f"{_PREFIX}{self._tag}", suffix=".jsonl", dir=place)
        _lock(file)
        return file, Path(name)

    @property
    def _tag(self) -> str:
        # The id comes from a file and becomes part of a path: only letters and digits may do so.
        return f"{self.batch}-" if self.batch.isalnum() else ""

    def earlier(self) -> list[Path]:
        """The files that earlier runs of this batch left on this machine."""
        found = (path for place in places() for path in place.glob(f"{_PREFIX}{self._tag}*.jsonl")) if self._tag else ()
        return [path for path in found if _is_own_file(path)]

    def summary(self) -> str:
        """For an error: where the lines are, and which places refused them."""
        found = []
        if self._lost:
            tried = ", ".join(f"{place} ({why})" for place, why in self._refused.items()) or "any folder of this worker"
            lines = "1 line was" if self._lost == 1 else f"{self._lost:,} lines were"
            found.append(f"{lines} lost: writing to {tried} failed, too")
        if self._files:
            where = " and ".join(map(str, self._files.values()))
            found.append(f"The next run on this machine picks up the last results of this one from {where}")
        return ". ".join(found)


def places() -> list[Path]:
    """The folders where lines may be kept: temporary folders, Airflow's own, the current one, and memory at last."""
    named = [
        tempfile.tempdir,
        *(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")),
        "/tmp",  # noqa: S108 - a file with a random name is made in it
        "/var/tmp",  # noqa: S108
        os.environ.get("AIRFLOW_HOME") or "~/airflow",
        os.curdir,
        "/dev/shm",  # noqa: S108
    ]
    found: dict[tuple[int, int], Path] = {}
    for name in filter(None, named):
        with contextlib.suppress(OSError, RuntimeError):  # the folder is missing, or this user has no home
            path = Path(os.fsdecode(name)).expanduser().absolute()
            if path.is_dir():
                info = path.stat()
                found.setdefault((info.st_dev, info.st_ino), path)
    return list(found.values())


@contextlib.contextmanager
def taking_up(path: Path) -> Iterator[list[bytes]]:
    """The whole lines of a file that an earlier run left. It is removed at the end, unless the caller raises."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        _lock(file)
        with open(file, "rb", closefd=False) as lines:
            yield [line for line in lines if line.endswith(b"\n")]
        path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _lock(file: int) -> None:
    with contextlib.suppress(OSError):  # some file systems have no locks
        fcntl.flock(file, fcntl.LOCK_EX)


def _is_own_file(path: Path) -> bool:
    """Is it a regular file of this user? Anyone may put a link or a file of theirs into a temporary folder."""
    try:
        info = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid()
