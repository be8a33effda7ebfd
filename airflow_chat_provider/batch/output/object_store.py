"""An output folder in an object store. Files cannot grow there: lines are collected and written part by part."""

from __future__ import annotations

import asyncio
import bisect
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import IO, Any

from airflow_chat_provider.batch.files import readable, stored
from airflow_chat_provider.batch.output.store import ERRORS, MANIFEST, OWNER, RESULTS, Store, TakenOver

# Stores without folders: making one here would make a bucket, even one whose name is mistyped.
_FLAT = frozenset({"s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "adl", "az"})
_READERS = 16  # parts read at once when a run continues
_WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds between the tries to write a part

_Line = tuple[str, bytes, Callable[[], None]]
"""A line's kind, the line, and what to call when it is stored."""


class ObjectStore(Store):
    """A part holds ``part_rows`` lines, or those that came within ``part_seconds``; a crash loses the open part.

    A run marks the folder as its own, and stops writing once another run has marked it. Nothing is locked: of two runs,
    the one that marks the folder last goes on.
    """

    def __init__(self, folder: Any, part_rows: int, part_seconds: float) -> None:
        super().__init__(folder)
        self._folder = stored(folder, "output")
        self._fs = self._folder.fs
        self._rows, self._seconds = part_rows, part_seconds
        self._names = (f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self._run}-{n:05}.jsonl" for n in itertools.count(1))
        self._part: list[_Line] = []
        self._due: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._begins: dict[str, list[tuple[int, str]]] = {}

    def where(self, kind: str) -> str:
        return f"{str(self._folder).rstrip('/')}/{f'{kind}-*.jsonl' if kind in (RESULTS, ERRORS) else kind}"

    def _path(self, name: str) -> str:
        return f"{self._folder.path.rstrip('/')}/{name}"

    def holds(self, kind: str) -> bool:
        return bool(self._parts(kind))

    def place(self, kind: str, number: int) -> str:
        begins = self._begins[kind]
        first, name = begins[bisect.bisect(begins, number, key=lambda begin: begin[0]) - 1]
        return f"{name}:{number - first + 1}"

    def claim(self) -> None:
        if self._folder.protocol not in _FLAT:
            with readable("output", self._folder):
                self._fs.makedirs(self._folder.path, exist_ok=True)
        self._put(OWNER, self._owner)

    def check(self) -> None:
        owner = self.read(OWNER)
        if owner not in (None, self._owner):  # None: no other run has marked it
            raise self._taken_over(owner)

    def read(self, name: str) -> bytes | None:
        with readable("output", self.where(name)):
            self._fs.invalidate_cache()
            try:
                return bytes(self._fs.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def put(self, name: str, content: bytes) -> None:
        self.check()
        self._put(name, content)

    def _put(self, name: str, content: bytes) -> None:
        with readable("output", self.where(name)):
            self._fs.pipe_file(self._path(name), content)

    def _parts(self, kind: str) -> list[str]:
        """The files of a kind, in the order in which they were written."""
        with readable("output", self._folder):
            self._fs.invalidate_cache()
            names = self._fs.ls(self._folder.path, detail=False) if self._fs.exists(self._folder.path) else []
        return sorted(name for name in names if name.rpartition("/")[2].startswith(f"{kind}-"))

    def lines(self, kind: str) -> Iterator[bytes]:
        begins, number = self._begins.setdefault(kind, []), 0
        begins.clear()
        with readable("output", self.where(kind)), ThreadPoolExecutor(_READERS) as pool:
            parts = iter(self._parts(kind))
            while some := list(itertools.islice(parts, _READERS)):
                for name, content in zip(some, pool.map(self._fs.cat_file, some), strict=True):
                    begins.append((number, name))
                    for line in io.BytesIO(content):
                        number += 1
                        yield line if line.endswith(b"\n") else line + b"\n"

    def file(self, kind: str) -> IO[bytes]:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it; it has no name and goes with this process
        try:
            file.writelines(self.lines(kind))
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def add(self, kind: str, lines: list[bytes]) -> None:
        self.put(f"{kind}-{next(self._names)}", b"".join(lines))

    async def write(self, kind: str, line: bytes, stored: Callable[[], None]) -> None:
        self._part.append((kind, line, stored))
        while len(self._part) >= 2 * self._rows and self.error is None:
            await asyncio.shield(self._start())
        if self.error is not None:
            raise self.error
        if len(self._part) >= self._rows:
            self._start()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._seconds, self._start)

    async def post(self, kind: str, line: bytes, stored: Callable[[], None]) -> None:
        await self.write(kind, line, stored)  # which never waits for the line's own part

    def _start(self) -> asyncio.Task[None]:
        """Write the open part. If one is being written already, the lines wait for the next."""
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_part())
        return self._writing

    async def _write_part(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        part, self._part = self._part, []
        try:
            missing = await asyncio.get_running_loop().run_in_executor(self._thread, self._store, part)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for these lines for ever
            self._note_bug(error)
            return
        for kind, _, note_stored in part:
            if kind not in missing:
                note_stored()

    async def flush(self) -> None:
        while self._part or (self._writing is not None and not self._writing.done()):
            await self._start()
        if self.error is not None:
            raise self.error

    def _store(self, part: list[_Line]) -> set[str]:
        """Write a part. Returns the kinds whose lines are not in the store: the spill keeps these lines."""
        contents: dict[str, list[bytes]] = {}
        for kind, line, _ in part:
            contents.setdefault(kind, []).append(line)
        if not self._why_refused:
            self._put_part(contents)
        for lines in contents.values():
            self._spill(lines)
        return set(contents)

    def _put_part(self, contents: dict[str, list[bytes]]) -> None:
        """Write a part and remove from ``contents`` what is written. ``_why_refused`` says why the rest is not."""
        name, waits = next(self._names), iter(_WAITS)
        while contents:
            kind, lines = next(iter(contents.items()))
            try:
                self.check()
                self._fs.pipe_file(self._path(f"{kind}-{name}"), b"".join(lines))
                del contents[kind]
            except Exception as error:  # noqa: BLE001 - each store has errors of its own
                wait = None if isinstance(error, TakenOver) else next(waits, None)
                if wait is None:
                    self._refuse(error)
                    return
                time.sleep(wait)

    def rewrite_errors(self, keep: Callable[[int, bytes], bool]) -> None:
        self.check()
        old = self._parts(ERRORS)
        kept = [line for number, line in enumerate(self.lines(ERRORS)) if keep(number, line)]
        if kept:
            self.put(f"{ERRORS}-{next(self._names)}", b"".join(kept))
        self._remove(old)

    def clear(self) -> None:
        self.check()
        self._remove([*self._parts(RESULTS), *self._parts(ERRORS)])
        if self.read(MANIFEST) is not None:
            self._remove([self._path(MANIFEST)])

    def _remove(self, names: list[str]) -> None:
        with readable("output", self._folder):
            for name in names:
                self._fs.rm_file(name)
