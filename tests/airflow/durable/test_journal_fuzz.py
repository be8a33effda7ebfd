"""Any order of deaths, freezes and takeovers of triggers over one journal: at most one call is paid for without a word.

Time, network and XCom are simulated, so that each order can be made to happen, and made again. A trigger can be frozen
where it waits: for XCom to be read, for the server, for the next attempt. (Between a look into the journal and what is
done by it lies the window that XCom leaves; it is not tried here.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider import triggers
from airflow_chat_provider.airflow_api.xcom import Slot
from airflow_chat_provider.core.call.steps import Response, Result, Send
from airflow_chat_provider.core.connection.settings import Settings, settings_from
from airflow_chat_provider.core.errors import TransportError
from airflow_chat_provider.durable import journal as journals
from airflow_chat_provider.durable.journal import Overtaken
from airflow_chat_provider.testing import replies
from airflow_chat_provider.transport.session import AsyncSession
from tests.support.fuzzing import fuzz
from tests.support.memory_xcom import MemoryXCom, leave, trigger

MOST = 3
URL = "http://127.0.0.1:9"
GOOD = Response(200, {"content-type": "application/json"}, replies.ok("paid").body)
BUSY = Response(429, {"retry-after": "20"}, b'{"error": {"message": "slow down"}}')
BROKEN = Response(500, {"retry-after": "20"}, b'{"error": {"message": "oops"}}')
FREE = (BUSY, BROKEN)


class One:
    """A trigger, and where it stands."""

    def __init__(self, world: World, on_uncertain: str) -> None:
        self.world = world
        self.trigger = trigger(on_uncertain=on_uncertain)
        self.event: Any = None
        self.frozen = False
        self.waits_for: Callable[[], bool] | None = None
        self.answer: Response | None = None
        self.is_sending = False
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        CURRENT[asyncio.current_task()] = self
        async for event in self.trigger.run():
            self.event = event

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for ``true``, and for being thawed."""
        while self.frozen or not true():  # noqa: ASYNC110 - each turn of the loop is a step of the simulation
            await asyncio.sleep(0)

    async def sleep(self, due: float) -> None:
        await self.until(lambda: self.world.now >= due)

    def is_answered(self) -> bool:
        return self.answer is not None


CURRENT: dict[Any, One] = {}


class World:
    """``sends``: of each POST what the server made of it; None is one that nobody knows the end of, and may be paid."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        self.xcom = MemoryXCom(patch)
        self.sends: list[list[Response | None]] = []
        self.all: list[One] = []
        inner = Slot.aget

        async def aget(slot: Slot) -> Any:
            await CURRENT[asyncio.current_task()].until(lambda: True)
            return await inner(slot)

        patch.setattr(Slot, "aget", aget)
        patch.setattr(journals, "_now", lambda: (self.now, self.now))
        patch.setattr(triggers, "time", SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now))
        patch.setattr(triggers, "asyncio", Sleepless(self))

        async def read(_source: Any, conn_id: str) -> Settings:
            return settings_from(conn_id, host=URL, port=None, schema=None, login=None, password=None, extra=None)

        class Session(AsyncSession):
            """Drives an exchange as the real one does, with the server's answers of this test."""

            run = partial(drive, self)

        patch.setattr(triggers, "aread_settings", read)
        patch.setattr(triggers, "AsyncSession", Session)

    def start(self, on_uncertain: str) -> None:
        """Airflow gives the task's trigger to another triggerer, whether the one before is dead or not."""
        self.all.append(One(self, on_uncertain))


