"""XCom in the memory of this process, for tests in which several triggers or workers meet over one task's journal."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from airflow_chat_provider.airflow_api.xcom import Slot
from airflow_chat_provider.core.answer.dialogue import Wanted
from airflow_chat_provider.core.answer.result import Delivery
from airflow_chat_provider.durable.entry import KEY, Deferred, Entry
from airflow_chat_provider.durable.journal import Journal
from airflow_chat_provider.triggers import ChatCompletionTrigger

WHERE = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}


class MemoryXCom(dict[str, Any]):
    """``rows`` by key. Everything in it went through JSON, as it does on its way to a database."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.puts: list[tuple[str, Any]] = []

        def get(slot: Slot) -> Any:
            return copy.deepcopy(self.get(slot.key))

        def put(slot: Slot, value: Any) -> None:
            self[slot.key] = json.loads(json.dumps(value, allow_nan=False))
            self.puts.append((slot.key, self[slot.key]))

        def drop(slot: Slot) -> None:
            self.pop(slot.key, None)

        async def aget(slot: Slot) -> Any:
            await asyncio.sleep(0)
            return slot.get()

        async def aput(slot: Slot, value: Any, *, large: bool = False) -> None:
            await asyncio.sleep(0)
            slot.put(value)

        async def adrop(slot: Slot) -> None:
            await asyncio.sleep(0)
            slot.drop()

        for method in (get, put, drop, aget, aput, adrop):
            monkeypatch.setattr(Slot, method.__name__, method)

    def head(self, try_number: int = 1) -> dict[str, Any]:
        """The journal's entry of a try; empty where there is none."""
        return self.get(f"{KEY}_{try_number}") or {}


def journal(try_number: int = 1) -> Journal:
    return Journal.from_slot(Slot(KEY, **WHERE), try_number)  # type: ignore[arg-type]


def leave(
    base_url: str, *, try_number: int = 1, wanted: Wanted | None = None, ends: bool = True, **limits: Any
) -> None:
    """What a worker leaves when it defers."""
    deferred = Deferred(
        limits={"timeout": 600.0, "deadline": 1800.0, "max_attempts": 3, **limits},
        request={"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
        question=None,
        rung=0,
        wanted=(wanted or Wanted()).to_dict(),
        delivery=Delivery("text")._asdict() if ends else None,
        configuration={"chat_conn_id": "chat_default", "base_url": base_url, "model": "m", "request_schema": None},
        ledger={"asked": 0, "digest": "d", "idempotency_key": "7d9a4a2e-0000-5000-8000-000000000001"},
    )
    journal(try_number).write(Entry.from_deferred(deferred, deferred.idempotency_key))


def trigger(**arguments: Any) -> ChatCompletionTrigger:
    return ChatCompletionTrigger(**WHERE, **arguments)  # type: ignore[arg-type]


class Running:
    """A trigger under way, as a triggerer runs it: ``event`` is set when it fires."""

    def __init__(self, running: ChatCompletionTrigger) -> None:
        self.trigger = running
        self.event: Any = None
        self.task = asyncio.create_task(self._run(running.run()))

    async def _run(self, events: AsyncIterator[Any]) -> None:
        async for event in events:
            self.event = event

    async def fired(self, seconds: float = 20.0) -> Any:
        """Its event, waited for."""
        async with asyncio.timeout(seconds):
            while self.event is None:  # noqa: ASYNC110 - it may be set before anybody waits
                await asyncio.sleep(0.01)
        return self.event

    async def end(self, message: Any = None) -> None:
        """As a triggerer ends one: ``message`` where the user or Airflow has no more use for it."""
        self.task.cancel(message)
        await asyncio.gather(self.task, return_exceptions=True)
