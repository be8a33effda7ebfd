"""A reply outlives its process: what is written down is read back the same, whatever the server sent."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from airflow_chat_provider.core.answer.record import dump, load, safe
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.errors import (
    InvalidConnection,
    ProtocolError,
    RateLimited,
    StatusError,
    TransportError,
)

BODY = {"choices": [{"message": {"content": "Hé \u2028 \U0001f600"}}], "usage": {"total_tokens": 3}}
ERRORS = [
    StatusError("Correct it", status=400, code="c", request_id="r", body=BODY, final=True),
    RateLimited("Wait", status=429, retry_after=1.5, body=BODY),
    ProtocolError("Look", status=200, body=BODY),
    TransportError("Again", status=200, body=BODY, sent=True),
    TransportError("Again", sent=False, final=True),
    InvalidConnection("Create it", field="conn_id"),
]


def test_load_reads_back_all_of_a_reply_but_its_headers() -> None:
    reply = safe(Reply(200, BODY, {"x": "y"}, "req_1", 2, 1.25, None, ("a note",), doubts=("a doubt",)))
    assert load(dump(reply)) == reply._replace(headers={})


def test_load_reads_back_costs_to_the_last_digit_and_the_attempts_before() -> None:
    before = Reply(500, {"model": "m", "usage": {"total_tokens": 3}}, cost=Decimal("0.000000000001"), currency="EUR")
    reply = safe(Reply(200, BODY, cost=Decimal("0.100000000001"), currency="EUR", earlier=(before,)))
    assert load(dump(reply)) == reply


def test_a_reply_of_an_older_version_has_no_cost_and_no_attempts_before() -> None:
    fields = json.loads(dump(safe(Reply(200, BODY))))
    for name in ("cost", "currency", "earlier"):
        del fields[name]
    read = load(json.dumps(fields))
    assert (read.cost, read.currency, read.earlier) == (None, None, ())


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_load_reads_back_an_error_with_every_field(error: Any) -> None:
    read = load(dump(safe(Reply(error.status, error.body, error=error)))).error
    assert read is not None
    assert type(read) is type(error)
    assert read.to_dict() == error.to_dict()


def test_dump_writes_a_body_once() -> None:
    body = "what the server said"
    assert dump(Reply(400, body, error=StatusError("m", status=400, body=body))).count(body) == 1


def test_an_error_with_another_body_keeps_it() -> None:
    read = load(dump(Reply(200, "all", error=ProtocolError("m", status=200, body="a part")))).error
    assert read is not None
    assert read.body == "a part"


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("a\x00b", "a\ufffdb"),
        ({"\ud800": float("nan"), "n": 2**70}, {"\ufffd": "nan", "n": str(2**70)}),
        ({"__classname__": "a.B"}, {"___classname__": "a.B"}),
    ],
)
def test_safe_changes_what_airflow_cannot_keep_and_says_so(body: Any, kept: Any) -> None:
    error = ProtocolError("m", status=200, body=body)
    reply = safe(Reply(200, body, error=error))
    assert reply.body == kept
    assert reply.changes
    assert error.body == kept, "the error says no more than XCom"
    read = load(dump(reply))
    assert (read.body, read.changes) == (kept, reply.changes)
    assert safe(read).body == kept


def test_dump_writes_plain_ascii_json() -> None:
    text = dump(safe(Reply(200, {"deep": json.loads("[" * 500 + "]" * 500), "é": "\ud83d\ude00\x00"})))
    assert text.isascii()
    assert "\x00" not in text
    assert json.loads(text)["status"] == 200
