"""What the soak has in place of Airflow: XComs and task state in memory, task instances, and the death of a worker.

The one part that knows how a deferred call is resumed, and what its trigger says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred

from airflow_chat_provider.airflow_api.xcom import Slot
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.triggers import ChatCompletionTrigger

try:
    from airflow.triggers.base import BaseTaskEndEvent
except ImportError:
    BaseTaskEndEvent = ()


_TROUBLE = 0.2


class Died(BaseException):
    """The worker was killed here: no code of ours runs after it."""


class Hiccup(OSError):
    """The database, now and then."""


class XComs:
    """As JSON, which is what Airflow keeps them as. ``troubled``: tasks for which the database fails now and then."""

    def __init__(self, draw: random.Random) -> None:
        self.values: dict[tuple, str] = {}
        self.troubled: set[str] = set()
        self._draw = draw

    def install(self) -> None:
        """Let every Slot lie here."""
        # A method of ours would not be given the slot.
        Slot.get = lambda slot: self.get(slot)  # noqa: PLW0108
        Slot.put = lambda slot, value: self.put(slot, value)  # noqa: PLW0108
        Slot.drop = lambda slot: self.drop(slot)  # noqa: PLW0108
        Slot.aget = self._later(self.get)
        Slot.aput = self._later(self.put)
        Slot.adrop = self._later(self.drop)

    def get(self, slot: tuple) -> Any:
        text = self.values.get(tuple(slot))
        return None if text is None else json.loads(text)

    def put(self, slot: tuple, value: Any) -> None:
        self.values[tuple(slot)] = json.dumps(value, allow_nan=False)

    def drop(self, slot: tuple) -> None:
        self.hiccup(slot[3])
        self.values.pop(tuple(slot), None)

    def hiccup(self, task_id: str) -> None:
        if task_id in self.troubled and self._draw.random() < _TROUBLE:
            raise Hiccup("the database is away")

    def of(self, task_id: str) -> dict[str, Any]:
        """By their keys."""
        return {slot[0]: json.loads(text) for slot, text in list(self.values.items()) if slot[3] == task_id}

    def clear(self, task_id: str) -> None:
        """As Airflow does before each try."""
        for slot in [slot for slot in list(self.values) if slot[3] == task_id]:
            self.values.pop(slot, None)

    def _later(self, access: Callable[..., Any]) -> Callable[..., Any]:
        async def later(slot: Slot, *value: Any) -> Any:
            await asyncio.sleep(self._draw.random() * 0.005)
            if value:
                self.hiccup(slot.task_id)
            return access(slot, *value)

        return later


class State(dict):
    """The task state store of one task instance."""

    def __init__(self, xcoms: XComs, task_id: str) -> None:
        super().__init__()
        self._xcoms = xcoms
        self._task_id = task_id

    def set(self, key: str, value: Any, retention: Any = None) -> None:  # noqa: ARG002 - Airflow's signature
        self._xcoms.hiccup(self._task_id)
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.pop(key, None)


class DagRun:
    clear_number = 0
    start_date = "2026-01-01"


class TaskInstance:
    """One try. ``dies``: at its so manieth XCom."""

    dag_id, run_id, map_index = "soak", "run", -1

    def __init__(self, xcoms: XComs, task_id: str, try_number: int, max_tries: int, dies: int | None = None) -> None:
        self.task_id = task_id
        self.try_number = try_number
        self.max_tries = max_tries
        self._xcoms = xcoms
        self._dies = dies

    def xcom_push(self, key: str, value: Any) -> None:
        if self._dies is not None:
            self._dies -= 1
            if self._dies < 0:
                raise Died
        self._xcoms.put((key, self.dag_id, self.run_id, self.task_id, self.map_index), value)


class Task:
    """One task instance with its tries, as a worker, a triggerer and a scheduler handle it between them.

    A tenth of all tasks meet a database that fails; nobody who works for one of those dies. Both at once may cost an
    answer: what was to be remembered could not be written.
    """

    def __init__(self, xcoms: XComs, task_id: str, draw: random.Random, **arguments: Any) -> None:
        self.task_id = task_id
        self.deaths = 0
        self.errors: list[BaseException] = []
        self._xcoms = xcoms
        self._draw = draw
        self._state = State(xcoms, task_id)
        self._arguments = arguments
        self.is_troubled = draw.random() < 0.1
        if self.is_troubled:
            xcoms.troubled.add(task_id)
        self.operator: ChatCompletionOperator | None = None
        self._context: dict[str, Any] = {}

    def begin(self, try_number: int, max_tries: int) -> TaskDeferred | None:
        """``execute`` in a fresh process; how it goes on, if it does. Raises what the task fails with, and Died."""
        self._xcoms.clear(self.task_id)
        dies = self._draw.randrange(4) if self.may_die(0.05) and try_number <= 2 else None
        ti = TaskInstance(self._xcoms, self.task_id, try_number, max_tries, dies)
        self._context = {"ti": ti, "dag_run": DagRun(), "task_state_store": self._state, "params": {}}
        return self._run(lambda: self._fresh().execute(self._context))

    def resume(self, deferred: TaskDeferred, event: Any) -> TaskDeferred | None:
        """The worker that takes up what the trigger left."""
        if isinstance(event, BaseTaskEndEvent):
            for key, value in (event.xcoms or {}).items():
                self._context["ti"].xcom_push(key, value)
            return None
        if self.may_die(0.03) and self._context["ti"].try_number <= 2:
            self.deaths += 1
            raise Died  # before any of our code is reached
        arguments = {**(deferred.kwargs or {}), "event": event.payload}
        return self._run(lambda: self._fresh().resume_execution(deferred.method_name, arguments, self._context))

    def may_die(self, chance: float) -> bool:
        """Is it time to kill who works for this task?"""
        return not self.is_troubled and self._draw.random() < chance

    def end(self) -> None:
        """Forget it."""
        self._xcoms.clear(self.task_id)
        self._xcoms.troubled.discard(self.task_id)

    def _run(self, step: Callable[[], Any]) -> TaskDeferred | None:
        try:
            value = step()
        except TaskDeferred as deferred:
            return deferred
        except Died:
            self.deaths += 1
            raise
        except Exception as error:
            self.errors.append(error)
            raise
        self._context["ti"].xcom_push("return_value", value)
        return None

    def _fresh(self) -> ChatCompletionOperator:
        self.operator = ChatCompletionOperator(task_id=self.task_id, dag=DAG("soak", schedule=None), **self._arguments)
        return self.operator

    async def trigger(self, deferred: TaskDeferred) -> Any:
        """The trigger's event, from a triggerer that may be killed and start anew."""
        _, arguments = deferred.trigger.serialize()
        deaths = self._draw.choice((1, 1, 3)) if self.may_die(0.3) else 0
        while True:
            run = asyncio.create_task(_event(ChatCompletionTrigger(**arguments)))
            if deaths:
                deaths -= 1
                await asyncio.wait([run], timeout=self._draw.random() * 0.4)
                if not run.done():
                    self.deaths += 1
                    run.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await run
                    continue
            return await run


async def _event(trigger: ChatCompletionTrigger) -> Any:
    """The first event; Airflow then cancels the trigger."""
    events = trigger.run()
    try:
        return await anext(events)
    finally:
        await events.aclose()
