"""Where lines go that the output does not take: paid for, they must not be lost."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path


class Spill:
    """Files on this machine that only this user can read, made when they are needed.

    Each line goes to the first of ``places`` that takes it. The log is none of them: lines hold prompts and answers.
    """

    def __init__(self) -> None:
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
        if (path := self._files.get(place)) is None:
            file, name = tempfile.mkstemp(prefix="chat-batch-", suffix=".jsonl", dir=place)
            path = Path(name)
        else:
            file = os.open(path, os.O_WRONLY | os.O_APPEND)
        taken, error = 0, None
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

    def told(self) -> str:
        """For an error: where the lines are, and what took none of them."""
        told = []
        if self._lost:
            tried = ", ".join(f"{place} ({why})" for place, why in self._refused.items()) or "any folder of this worker"
            told.append(f"{self._lost:,} lines could not be kept in {tried} either, and are lost")
        if self._files:
            where = " and ".join(map(str, self._files.values()))
            told.append(f"To keep what this run got last, add it to the results: it is in {where}")
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
