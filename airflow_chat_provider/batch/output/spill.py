"""Where lines go that the output does not take: paid for, they must not be lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

_PREFIX = "chat-batch-"


class Spill:
    """Files on this machine that only this user can read, made when they are needed.

    Each line goes to the first of ``places`` that takes it. The log is none of them: lines hold prompts and answers.
    ``batch`` is the id of the batch, by which its next run on this machine finds them.
    """

    def __init__(self) -> None:
        self.batch = ""
        self._files: dict[Path, Path] = {}
        self._refused: dict[Path, str] = {}
        self._lost = 0

    def keep(self, lines: Sequence[bytes]) -> None:
        """Write the lines where there is room. Never raises: ``told`` says what became of them."""
        left = list(lines)
        for place in places():
            try:
                left = self._into(place, left)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with this place, the next may do
                self._refused[place] = reason(error)
            if not left:
                return
        self._lost += len(left)

    def _into(self, place: Path, lines: list[bytes]) -> list[bytes]:
        """The lines that did not fit."""
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
        """The file of a place, locked: nobody takes it up while lines are added."""
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
        return f"{self.batch}-" if self.batch.isalnum() else ""  # it comes from a file, and becomes part of a path

    def earlier(self) -> list[Path]:
        """The files that earlier runs of this batch left on this machine."""
        found = (path for place in places() for path in place.glob(f"{_PREFIX}{self._tag}*.jsonl")) if self._tag else ()
        return [path for path in found if _is_ours(path)]

    def told(self) -> str:
        """For an error: where the lines are, and what took none of them."""
        told = []
        if self._lost:
            tried = ", ".join(f"{place} ({why})" for place, why in self._refused.items()) or "any folder of this worker"
            told.append(f"{self._lost:,} lines could not be kept in {tried} either, and are lost")
        if self._files:
            where = " and ".join(map(str, self._files.values()))
            told.append(f"What this run got last is taken up by its next try on this machine, from {where}")
        return ". ".join(told)


def places() -> list[Path]:
    """Where lines may be kept: temporary folders, Airflow's own, the current one, and memory as the last resort."""
    named = [
        tempfile.tempdir,
        *(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")),
        "/tmp",  # noqa: S108 - a folder with a random name is made in it
        "/var/tmp",  # noqa: S108
        os.environ.get("AIRFLOW_HOME") or "~/airflow",
        os.curdir,
        "/dev/shm",  # noqa: S108
    ]
    found: dict[tuple[int, int], Path] = {}
    for name in filter(None, named):
        with contextlib.suppress(OSError, RuntimeError):  # it is not there; this user has no home
            path = Path(os.fsdecode(name)).expanduser().absolute()
            if path.is_dir():
                there = path.stat()
                found.setdefault((there.st_dev, there.st_ino), path)
    return list(found.values())


@contextlib.contextmanager
def taking_up(path: Path) -> Iterator[list[bytes]]:
    """The lines of such a file, which is removed once they are elsewhere."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        _lock(file)
        with open(file, "rb", closefd=False) as lines:
            yield [line for line in lines if line.endswith(b"\n")]
        path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _lock(file: int) -> None:
    with contextlib.suppress(OSError):  # of a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)


def _is_ours(path: Path) -> bool:
    try:
        there = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(there.st_mode) and there.st_uid == os.geteuid()


def reason(error: Exception) -> str:
    """What went wrong, without a path."""
    return (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"[:200]


def write_lines(file: int, lines: Sequence[bytes]) -> tuple[int, OSError | None]:
    """How many lines are on the disk, and why not all."""
    taken, failure = 0, None
    for line in lines:
        size = os.fstat(file).st_size
        try:
            write_all(file, line)
        except OSError as error:
            failure = error
            os.ftruncate(file, size)
            break
        taken += 1
    try:
        os.fsync(file)
    except OSError as error:
        return 0, error
    return taken, failure


def write_all(file: int, content: bytes) -> None:
    """``os.write`` until all is written."""
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
