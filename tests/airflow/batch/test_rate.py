"""The pace of a batch against a real server: a limit holds up the batch and fails no row."""

import re
import threading
import time

import pytest

from airflow_chat_provider.errors import RateLimited, TransportError
from airflow_chat_provider.testing import ChatServer, replies


class Busy:
    """Answers, and counts how many it answers at once."""

    def __init__(self, seconds=0.02):
        self.most = self._now = 0
        self._seconds = seconds
        self._lock = threading.Lock()

    def __call__(self, request):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self._seconds)
        with self._lock:
            self._now -= 1
        return replies.ok()


def test_no_more_are_under_way_than_max_concurrency(batch):
    batch.texts(40)
    batch.chat.default = busy = Busy()
    assert batch.run(max_concurrency=5)["succeeded"] == 40
    assert busy.most == 5


@pytest.mark.parametrize(
    "reply",
    [
        replies.error(429, "slow down", "rate_limit_exceeded", headers={"retry-after-ms": "50"}),
        replies.error(503, "overloaded", headers={"retry-after-ms": "50"}),
        replies.error(429, "slow down", headers={"x-ratelimit-reset-requests": "50ms"}),
    ],
)
def test_a_rate_limit_slows_the_batch_and_fails_no_row_however_often_it_comes(batch, reply):
    batch.texts(20)
    batch.chat.script(*[reply] * 6)
    manifest = batch.run(max_attempts=1, max_concurrency=4)
    assert (manifest["succeeded"], manifest["failed"]) == (20, {})
    assert len(batch.chat.requests) == 26


def test_an_overload_without_a_retry_after_is_waited_out(batch):
    batch.texts(4)
    batch.chat.script(replies.error(529, "overloaded"), replies.error(503, "overloaded"))
    assert batch.run(max_attempts=1, max_concurrency=1)["succeeded"] == 4


def test_nothing_is_sent_while_a_retry_after_runs(batch):
    batch.texts(8)
    times = []

    def answer(request):
        times.append(time.monotonic())
        return replies.error(429, "wait", headers={"retry-after": "1"}) if len(times) == 1 else replies.ok()

    batch.chat.default = answer
    batch.run(max_concurrency=1)
    assert times[1] - times[0] >= 1.0


def test_a_wait_beyond_the_deadline_ends_the_batch_and_is_left_to_airflow(batch):
    batch.texts(8)
    batch.chat.script(replies.ok())
    batch.chat.default = replies.error(429, "come back", headers={"retry-after": "3600"})
    error = batch.error(max_concurrency=1)
    assert isinstance(error, RateLimited)
    assert (error.retry_after, error.final) == (3600, False)
    assert len(batch.chat.requests) == 2
    assert len(batch.results) == 1


def test_a_server_that_limits_for_ever_is_given_up_after_the_deadline(batch):
    batch.texts(3)
    batch.chat.default = replies.error(429, "no", headers={"retry-after-ms": "50"})
    assert isinstance(batch.error(deadline=0.5), RateLimited)
    assert batch.errors == []


def test_requests_per_minute_is_held_to(batch):
    batch.texts(15)
    began = time.monotonic()
    batch.run(requests_per_minute=600)  # ten at once, and ten a second
    assert time.monotonic() - began >= 0.5


def test_tokens_per_minute_is_held_to(batch):
    batch.texts(8)
    batch.chat.default = replies.ok(usage={"total_tokens": 100})
    began = time.monotonic()
    batch.run(tokens_per_minute=30_000, max_concurrency=1)  # 500 a second
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("tokens", [10**15, 10**30], ids=["much", "absurd"])
def test_an_impossible_token_count_is_warned_of_and_fails_no_row(batch, tokens, caplog):
    batch.texts(2)
    batch.chat.default = replies.ok(usage={"total_tokens": tokens})
    assert batch.run(tokens_per_minute=6000, max_concurrency=2)["succeeded"] == 2
    assert caplog.text.count("by the server's count") == 1


def test_a_server_that_is_not_there_ends_the_batch_and_fails_no_row(batch, connect, unused_port):
    connect(f"http://127.0.0.1:{unused_port}/v1", extra={"model": "m"})
    batch.texts(200)
    error = batch.error(max_attempts=2, max_failures=None)
    assert isinstance(error, TransportError)
    assert not error.sent
    assert batch.errors == []


def test_a_server_that_is_restarted_fails_no_row(batch, connect, unused_port):
    connect(f"http://127.0.0.1:{unused_port}/v1", extra={"model": "m"})
    batch.texts(30)

    def restart():
        with ChatServer(port=unused_port, default=Busy(0.01)) as first:
            first.wait_requests(10)
        time.sleep(0.3)
        again.append(ChatServer(port=unused_port))
        again[0].__enter__()

    again: list[ChatServer] = []
    thread = threading.Thread(target=restart)
    thread.start()
    try:
        time.sleep(0.3)
        manifest = batch.run(max_concurrency=2, max_attempts=4)
    finally:
        thread.join()
        again[0].__exit__(None, None, None)
    assert (manifest["succeeded"], manifest["failed"]) == (30, {})


def test_the_log_shows_progress_while_the_batch_runs(batch, monkeypatch, caplog):
    from airflow_chat_provider.batch import engine

    monkeypatch.setattr(engine, "_PROGRESS", 0.05)
    batch.texts(30)
    batch.chat.default = Busy(0.02)
    with caplog.at_level("INFO", logger=engine.__name__):
        batch.run(max_concurrency=2)
    told = re.compile(r"Batch: \d+ of 30 rows \(0 failed\), [\d.]+ rows/s, ETA \S+ \w+, \d+ tokens, 2 at once")
    assert any(told.fullmatch(record.getMessage()) for record in caplog.records)
