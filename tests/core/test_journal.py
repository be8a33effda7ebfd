"""The journal of a deferred call: one entry says what may be done, and of a strange one nothing is guessed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_chat_provider.core.exchange import Begun
from airflow_chat_provider.core.journal import VERSION, Deferred, Entry, Unusable
from airflow_chat_provider.core.response import Reply

DEFERRED = Deferred(
    limits={"timeout": 1.5, "deadline": 30.0, "max_attempts": 3},
    request={"model": "m", "messages": [{"role": "user", "content": "a\x00b \ud800 {{ x }}"}]},
    configuration={"chat_conn_id": "chat_default", "model": "m", "base_url": "http://h/v1", "request_schema": None},
    ledger={"asked": 0, "digest": "d", "idempotency_key": "key-1"},
    idempotency_key="key-1",
    dialogue={"question": None, "rung": 0},
)
READY = Entry.of(DEFERRED, 2)


def through_a_store(entry: Entry) -> Entry:
    text = json.dumps(entry.to_dict(), ensure_ascii=False, allow_nan=False)
    assert "\x00" not in text
    return Entry.read(json.loads(text), 2)


def test_an_entry_is_read_back_as_it_was_written() -> None:
    entry = through_a_store(READY)
    assert entry == READY
    assert entry.deferred == DEFERRED
    assert (entry.state, entry.begun, entry.reply) == ("ready", Begun(1, 0.0), None)


def test_a_call_goes_from_ready_to_sent_to_waiting_to_sent_to_done() -> None:
    sent = through_a_store(READY.sent(1, 0.5))
    assert (sent.state, sent.begun) == ("sent", Begun(1, 0.5))
    waiting = through_a_store(sent.waiting(10.5, 1e9))
    assert (waiting.state, waiting.begun, waiting.until) == ("waiting", Begun(2, 10.5), 1e9)
    again = through_a_store(waiting.sent(2, 11.0))
    assert (again.state, again.begun) == ("sent", Begun(2, 11.0))
    done = through_a_store(again.done(Reply(200, {"choices": []}, request_id="r")))
    assert done.state == "done"
    assert done.reply is not None
    assert (done.reply.status, done.reply.body, done.reply.request_id) == (200, {"choices": []}, "r")
    assert done.deferred == DEFERRED


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
        ({**READY.to_dict(), "call": Entry.of(DEFERRED._replace(configuration={}), 2).call}, "foreign"),
        (
            {**READY.to_dict(), "call": Entry.of(DEFERRED, 2).call.replace('"key-1","dialogue"', '5,"dialogue"')},
            "foreign",
        ),
        ({**READY.to_dict(), "state": "done", "outcome": None}, "foreign"),
        ({**READY.to_dict(), "state": "done", "outcome": "{}"}, "foreign"),
        ({**READY.to_dict(), "elapsed": "soon"}, "foreign"),
        ({**READY.to_dict(), "version": VERSION + 1}, "newer"),
        ({**READY.to_dict(), "try_number": 1}, "other_try"),
    ],
)
def test_an_entry_that_is_none_of_this_try_is_refused_by_its_reason(value: Any, why: str) -> None:
    with pytest.raises(Unusable) as caught:
        Entry.read(value, 2)
    assert caught.value.why == why
