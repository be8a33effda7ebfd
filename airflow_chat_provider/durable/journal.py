"""The journal of a deferred call in XCom, in pieces that a triggerer can carry.

A triggerer's two processes talk over sockets that hold some 200 KB. If one waits for room to hand over a large value
while the other waits for room to log, both wait for ever, and so does every deferred task. So a long text is cut into
XComs of its own, and few answers of Airflow's are under way in a loop at a time.

XCom has no compare-and-set. So each try of a task has its own key, which keeps triggers away from another try's entry,
and ``acheck`` reads again what may have changed. A window of milliseconds remains between that and the next step.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from airflow_chat_provider._per_loop import PerLoop
from airflow_chat_provider.airflow_api.xcom import Slot
from airflow_chat_provider.durable.entry import KEY, TEXTS, Entry, Unusable
from airflow_chat_provider.transport.aside import by_size

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.result import Outcome

PIECE = 48 << 10  # characters, all of them ASCII
_AT_ONCE = 2
_LARGE = 1 << 16  # characters of replies
_LAST = "configuration"  # the XCom that a trigger sets last: where it is found, all the others are there too
_FRESH = 1.0  # seconds for which an entry that was read or written is trusted
log = logging.getLogger(__name__)
_gate = PerLoop(lambda: asyncio.Semaphore(_AT_ONCE))


class Overtaken(Exception):
    """The entry is not as this journal left it: another trigger works for the task, or the task has gone."""


class Journal:
    """Reads and writes the entry of one try of a task instance. ``entry`` is the one read or written last."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self._entry: Entry | None = None
        self._counts = dict.fromkeys(TEXTS, 0)
        self._is_taken_up = False
        self._read_at = _NEVER

    @classmethod
    def from_ti(cls, ti: Any) -> Journal:
        """In a worker."""
        return cls.from_slot(Slot.from_ti(ti, KEY), ti.try_number)

    @classmethod
    def from_slot(cls, slot: Slot, try_number: int) -> Journal:
        """``slot``: any XCom of the task instance; the journal has a key of its own for each try."""
        return cls(slot._replace(key=f"{KEY}_{try_number}"))

    @property
    def entry(self) -> Entry:
        if self._entry is None:
            raise RuntimeError("the journal has not been read")
        return self._entry

    def read(self) -> Entry:
        """The entry that is there. Raises Unusable."""
        steps = self._reading()
        value = next(steps).get()
        while True:
            try:
                value = steps.send(value).get()
            except StopIteration as done:
                return self._read(done.value)

    async def aread(self) -> Entry:
        """``read`` for an event loop."""
        steps = self._reading()
        slot = next(steps)
        while True:
            async with _gate():
                value = await slot.aget()
            try:
                slot = steps.send(value)
            except StopIteration as done:
                self._read_at = _now()
                return await by_size(_length(done.value), self._read, done.value)

    async def acheck(self) -> None:
        """Make sure that the entry is still as it was left; it is read again unless that was just now.

        Raises Overtaken.
        """
        if all(abs(now - then) <= _FRESH for now, then in zip(_now(), self._read_at, strict=True)):
            return
        async with _gate():
            value = await self.slot.aget()
        try:
            found = Entry.read_head(value)
        except Unusable as unusable:
            raise Overtaken(unusable.why) from None
        if found.stamp != self.entry.stamp:
            raise Overtaken(found.state)
        self._read_at = _now()

    def write(self, entry: Entry) -> None:
        for slot, value in self.writing(entry):
            slot.put(value)
        self._entry = entry

    async def awrite(self, entry: Entry) -> None:
        for slot, value in self.writing(entry):
            await slot.aput(value)
        self._entry, self._read_at = entry, _now()

    def doubt(self) -> None:
        """Trust the entry no more, after a wait or an answer."""
        self._read_at = _NEVER

    def drop(self) -> None:
        """Remove everything, including what an unknown trigger may have left. Raises what Airflow raises."""
        for slot in self.slots():
            slot.drop()
        for slot in self._uncounted():
            if slot.get() is None:
                return
            slot.drop()

    async def adrop(self) -> None:
        for slot in self.slots():
            await slot.adrop()
        for slot in self._uncounted() if self._is_taken_up else ():
            if await slot.aget() is None:
                return
            await slot.adrop()

    def _uncounted(self) -> Iterator[Slot]:
        """Where pieces of a reply may be that no entry counts: their trigger ended before it wrote the entry."""
        return (self._piece("replies", number) for number in itertools.count(self._counts["replies"]))

    def clear(self) -> None:
        """``drop``, when all that is in it has been used: a failure is only logged."""
        try:
            self.drop()
        except Exception as error:  # noqa: BLE001 - whatever the reason, the task has its answer
            log.warning("Airflow could not remove XCom %s of this task (%s)", self.slot.key, type(error).__name__)

    def slots(self) -> Iterator[Slot]:
        """Where the entry lies; its head comes last."""
        for name in TEXTS:
            for number in range(self._counts[name]):
                yield self._piece(name, number)
        yield self.slot

    async def aleave(self, left: Outcome) -> None:
        """Set the XComs of a task that its trigger ends, then remove the journal, which has nothing more to tell."""
        xcoms = left.xcoms if left.value is None else {**left.xcoms, "return_value": left.value}
        for key in sorted(xcoms, key=lambda key: key == _LAST):
            await self.slot._replace(key=key).aput(xcoms[key], large=len(self.entry.replies) > _LARGE)
        await self.adrop()

    async def ais_left(self) -> bool:
        """Has a trigger set all XComs of this try? Airflow removes the XComs of earlier tries."""
        return await self.slot._replace(key=_LAST).aget() is not None

    def is_left(self) -> bool:
        """``ais_left`` for a worker."""
        return self.slot._replace(key=_LAST).get() is not None

    def left_value(self) -> Any:
        """The return value that a trigger set; None where it set none."""
        return self.slot._replace(key="return_value").get()

    def _read(self, value: Any) -> Entry:
        self._entry = None
        self._entry = entry = Entry.read(value)
        self._is_taken_up = self._is_taken_up or entry.state == "sent"
        return entry

    def _reading(self) -> Generator[Slot, Any, Any]:
        """Yields each slot to read and is sent its value; returns the entry, put together."""
        head = yield self.slot
        for name in TEXTS if isinstance(head, dict) else ():
            count = head.get(name)
            if isinstance(count, int):
                self._counts[name] = max(count, self._counts[name])
                head[name], texts = "", []
                for number in range(count):
                    piece = yield self._piece(name, number)
                    if not isinstance(piece, str):
                        return {}
                    texts.append(piece)
                head[name] = "".join(texts)
        return head

    def writing(self, entry: Entry) -> Iterator[tuple[Slot, Any]]:
        """What to put where; the entry itself comes last. A text that is there already is left alone."""
        head = entry.to_dict()
        for name in TEXTS:
            text = head[name]
            if len(text) <= PIECE:  # it fits into the entry itself
                continue
            starts = range(0, len(text), PIECE)
            head[name] = len(starts)
            self._counts[name] = max(len(starts), self._counts[name])
            if self._entry is None or getattr(self._entry, name) is not text:
                for number, start in enumerate(starts):
                    yield self._piece(name, number), text[start : start + PIECE]
        yield self.slot, head

    def _piece(self, name: str, number: int) -> Slot:
        return self.slot._replace(key=f"{self.slot.key}_{name}_{number}")


def _length(head: Any) -> int:
    return sum(len(str(head.get(name))) for name in TEXTS) if isinstance(head, dict) else 0


_NEVER = float("-inf"), float("-inf")


def _now() -> tuple[float, float]:
    """Two clocks: one stands still while the machine sleeps, the other can be set back."""
    return time.monotonic(), time.time()
