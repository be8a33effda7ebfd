"""The journal of a deferred call in XCom, in pieces that no triggerer chokes on.

A triggerer's two processes talk over sockets that hold some 200 KB. While one waits for room to hand over a large
value and the other for room to log, both wait for ever, and every deferred task with them. So a long text lies in
XComs of its own, and a loop has few answers under way at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from typing import Any

from airflow_chat_provider.core.journal import KEY, Entry
from airflow_chat_provider.loops import PerLoop
from airflow_chat_provider.xcoms import Slot

PIECE = 48 << 10  # characters, all of them ASCII
_AT_ONCE = 2
_TEXTS = ("call", "outcome")
_gate = PerLoop(lambda: asyncio.Semaphore(_AT_ONCE))


class Journal:
    """Reads and writes the entry of one try of a task instance. ``entry`` is what was read or written last."""

    def __init__(self, slot: Slot, try_number: int) -> None:
        self.slot = slot
        self.try_number = try_number
        self._entry: Entry | None = None

    @classmethod
    def of(cls, ti: Any) -> Journal:
        return cls(Slot.of(ti, KEY), ti.try_number)

    @property
    def entry(self) -> Entry:
        if self._entry is None:
            raise RuntimeError("the journal has not been read")
        return self._entry

    def read(self) -> Entry:
        """Raises Unusable."""
        steps = self._reading()
        value = next(steps).get()
        while True:
            try:
                value = steps.send(value).get()
            except StopIteration as done:
                return self._read(done.value)

    async def aread(self) -> Entry:
        steps = self._reading()
        slot = next(steps)
        while True:
            async with _gate():
                value = await slot.aget()
            try:
                slot = steps.send(value)
            except StopIteration as done:
                return self._read(done.value)

    def write(self, entry: Entry) -> None:
        for slot, value in self.writing(entry):
            slot.put(value)
        self._entry = entry

    async def awrite(self, entry: Entry) -> None:
        for slot, value in self.writing(entry):
            await slot.aput(value)
        self._entry = entry

    def drop(self) -> None:
        """Remove what was read."""
        for name in _TEXTS:
            for slot, _ in self._pieces(name, getattr(self.entry, name)):
                slot.drop()
        self.slot.drop()

    def _read(self, value: Any) -> Entry:
        self._entry = entry = Entry.read(value, self.try_number)
        return entry

    def _reading(self) -> Generator[Slot, Any, Any]:
        """Each slot to look into, until all is found."""
        head = yield self.slot
        for name in _TEXTS if isinstance(head, dict) else ():
            count = head.get(name)
            if isinstance(count, int):
                head[name] = ""
                for number in range(count):
                    piece = yield self._piece(name, number)
                    if not isinstance(piece, str):
                        return {}
                    head[name] += piece
        return head

    def writing(self, entry: Entry) -> Iterator[tuple[Slot, Any]]:
        """What to put where, the entry itself at last; a text that lies there already is left alone."""
        head = entry.to_dict()
        for name in _TEXTS:
            pieces = list(self._pieces(name, head[name]))
            if pieces:
                head[name] = len(pieces)
                if self._entry is None or getattr(self._entry, name) is not getattr(entry, name):
                    yield from pieces
        yield self.slot, head

    def _pieces(self, name: str, text: str | None) -> Iterator[tuple[Slot, str]]:
        """None where the text is short enough for the entry itself."""
        if text is not None and len(text) > PIECE:
            for number, start in enumerate(range(0, len(text), PIECE)):
                yield self._piece(name, number), text[start : start + PIECE]

    def _piece(self, name: str, number: int) -> Slot:
        return self.slot._replace(key=f"{self.slot.key}_{name}_{number}")
