"""What a batch writes into the log: its end in one line, each kind of failure once, and long pauses."""

import re

import pytest

from airflow_chat_provider.batch import pace_log
from airflow_chat_provider.errors import ChatCompletionError, RateLimited
from airflow_chat_provider.testing import replies


@pytest.fixture
def told(caplog):
    """The messages of the log that hold a text."""
    caplog.set_level("INFO", "airflow_chat_provider")
    return lambda part: [record.getMessage() for record in caplog.records if part in record.getMessage()]


def failing_at(text, reply):
    return lambda request: reply if text in request.json["messages"][-1]["content"] else replies.ok()


def test_a_batch_ends_with_a_line_of_its_counts_and_the_place_of_its_results(batch, told):
    batch.texts(1)
    batch.run()
    (line,) = told("Batch ")
    path = re.escape(str(batch.output / "results.jsonl"))
    assert re.fullmatch(rf"Batch ended: 1 row, 1 answered, 0 failed, 11 tokens, [\d.]+ s, results in {path}", line)


def test_what_an_earlier_run_brought_is_counted_apart(batch, told):
    batch.texts(3)
    batch.chat.default = failing_at("row 1", replies.error(400, "no"))
    batch.error(max_failures=0)
    batch.chat.default = replies.ok()
    batch.run()
    first, second = told("Batch ")
    assert ": 3 rows, 2 answered, 1 failed, 22 tokens, " in first
    assert ": 3 rows, 1 answered, 0 failed, 2 kept from earlier tries, 11 tokens, 22 in earlier runs, " in second


def test_a_batch_that_stops_early_says_so_and_how_many_rows_are_missing(batch, told):
    batch.texts(5)
    batch.chat.default = replies.error(401, "who are you?")
    batch.error(max_concurrency=1)
    (line,) = told("Batch ")
    assert line.startswith("Batch stopped early: 5 rows, 0 answered, 0 failed, 5 missing, 0 tokens, ")


def test_a_request_that_is_sent_again_is_told_once_for_each_kind_of_failure(batch, told):
    batch.texts(4)
    at_once = {"retry-after-ms": "1"}
    failed = [replies.error(500, "oops", headers=at_once)] * 3 + [replies.error(503, "busy", headers=at_once)] * 3
    batch.chat.script(*failed)
    batch.run(max_attempts=5, max_concurrency=1)
    assert told("is sent again") == [
        f"A request failed and is sent again, the first with this kind of error: HTTP {found}"
        for found in ("500, invalid_request_error: oops", "503, invalid_request_error: busy")
    ]
    assert told("Attempt ") == told("Chat completion") == []


class TestPauses:
    def test_a_long_pause_is_told_when_it_begins_and_not_by_each_answer_that_asks_for_it(self, told):
        log, error = pace_log.PaceLog(), RateLimited("Wait", status=429)
        error.why = "HTTP 429"
        for late in range(10):
            log.pauses(100.0 + late / 10, 120.0 + late / 10, error)
        assert told("pauses") == ["The batch pauses for 20 s: HTTP 429"]
        log.pauses(101.0, 150.0, None)
        assert told("pauses")[1:] == ["The batch pauses for 49 s: the server says that the allowance is used up"]

    def test_a_short_pause_is_not_told(self, told):
        pace_log.PaceLog().pauses(1.0, 5.0, None)
        assert told("pauses") == []

    def test_a_server_with_a_new_code_in_each_error_does_not_fill_the_log(self, told):
        log = pace_log.PaceLog()
        for code in range(100):
            log.failed(ChatCompletionError("no", code=code))
        assert len(told("is sent again")) == 20

    def test_a_server_that_asks_to_wait_is_told_of(self, batch, told):
        batch.texts(2)
        batch.chat.script(replies.error(429, "slow", headers={"retry-after": "6"}))
        batch.run(max_concurrency=1)
        assert told("pauses") == ["The batch pauses for 6 s: HTTP 429, invalid_request_error: slow"]
        assert told("is sent again") == []
