"""The journal of a deferred call: one entry says what may be done, and of a strange one nothing is guessed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_chat_provider.core.answer import record
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.steps import Begun
from airflow_chat_provider.durable.entry import VERSION, Deferred, Entry, Unusable

DEFERRED = Deferred(
    limits={"timeout": 1.5, "deadline": 30.0, "max_attempts": 3},
    request={"model": "m", "messages": [{"role": "user", "content": "a\x00b \ud800 {{ x }}"}]},
    question=None,
    rung=0,
    wanted={"schema": None, "tools": False, "retries": 1, "result_format": "raw"},
    delivery=None,
    configuration={"chat_conn_id": "chat_default", "model": "m", "base_url": "http://h/v1", "request_schema": None},
    ledger={"asked": 0, "digest": "d", "idempotency_key": "key-1"},
)
READY = Entry.from_deferred(DEFERRED, "key-1")
REPLY = Reply(200, {"choices": []}, request_id="r")


def through_a_store(entry: Entry) -> Entry:
    text = json.dumps(entry.to_dict(), ensure_ascii=False, allow_nan=False)
    assert "\x00" not in text
    return Entry.read(json.loads(text))


def test_an_entry_is_read_back_as_it_was_written() -> None:
    entry = through_a_store(READY)
    assert entry == READY
    assert entry.deferred == DEFERRED
    assert (entry.state, entry.owner, entry.begun, entry.received()) == ("ready", None, Begun(1, 0.0), [])


def test_a_call_goes_from_ready_to_sent_to_waiting_to_sent_to_done() -> None:
    sent = through_a_store(READY.sent("me", "key-1", 1, 0.5))
    assert (sent.state, sent.owner, sent.attempt) == ("sent", "me", 1)
    waiting = through_a_store(sent.waiting("me", 10.5, 1e9))
    assert (waiting.state, waiting.begun, waiting.until) == ("waiting", Begun(2, 10.5), 1e9)
    again = through_a_store(waiting.sent("me", "key-1", 2, 11.0))
    assert (again.state, again.attempt) == ("sent", 2)
    done = through_a_store(again.done("me", record.dump(REPLY)))
    assert done.state == "done"
    assert [reply._replace(headers={}) for reply in done.received()] == [REPLY._replace(headers={})]
    assert done.deferred == DEFERRED


def test_a_send_that_nobody_saw_the_end_of_is_an_attempt_that_was_made() -> None:
    assert READY.sent("gone", "key-1", 2, 11.0).begun == Begun(3, 11.0)


def test_a_wait_that_another_trigger_takes_over_counts_no_attempt_more() -> None:
    waiting = READY.sent("gone", "key-1", 1, 0.0).waiting("gone", 5.0, 1e9)
    assert waiting.waiting("me", waiting.elapsed, waiting.until).begun == waiting.begun


def test_the_replies_of_a_dialogue_are_kept_in_their_order() -> None:
    entry = READY
    for number in (1, 2):
        done = entry.sent("me", f"key-{number}", 1, 0.0).done("me", record.dump(REPLY._replace(request_id=str(number))))
        entry = through_a_store(done)
    assert [reply.request_id for reply in entry.received()] == ["1", "2"]
    assert entry.begun == Begun(1, 0.0), "the next call has all its attempts"


def test_the_head_of_an_entry_tells_two_states_apart_without_its_texts() -> None:
    sent = READY.sent("me", "key-1", 1, 0.5)
    head = Entry.read_head({**sent.to_dict(), "call": 3, "replies": 2})
    assert head.stamp == sent.stamp
    for other in (READY, sent.waiting("me", 1.0, 2.0), READY.sent("other", "key-1", 1, 0.5)):
        assert other.stamp != head.stamp


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "missing"),
        ("text", "foreign"),
        ([READY.to_dict()], "foreign"),
        ({}, "foreign"),
        ({"version": "1"}, "foreign"),
        ({"version": VERSION}, "foreign"),
        ({**READY.to_dict(), "state": "lost"}, "foreign"),
        ({**READY.to_dict(), "call": {"not": "text"}}, "foreign"),
        ({**READY.to_dict(), "call": "no JSON"}, "foreign"),
        ({**READY.to_dict(), "call": '{"limits": {}}'}, "foreign"),
        ({**READY.to_dict(), "call": Entry.from_deferred(DEFERRED._replace(configuration={}), "k").call}, "foreign"),
        ({**READY.to_dict(), "call": Entry.from_deferred(DEFERRED._replace(ledger={}), "k").call}, "foreign"),
        ({**READY.to_dict(), "state": "done"}, "foreign"),
        ({**READY.to_dict(), "replies": "{}"}, "foreign"),
        ({**READY.to_dict(), "replies": '["no reply"]'}, "foreign"),
        ({**READY.to_dict(), "replies": None}, "foreign"),
        ({**READY.to_dict(), "elapsed": "soon"}, "foreign"),
        ({**READY.to_dict(), "owner": 5}, "foreign"),
        ({**READY.to_dict(), "key": None}, "foreign"),
        ({**READY.to_dict(), "version": VERSION + 1}, "newer"),
        ({"version": 1, "try_number": 1, "call": READY.call, "state": "ready"}, "foreign"),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused_by_its_reason(value: Any, why: str) -> None:
    with pytest.raises(Unusable) as caught:
        Entry.read(value)
    assert caught.value.why == why


def test_no_repr_shows_what_was_asked_or_answered() -> None:
    asked = DEFERRED._replace(request={"messages": [{"role": "user", "content": "canary"}]})
    told = Reply(200, {"choices": [{"message": {"content": "canary"}}]})
    entry = Entry.from_deferred(asked, "key-1").done("me", record.dump(told))
    for value in (asked, told, entry, entry.deferred, entry.received()):
        assert "canary" not in repr(value)
