"""Two triggers work for one task: one was frozen, given up, and came back. Only one of them pays, or it is said."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from airflow_chat_provider import triggers
from airflow_chat_provider.airflow_api.xcom import Slot
from airflow_chat_provider.core.answer import record
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.durable.entry import KEY, Entry
from airflow_chat_provider.testing import faults, replies
from tests.support.asking import keys
from tests.support.memory_xcom import MemoryXCom, Running, journal, leave, trigger


@pytest.fixture
def xcom(monkeypatch):
    return MemoryXCom(monkeypatch)


async def until(true: Any) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is looked at is another thread's, or a dict
            await asyncio.sleep(0.01)


def state(event: Any) -> str:
    return event.payload if isinstance(event.payload, str) else event.payload["state"]


async def dies_after(wrote: Any) -> None:
    """A trigger whose triggerer ends once it has made the write for which ``wrote(slot, value)`` is true."""
    one = Running(trigger())
    aput = Slot.aput

    async def dying(slot: Slot, value: Any, **more: Any) -> None:
        await aput(slot, value, **more)
        if wrote(slot, value):
            one.task.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Slot, "aput", dying)
        await asyncio.gather(one.task, return_exceptions=True)
    assert one.event is None


class Frozen:
    """Holds up whoever enters ``method`` of the journal for the first time, as a stopped process would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, running: Any, method: str) -> None:
        self._thaw, self.reached = asyncio.Event(), asyncio.Event()
        inner = getattr(running.journal, method)

        async def held(*arguments: Any) -> Any:
            self.reached.set()
            await self._thaw.wait()
            running.journal._read_at = tuple(moment - 60 for moment in running.journal._read_at)  # time went by
            return await inner(*arguments)

        monkeypatch.setattr(running.journal, method, held)

    def thaw(self) -> None:
        self._thaw.set()


def test_a_trigger_that_slept_through_a_wait_sends_nothing_when_another_has_asked(xcom, chat, caplog):
    chat.script(replies.error(429, "slow", headers={"retry-after-ms": "300"}), replies.delay(0.6, replies.ok("paid")))
    leave(chat.url)

    async def scene():
        frozen = Running(trigger())
        await until(lambda: xcom.head().get("state") == "waiting")
        other = Running(trigger())
        event = await other.fired()
        await asyncio.sleep(0.3)
        assert frozen.event is None, "its triggerer would fail the task for an event, or for none"
        await frozen.end("user")
        await other.end("user")
        return event

    event = asyncio.run(scene())
    assert len(chat.requests) == 2, "the 429, and one paid answer"
    assert (state(event), xcom["return_value"]) == ("success", "paid")


@pytest.mark.parametrize("on_uncertain", ["fail", "resend"])
def test_a_trigger_that_was_frozen_before_its_first_send_sends_nothing(xcom, chat, monkeypatch, on_uncertain):
    leave(chat.url)

    async def scene():
        one = trigger(on_uncertain=on_uncertain)
        freeze = Frozen(monkeypatch, one, "acheck")
        frozen = Running(one)
        await freeze.reached.wait()
        other = Running(trigger(on_uncertain=on_uncertain))
        event = await other.fired()
        freeze.thaw()
        await asyncio.sleep(0.2)
        await frozen.end("user")
        await other.end("user")
        return event

    assert state(asyncio.run(scene())) == "success"
    assert len(chat.requests) == 1


def test_an_answer_that_comes_late_does_not_replace_the_one_that_is_there(xcom, chat, monkeypatch, capfd):
    chat.script(replies.delay(0.8, replies.ok("late")), replies.ok("first"))
    leave(chat.url)

    async def scene():
        frozen = Running(trigger(on_uncertain="resend"))
        await until(lambda: xcom.head().get("state") == "sent" and chat.requests)
        other = Running(trigger(on_uncertain="resend"))
        event = await other.fired()
        await asyncio.sleep(1.0)
        assert frozen.event is None
        await frozen.end("user")
        await other.end("user")
        return event

    assert (state(asyncio.run(scene())), xcom["return_value"]) == ("success", "first")
    assert len(set(keys(chat))) == 1
    said = capfd.readouterr()
    assert f"it may be billed (Idempotency-Key {keys(chat)[0]})" in said.out + said.err


