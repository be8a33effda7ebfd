"""Where lines go that the output does not take: they are paid for and must not be lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from airflow_chat_provider.batch.files import reason, write_lines

_PREFIX = "chat-batch-"


class Spill:
    """Files on this machine that only this user can read. They are made when they are needed.

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
