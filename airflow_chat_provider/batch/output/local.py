"""An output folder on this machine: two files that grow. A row counts as done once its line is on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from airflow_chat_provider.batch import files
from airflow_chat_provider.batch.files import StoreError, file_error, readable
from airflow_chat_provider.batch.output.store import ERRORS, MANIFEST, OWNER, RESULTS, Store
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.core.json_text.nesting import loads

_RESERVE = 64 << 10  # bytes for each answer that may still come when the disk is full
_POSTED = 1 << 20  # bytes of lines that nobody waits for
_LOCK_WAIT = 30.0  # seconds; a task that has lost its worker may take this long to end
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A line to be written. ``written`` wakes who waits for it, if anybody does; ``stored`` counts it."""

    kind: str
    content: bytes
    written: asyncio.Future[None] | None
    stored: Callable[[], None]


class LocalStore(Store):
    """Lines that come while others are being written go to the disk together, with one fsync.

    A lock keeps a second run out. Some network file systems have no locks: so a run marks the folder as its own, looks
    at the mark before each write, and stops writing once another run has marked the folder.
    """

    def __init__(self, folder: Path, in_flight: int, file_mode: int | None = 0o600) -> None:
        """``in_flight``: how many answers may still come when the disk is full; room is kept for them."""
        super().__init__(folder)
        self._folder = folder
        self._mark = str(folder / OWNER)
        self._reserve = folder / ".reserve"
        self._mode = file_mode
        self._in_flight = in_flight
        self._files: dict[str, int] = {}
        self._waiting: list[_Line] = []
        self._flushing: asyncio.Task[None] | None = None
        self._posted = 0
        self._has_room = asyncio.Event()

    def where(self, kind: str) -> str:
        return str(self._path(kind))

    def place(self, kind: str, number: int) -> str:
        return f"{self._path(kind)}:{number + 1}"

    def _path(self, kind: str) -> Path:
        return self._folder / (f"{kind}.jsonl" if kind in (RESULTS, ERRORS) else kind)

    def holds(self, kind: str) -> bool:
        with readable("output", self._folder):
            self._check_folder()
            return self._path(kind).exists() and self._path(kind).stat().st_size > 0

    def _check_folder(self) -> None:
        if self._folder.exists() and not self._folder.is_dir():
            raise file_error("output", self._folder, "is a file; name a folder")

    def open(self) -> None:
        with readable("output", self._folder):
            self._check_folder()
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                for kind in (RESULTS, ERRORS):
                    self._files[kind] = files.create(self._path(kind), os.O_RDWR | os.O_APPEND, self._mode)
                self._lock(self._files[RESULTS])
                super().open()
            except BaseException:
                self.close()
                raise

    def _lock(self, file: int) -> None:
        until = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    why = "is in use by another run; wait for its end, or name another folder"
                    raise file_error("output", self._folder, why) from None
                time.sleep(0.5)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                log.warning("Let only one run at a time write to %s: its file system has no locks", self._folder)
                return
            else:
                return

    def claim(self) -> None:
        with readable("output", self._folder):
            files.replace(self._path(OWNER), [self._owner], self._mode)
        # A file that is deleted when the disk is full, so that the answers under way can still be written.
        free = os.statvfs(self._folder)
        size = min(_RESERVE * self._in_flight, free.f_bavail * free.f_frsize // 2)
        with contextlib.suppress(OSError):  # not every file system can allocate room
            file = files.create(self._reserve, os.O_WRONLY | os.O_TRUNC, self._mode)
            try:
                os.posix_fallocate(file, 0, max(1, size))
            finally:
                os.close(file)

    def check(self) -> None:
        # Opened each time: only then does a network file system ask its server for the file as it is now.
        try:
            owner = _read(self._mark)
        except FileNotFoundError:
            owner = None
        except OSError as error:
            if error.errno in _NO_DESCRIPTORS:  # writing the lines that came matters more than this check
                return
            with readable("output", self._mark):
                raise
        if owner != self._owner:
            raise self._taken_over(owner)

    def read(self, name: str) -> bytes | None:
        with readable("output", self._path(name)):
            try:
                return self._path(name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def put(self, name: str, content: bytes) -> None:
        self.check()
        with readable("output", self._path(name)):
            files.replace(self._path(name), [content], self._mode)

    def lines(self, kind: str) -> Iterator[bytes]:
        whole = 0
        with readable("output", self._path(kind)), self._path(kind).open("rb", buffering=1 << 20) as file:
            for line in file:
                if line.endswith(b"\n") or kind not in self._files:  # a folder that is only read stays as it is
                    whole += len(line)
                    yield line
                elif _is_object(line):  # only its newline is missing: a crash or an editor dropped it
                    files.write_all(self._files[kind], b"\n")
                    yield line + b"\n"
                else:
                    os.ftruncate(self._files[kind], whole)

    def file(self, kind: str) -> IO[bytes]:
        with readable("output", self._path(kind)):
            return self._path(kind).open("rb")

    def add(self, kind: str, lines: list[bytes]) -> None:
        self.check()
        with readable("output", self._path(kind)):
            _write(self._files[kind], b"".join(lines), os.fstat(self._files[kind]).st_size)

    async def write(self, kind: str, line: bytes, stored: Callable[[], None]) -> None:
        written = asyncio.get_running_loop().create_future()
        self._take(_Line(kind, line, written, stored))
        await written

    async def post(self, kind: str, line: bytes, stored: Callable[[], None]) -> None:
        if self.error is not None:
            raise self.error
        self._posted += len(line)
        self._take(_Line(kind, line, None, stored))
        if self._posted > _POSTED:
            await self._has_room.wait()

    def _take(self, line: _Line) -> None:
        self._waiting.append(line)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    def _make_room(self) -> list[_Line]:
        """The lines that wait. Whoever waits for room may add others."""
        lines, self._waiting, self._posted = self._waiting, [], 0
        self._has_room.set()
        self._has_room.clear()  # those who wait now are told all the same
        return lines

    async def _flush(self) -> None:
        lines: list[_Line] = []
        try:
            while self._waiting:
                lines = self._make_room()
                missing = await asyncio.get_running_loop().run_in_executor(self._thread, self._store, lines)
                for line in lines:
                    self._tell(line, self.error if line in missing else None)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for these lines for ever
            self._note_bug(error)
            for line in (*lines, *self._make_room()):
                self._tell(line, self.error)
        finally:
            self._flushing = None

    def _tell(self, line: _Line, error: StoreError | None) -> None:
        if error is None:
            line.stored()
        if line.written is not None and not line.written.done():
            line.written.set_exception(error) if error else line.written.set_result(None)

    async def flush(self) -> None:
        if self._flushing is not None:
            await self._flushing

    def _store(self, lines: list[_Line]) -> set[_Line]:
        """Write lines. Returns those that are not in the output: the spill keeps these."""
        missing: list[_Line] = []
        for kind in (RESULTS, ERRORS):
            if of_kind := [line for line in lines if line.kind == kind]:
                missing += of_kind[self._append(self._files[kind], [line.content for line in of_kind]) :]
        if missing:
            self._spill([line.content for line in missing])
        return set(missing)

    def _append(self, file: int, contents: list[bytes]) -> int:
        """Append lines: how many are in the output. ``_why_refused`` says why the others are not."""
        if self._why_refused:
            return 0
        try:
            self.check()
            self._append_all(file, b"".join(contents))
        except Exception as error:  # noqa: BLE001 - whatever it is, these lines are paid for
            self._refuse(error)
            if isinstance(error, OSError) and error.errno in files.NO_ROOM:  # but there may be room for some of them
                with contextlib.suppress(OSError):
                    return files.write_lines(file, contents)[0]
            return 0
        return len(contents)

    def _append_all(self, file: int, content: bytes) -> None:
        now = os.fstat(file)
        if not now.st_nlink:
            raise FileNotFoundError(errno.ENOENT, "one of its files was removed")
        try:
            _write(file, content, now.st_size)
        except OSError as error:
            if error.errno not in files.NO_ROOM or self.full:
                raise
            self.full = True
            self._reserve.unlink(missing_ok=True)
            _write(file, content, now.st_size)

    def rewrite_errors(self, keep: Callable[[int, bytes], bool]) -> None:
        self.check()
        kept = (line for number, line in enumerate(self.lines(ERRORS)) if keep(number, line))
        with readable("output", self._path(ERRORS)):
            files.replace(self._path(ERRORS), kept, self._mode)
            old, self._files[ERRORS] = self._files[ERRORS], os.open(self._path(ERRORS), os.O_RDWR | os.O_APPEND)
            os.close(old)

    def clear(self) -> None:
        self.check()
        with readable("output", self._folder):
            for file in self._files.values():
                os.ftruncate(file, 0)
            self._path(MANIFEST).unlink(missing_ok=True)

    def close(self) -> None:
        super().close()
        with contextlib.suppress(OSError, ChatCompletionError):  # another run may need its reserve
            if self._files and self.read(OWNER) == self._owner:
                self._reserve.unlink(missing_ok=True)
        while self._files:
            os.close(self._files.popitem()[1])


def _write(file: int, content: bytes, size: int) -> None:
    try:
        files.write_all(file, content)
        os.fsync(file)
    except OSError:
        with contextlib.suppress(OSError):  # the next run skips what is left of the line
            os.ftruncate(file, size)
        raise


def _read(path: str) -> bytes:
    """All of a small file, in a quarter of the time that ``read_bytes`` takes."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 1 << 16)
    finally:
        os.close(file)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(loads(line), dict)
    except ValueError:
        return False