def test_an_answer_to_a_try_that_was_cleared_touches_nothing_of_the_next_try(xcom, chat):
    chat.script(replies.delay(0.5, replies.ok("of the first try")), replies.delay(0.8, replies.ok("of the second")))
    leave(chat.url, try_number=1)

    async def scene():
        first = Running(trigger(try_number=1))
        await until(lambda: chat.requests)
        xcom.clear()  # as Airflow does when the next try starts
        leave(chat.url, try_number=2)
        second = Running(trigger(try_number=2))
        event = await second.fired()
        assert first.event is None
        assert xcom.head(1) == {}, "nothing that nobody removes again"
        await first.end("user")
        await second.end("user")
        return event

    assert (state(asyncio.run(scene())), xcom["return_value"]) == ("success", "of the second")
    assert len(chat.requests) == 2


def test_a_trigger_that_was_overtaken_by_one_that_then_died_ends_the_wait_itself(xcom, chat, monkeypatch):
    monkeypatch.setattr(triggers, "_LOOK_AGAIN", 0.05)
    leave(chat.url)

    async def scene():
        one = trigger()
        await one.journal.aread()
        one.journal._read_at = (float("-inf"), float("-inf"))
        entry = journal().read().sent("another", "k", 1, 0.0)
        journal().write(entry)
        with pytest.raises(Exception, match="sent"):
            await one.journal.acheck()
        standing_by = asyncio.create_task(one._stand_by())
        journal().write(entry.done("another", record.dump(Reply(200, replies.completion()))))
        return await asyncio.wait_for(standing_by, 20)

    assert asyncio.run(scene()) == "done"


def test_each_death_of_a_triggerer_is_an_attempt(xcom, chat):
    chat.default = faults.hang()
    leave(chat.url, max_attempts=3)

    async def scene():
        for number in range(1, 9):
            running = Running(trigger(on_uncertain="resend"))
            await until(lambda n=number, r=running: len(chat.requests) == n or r.event is not None)
            if running.event is not None:
                return running.event
            await running.end()
        return None

    assert state(asyncio.run(scene())) == "spent"
    assert len(chat.requests) == 3
    assert len(set(keys(chat))) == 1


def test_a_clock_that_was_set_back_makes_no_wait_longer_than_the_deadline(xcom, chat):
    leave(chat.url, deadline=0.5)
    entry = journal().read()
    in_five_hours = time.time() + 5 * 3600
    journal().write(entry.sent("gone", entry.key, 1, 0.0).waiting("gone", 0.1, in_five_hours))

    async def scene():
        running = Running(trigger())
        event = await running.fired(10)
        await running.end("user")
        return event

    assert state(asyncio.run(scene())) == "success"


def test_a_reply_that_cannot_be_stored_for_another_has_taken_over_is_not_offered_again(xcom, chat, monkeypatch):
    leave(chat.url)
    tried = []
    aput = Slot.aput

    async def noted(slot, value, **more):
        tried.append(value["state"])
        await aput(slot, value)

    monkeypatch.setattr(Slot, "aput", noted)

    async def scene():
        chat.script(replies.delay(0.3, replies.ok()))
        running = Running(trigger())
        await until(lambda: chat.requests)
        xcom.clear()
        await asyncio.sleep(0.6)
        await running.end("user")

    asyncio.run(scene())
    assert tried == ["sent"]
    assert xcom == {}


def test_the_journal_of_a_task_is_gone_before_its_trigger_ends_it(xcom, chat):
    chat.script(replies.ok("x" * 200_000))
    leave(chat.url)

    async def scene():
        event = await Running(trigger()).fired()
        assert any(key.startswith(f"{KEY}_1_replies_") for key, _ in xcom.puts)
        assert not any(key.startswith(KEY) for key in xcom)
        return event

    assert state(asyncio.run(scene())) == "success"
    assert set(xcom) == {"body", "status", "usage", "configuration", "messages", "return_value"}


