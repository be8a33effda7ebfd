"""An output folder on this machine: two files that grow, each line on the disk before its row counts as done."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from airflow_chat_provider.batch.files import file_error, readable
from airflow_chat_provider.batch.spill import Spill
from airflow_chat_provider.batch.store import ERRORS, MANIFEST, RESULTS, StoreError

_RESERVE = 64 << 10  # bytes for each reply that may still come when the disk is full
_LOCK_WAIT = 30.0  # seconds; a task whose worker was lost may take this long to end
_FULL = (errno.ENOSPC, errno.EDQUOT)
_Waiting = list[tuple[str, bytes, "asyncio.Future[None]"]]


class LocalStore:
    """Lines that come while others are written go to the disk together, with one fsync."""

    def __init__(self, folder: Path, in_flight: int) -> None:
        self.full = False
        self._folder = folder
        self._files: dict[str, int] = {}
        self._waiting: _Waiting = []
        self._flushing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "chat-batch-output")
        self._in_flight = in_flight
        self.error: StoreError | None = None
        self._spill = Spill()

    def where(self, kind: str) -> str:
        return str(self._path(kind))

    def _path(self, kind: str) -> Path:
        return self._folder / (f"{kind}.jsonl" if kind in (RESULTS, ERRORS) else kind)

    @property
    def _reserve(self) -> Path:
        return self._folder / ".reserve"

    def holds(self, kind: str) -> bool:
        with readable("output", self._folder):
            return self._path(kind).exists() and self._path(kind).stat().st_size > 0

    def open(self) -> None:
        with readable("output", self._folder):
            if self._folder.exists() and not self._folder.is_dir():
                raise file_error("output", self._folder, "is a file; name a folder")
            self._folder.mkdir(parents=True, exist_ok=True)
            for kind in (RESULTS, ERRORS):
                self._files[kind] = os.open(self._path(kind), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            self._lock(self._files[RESULTS])

    def _lock(self, file: int) -> None:
        until = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    why = "is written to by another run; wait for its end, or name another folder"
                    raise file_error("output", self._folder, why) from None
                time.sleep(0.5)
            else:
                return

    def claim(self) -> None:
        """Keep room that is given up when the disk is full, so that the replies under way can still be written."""
        free = os.statvfs(self._folder)
        size = min(_RESERVE * self._in_flight, free.f_bavail * free.f_frsize // 2)
        with readable("output", self._folder), self._reserve.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, size))  # not every file system can

    def read(self, name: str) -> bytes | None:
        with readable("output", self._path(name)):
            return self._path(name).read_bytes() if self._path(name).exists() else None

    def put(self, name: str, content: bytes) -> None:
        with readable("output", self._path(name)):
            self._replace(self._path(name), [content])

    def _replace(self, path: Path, pieces: Iterator[bytes] | list[bytes]) -> None:
        new = path.with_name(f".{path.name}.new")
        with new.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def lines(self, kind: str) -> Iterator[bytes]:
        whole = 0
        with readable("output", self._path(kind)), self._path(kind).open("rb", buffering=1 << 20) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    os.ftruncate(self._files[kind], whole)
                    return
                whole += len(line)
                yield line

    async def write(self, kind: str, line: bytes) -> None:
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((kind, line, written))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await written

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                error = await asyncio.get_running_loop().run_in_executor(self._thread, self._append, batch)
                for _, _, written in batch:
                    if not written.done():
                        written.set_exception(error) if error else written.set_result(None)
        finally:
            self._flushing = None

    async def flush(self) -> None:
        if self._flushing is not None:
            await self._flushing

    def _append(self, batch: _Waiting) -> StoreError | None:
        try:
            if self.error is None:
                for kind, file in self._files.items():
                    if content := b"".join(line for its, line, _ in batch if its == kind):
                        self._append_to(file, content)
                return None
            self._spill.keep(line for _, line, _ in batch)
        except OSError as error:
            self._spill.keep(line for _, line, _ in batch)
            self.error = StoreError(
                f"Mend the output and run the task again: {self._folder} cannot be written ({error.strerror}). What "
                f"this run got last is in {self._spill.path}"
            )
        return self.error

    def _append_to(self, file: int, content: bytes) -> None:
        size = os.fstat(file).st_size
        try:
            _write(file, content)
        except OSError as error:
            os.ftruncate(file, size)
            if error.errno not in _FULL or self.full:
                raise
            self.full = True
            self._reserve.unlink(missing_ok=True)
            try:
                _write(file, content)
            except OSError:
                os.ftruncate(file, size)
                raise

    def rewrite_errors(self, keep: Callable[[int, bytes], bool]) -> None:
        kept = (line for number, line in enumerate(self.lines(ERRORS)) if keep(number, line))
        with readable("output", self._path(ERRORS)):
            self._replace(self._path(ERRORS), kept)
            os.close(self._files[ERRORS])
            self._files[ERRORS] = os.open(self._path(ERRORS), os.O_RDWR | os.O_APPEND)

    def clear(self) -> None:
        for file in self._files.values():
            os.ftruncate(file, 0)
        self._path(MANIFEST).unlink(missing_ok=True)

    def close(self) -> None:
        self._thread.shutdown()
        self._reserve.unlink(missing_ok=True)
        for file in self._files.values():
            os.close(file)


def _write(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
    os.fsync(file)