class Sleepless:
    """asyncio for the trigger, in simulated time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await CURRENT[asyncio.current_task()].sleep(self._world.now + seconds)


async def drive(world: World, steps: Any, headers: Any, note: Any, guard: Any) -> Any:
    one, began = CURRENT[asyncio.current_task()], world.now
    step = next(steps)
    while True:
        await note(step, world.now - began)
        outcome = None
        if isinstance(step, Send):
            await one.until(lambda: True)  # while it connects
            try:
                await guard()
            except Overtaken:  # a transport has errors of its own for what goes wrong in it
                outcome = TransportError("held back", sent=False)
                step = steps.send(Result(outcome, world.now - began, world.now, 0.5))
                continue
            made: list[Response | None] = [None]
            world.sends.append(made)
            one.answer, one.is_sending = None, True
            await one.until(one.is_answered)
            one.is_sending = False
            made[0] = outcome = one.answer
        else:
            await one.sleep(world.now + step.seconds)
        try:
            step = steps.send(Result(outcome, world.now - began, world.now, 0.5))
        except StopIteration as done:
            return done.value


ACTIONS = st.one_of(
    st.just(("start",)),
    st.tuples(st.just("kill"), st.integers(0, 3)),
    st.tuples(st.just("freeze"), st.integers(0, 3)),
    st.tuples(st.just("thaw"), st.integers(0, 3)),
    st.tuples(st.just("answer"), st.integers(0, 3), st.sampled_from([GOOD, BUSY, BROKEN])),
    st.tuples(st.just("time"), st.sampled_from([0.5, 2.0, 30.0])),
)


async def turns(count: int = 60) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def play(world: World, actions: list[Any], on_uncertain: str) -> None:
    world.start(on_uncertain)
    kept = "[]"
    for action in actions:
        if action[0] == "start":
            world.now += 30  # the one before was silent for so long, or so Airflow takes it
        await turns()
        act(world, action, on_uncertain)
        await turns()
        found = world.xcom.head().get("replies")
        if found is None:  # the XComs are left, or the task was cleared
            assert "paid" not in kept or what_is_left(world) or action[0] == "clear"
            kept = "[]"
        else:
            assert found.startswith(kept[:-1]), "an answer that was stored is gone"
            kept = found
    for one in world.all:
        if one.task.done() and not one.task.cancelled():
            assert one.task.exception() is None


def what_is_left(world: World) -> bool:
    return world.xcom.get("return_value") == "paid"


def act(world: World, action: Any, on_uncertain: str) -> None:
    what, *more = action
    if what == "start" and len(world.all) < 6:
        world.start(on_uncertain)
    elif what == "time":
        world.now += more[0]
    elif what == "clear":
        world.xcom.clear()
    elif running := [one for one in world.all if not one.task.done()]:
        happens_to(running[more[0] % len(running)] if more else running[0], what, more)


def happens_to(one: One, what: str, more: list[Any]) -> None:
    if what == "kill":
        one.task.cancel()
    elif what == "freeze":
        one.frozen = True
    elif what == "thaw" and one.frozen:
        one.frozen, one.world.now = False, one.world.now + 5
    elif what == "answer" and one.is_sending:
        one.answer = more[1]


def simulate(actions: list[Any], on_uncertain: str) -> World:
    with pytest.MonkeyPatch.context() as patch:
        world = World(patch)
        leave(URL, max_attempts=MOST)

        async def scene() -> None:
            await play(world, actions, on_uncertain)
            for one in world.all:
                one.task.cancel()
            await asyncio.gather(*(one.task for one in world.all), return_exceptions=True)

        asyncio.run(scene())
        return world


def may_be_paid(world: World) -> int:
    return sum(made[0] not in FREE for made in world.sends)


@pytest.mark.slow
@fuzz(150)
@given(st.lists(ACTIONS, max_size=30))
def test_whatever_happens_to_its_triggers_a_call_is_not_paid_twice(actions):
    assert may_be_paid(simulate(actions, "fail")) <= 1


@pytest.mark.slow
@fuzz(150)
@given(st.lists(ACTIONS, max_size=30))
def test_a_call_that_may_be_sent_again_is_sent_max_attempts_times_at_most(actions):
    assert len(simulate(actions, "resend").sends) <= MOST


@pytest.mark.slow
@fuzz(150)
@given(st.lists(ACTIONS, max_size=30))
def test_a_trigger_whose_task_was_cleared_writes_nothing_more(actions):
    ends = [(what, number, *reply) for number in range(6) for what, *reply in (("thaw",), ("answer", GOOD))]
    assert simulate([*actions, ("clear",), *ends, ("time", 30.0), *ends], "fail").xcom.head() == {}