@pytest.mark.parametrize("after", ["sent", "done", "body", "messages", "return_value", "configuration"])
def test_a_triggerer_that_ends_between_two_writes_loses_no_answer_and_asks_for_none_again(xcom, chat, after):
    leave(chat.url)

    async def scene():
        await dies_after(lambda slot, value: after in (slot.key, isinstance(value, dict) and value.get("state")))
        return await Running(trigger()).fired()

    event = asyncio.run(scene())
    if after == "sent":
        assert state(event) == "uncertain"
    else:
        assert (state(event), xcom["return_value"]) == ("success", "Hello")
        assert len(chat.requests) == 1


def test_a_triggerer_that_ends_before_its_event_was_taken_ends_the_task_when_it_comes_back(xcom, chat):
    leave(chat.url)

    async def scene():
        await Running(trigger()).fired()
        return await Running(trigger()).fired()

    assert state(asyncio.run(scene())) == "success"
    assert len(chat.requests) == 1


def test_an_xcom_that_airflow_does_not_take_is_left_to_a_worker(xcom, chat, monkeypatch):
    leave(chat.url)
    aput = Slot.aput

    async def refuse(slot, value, **more):
        if slot.key == "messages":
            raise ConnectionError("no")
        await aput(slot, value)

    monkeypatch.setattr(Slot, "aput", refuse)

    async def scene():
        return await Running(trigger()).fired()

    assert state(asyncio.run(scene())) == "done"
    assert xcom.head()["state"] == "done"


def test_a_trigger_that_freezes_while_it_connects_holds_its_request_back(xcom, chat, monkeypatch):
    leave(chat.url)

    async def scene():
        one = trigger()
        awrite = one.journal.awrite

        async def freeze_after(entry):
            await awrite(entry)
            if entry.state == "sent":
                one.journal.doubt()  # so much time goes by
                journal().write(Entry.read(xcom.head()).sent("another", entry.key, 1, 0.0))

        monkeypatch.setattr(one.journal, "awrite", freeze_after)
        running = Running(one)
        await asyncio.sleep(1)
        assert running.event is None
        await running.end("user")

    asyncio.run(scene())
    assert chat.requests == []


def test_pieces_of_an_answer_that_no_entry_counts_are_removed_too(xcom, chat, monkeypatch):
    chat.script(replies.ok("x" * 200_000), replies.ok("short"))
    leave(chat.url)

    async def scene():
        await dies_after(lambda slot, value: slot.key.endswith("replies_1"))
        assert f"{KEY}_1_replies_1" in xcom
        return await Running(trigger(on_uncertain="resend")).fired()

    assert state(asyncio.run(scene())) == "success"
    assert not any(key.startswith(KEY) for key in xcom)


def test_a_worker_removes_them_when_nobody_knows_what_became_of_the_call(xcom, chat):
    leave(chat.url)
    entry = journal().read()
    journal().write(entry.sent("gone", entry.key, 1, 0.0))
    for number in range(3):
        journal().slot._replace(key=f"{KEY}_1_replies_{number}").put("x")
    found = journal()
    found.read()
    found.clear()
    assert xcom == {}


def test_a_time_limit_that_is_met_while_the_answer_is_stored_does_not_lose_it(xcom, chat, monkeypatch):
    leave(chat.url)
    aput = Slot.aput

    async def slow(slot, value, **more):
        if isinstance(value, dict) and value.get("state") == "done":
            await asyncio.sleep(1.5)
        await aput(slot, value, **more)

    monkeypatch.setattr(Slot, "aput", slow)

    async def scene():
        return await Running(trigger(expires=time.time() + 0.7)).fired()

    assert state(asyncio.run(scene())) in ("success", "timed_out")
    assert xcom.head().get("state", "done") == "done"
    assert len(chat.requests) == 1


def test_a_worker_removes_pieces_of_a_dead_trigger_although_another_one_has_answered_since(xcom, chat):
    leave(chat.url)
    entry = journal().read()
    for number in range(3):
        journal().slot._replace(key=f"{KEY}_1_replies_{number}").put("x")
    journal().write(entry.done("another", record.dump(Reply(200, replies.completion()))))
    found = journal()
    found.read()
    found.clear()
    assert xcom == {}
