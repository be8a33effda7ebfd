"""Whether to send again, and when."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.errors import (
    ChatCompletionError,
    InvalidRequest,
    ProtocolError,
    RateLimited,
    StatusError,
    TransportError,
    TransportTimeout,
)
from airflow_chat_provider.core.retry import QUOTA, RetryLimits, is_final, next_delay, retry_after

LIMITS = RetryLimits(max_attempts=3, deadline=100.0)
NOW = 1_793_000_000.0  # Mon, 26 Oct 2026 07:33:20 GMT


def delay(error: ChatCompletionError, attempt: int = 1, elapsed: float = 0.0, jitter: float = 0.5) -> float | None:
    return next_delay(LIMITS, error, attempt=attempt, elapsed=elapsed, jitter=jitter)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (StatusError("x", status=500), True),
        (RateLimited("x", status=429), True),
        (TransportError("x", sent=False), True),
        (TransportError("x", sent=True), True),
        (TransportTimeout("x", sent=True), True),
        (StatusError("x", status=401, final=True), False),
        (RateLimited("x", status=429, final=True), False),
        (ProtocolError("x", status=200), False),
        (InvalidRequest("x"), False),
    ],
)
def test_only_failures_that_may_pass_are_sent_again(error: ChatCompletionError, again: bool) -> None:
    assert (delay(error) is not None) is again


@pytest.mark.parametrize(("attempt", "again"), [(1, True), (2, True), (3, False), (4, False)])
def test_no_more_than_max_attempts_are_made(attempt: int, again: bool) -> None:
    assert (delay(StatusError("x"), attempt=attempt) is not None) is again


@pytest.mark.parametrize(
    ("attempt", "jitter", "seconds"),
    [(1, 0.0, 0.0), (1, 0.5, 0.5), (1, 0.999, 0.999), (2, 0.5, 1.0), (5, 0.5, 8.0), (9, 0.5, 30.0), (5000, 0.5, 30.0)],
)
def test_without_a_word_of_the_server_the_wait_doubles_up_to_a_minute(
    attempt: int, jitter: float, seconds: float
) -> None:
    limits = RetryLimits(max_attempts=10_000, deadline=100.0)
    assert next_delay(limits, StatusError("x"), attempt=attempt, elapsed=0.0, jitter=jitter) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("asked", "elapsed", "seconds"),
    [(7.0, 0.0, 7.0), (99.0, 0.0, 99.0), (100.0, 0.0, None), (7.0, 92.9, 7.0), (7.0, 93.0, None), (3600.0, 0.0, None)],
)
def test_the_servers_wait_is_kept_exactly_or_not_made(asked: float, elapsed: float, seconds: float | None) -> None:
    assert delay(RateLimited("x", retry_after=asked), elapsed=elapsed) == seconds


def test_a_server_that_asks_for_no_wait_still_gets_one() -> None:
    assert delay(RateLimited("x", retry_after=0.0), jitter=0.5) == 0.5


@given(
    attempt=st.integers(1, 50),
    elapsed=st.floats(0, 1e4),
    jitter=st.floats(0, 1, exclude_max=True),
    asked=st.none() | st.floats(0, 1e5),
)
def test_a_wait_always_ends_before_the_deadline(
    attempt: int, elapsed: float, jitter: float, asked: float | None
) -> None:
    limits = RetryLimits(max_attempts=40, deadline=1800.0)
    error = RateLimited("x", retry_after=asked)
    found = next_delay(limits, error, attempt=attempt, elapsed=elapsed, jitter=jitter)
    assert found is None or (found >= 0 and elapsed + found < 1800.0 and attempt < 40)


RETRIED = [408, 409, 425, 429, 498, 500, 501, 502, 503, 504, 520, 529, 599]
FINAL = [301, 302, 307, 400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 431, 451]


@pytest.mark.parametrize(("status", "final"), [(s, False) for s in RETRIED] + [(s, True) for s in FINAL])
def test_a_status_is_final_or_not(status: int, final: bool) -> None:
    assert is_final(status, frozenset({"rate_limit_exceeded", "requests"}), {}) is final


@pytest.mark.parametrize("code", sorted(QUOTA))
def test_a_quota_under_429_is_final_and_not_under_503(code: str) -> None:
    assert is_final(429, frozenset({code, "other"}), {})
    assert not is_final(503, frozenset({code}), {})


@pytest.mark.parametrize(
    ("told", "status", "codes", "final"),
    [
        ("true", 400, (), False),
        ("true", 429, ("insufficient_quota",), False),
        (" False ", 500, (), True),
        ("false", 429, (), True),
        ("maybe", 500, (), False),
        ("", 400, (), True),
    ],
)
def test_the_servers_own_word_wins(told: str, status: int, codes: tuple[str, ...], final: bool) -> None:
    assert is_final(status, frozenset(codes), {"x-should-retry": told}) is final


WAITS: list[tuple[dict[str, str], int, float | None]] = [
    ({}, 429, None),
    ({"retry-after": "2"}, 429, 2.0),
    ({"retry-after": "2.5"}, 503, 2.5),
    ({"retry-after": " 2 "}, 503, 2.0),
    ({"retry-after": "0"}, 429, 0.0),
    ({"retry-after": "3600"}, 503, 3600.0),
    ({"retry-after-ms": "250"}, 429, 0.25),
    ({"retry-after-ms": "250", "retry-after": "1"}, 429, 0.25),
    ({"retry-after-ms": "soon", "retry-after": "1"}, 429, 1.0),
    ({"retry-after": "Mon, 26 Oct 2026 07:34:20 GMT"}, 429, 60.0),
    ({"retry-after": "Mon, 26 Oct 2026 07:33:00 GMT"}, 429, 0.0),
    ({"retry-after": "Mon, 26 Oct 2026 07:34:20 GMT", "date": "Mon, 26 Oct 2026 07:34:10 GMT"}, 429, 10.0),
    ({"retry-after": "Mon, 26 Oct 2026 07:34:20 GMT", "date": "yesterday"}, 429, 60.0),
    ({"retry-after": "Mon Oct 26 07:34:20 2026"}, 429, 60.0),
    ({"retry-after": "Mon, 26 Oct 2026 09:34:20 +0200"}, 429, 60.0),
    *(
        ({"retry-after": bad}, 429, None)
        for bad in ("-1", "nan", "inf", "1e999", "soon", "", "Mon, 99 Oct 2026", "Mon, 26 Oct 99999 07:34:20 GMT")
    ),
    ({"x-ratelimit-reset-requests": "6m0s"}, 429, 360.0),
    ({"x-ratelimit-reset-requests": "20ms"}, 429, 0.02),
    ({"x-ratelimit-reset-requests": "1h2m3.5s"}, 429, 3723.5),
    ({"x-ratelimit-reset-requests": "1D"}, 498, 86400.0),
    ({"x-ratelimit-reset": "7.66"}, 429, 7.66),
    ({"x-ratelimit-reset": f"{NOW + 30:.0f}"}, 429, 30.0),
    ({"x-ratelimit-reset": f"{(NOW + 30) * 1000:.0f}"}, 429, 30.0),
    ({"x-ratelimit-reset": f"{NOW - 30:.0f}"}, 429, 0.0),
    ({"x-ratelimit-reset": "6 minutes"}, 429, None),
    ({"x-ratelimit-reset": ""}, 429, None),
    ({"x-ratelimit-reset-requests": "6m0s"}, 500, None),  # some send it with each answer
    ({"x-ratelimit-reset-requests": "6m0s", "retry-after": "1"}, 429, 1.0),
    ({"x-ratelimit-reset-requests": "5s", "x-ratelimit-reset-tokens": "60s"}, 429, 5.0),
    (
        {
            "x-ratelimit-reset-requests": "5s",
            "x-ratelimit-remaining-requests": "17",
            "x-ratelimit-reset-tokens": "60s",
            "x-ratelimit-remaining-tokens": "0",
        },
        429,
        60.0,
    ),
    (
        {
            "x-ratelimit-reset-requests": "5s",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-tokens": "60s",
            "x-ratelimit-remaining-tokens": " 0 ",
        },
        429,
        60.0,
    ),
]


@pytest.mark.parametrize(("headers", "status", "seconds"), WAITS, ids=str)
def test_the_wait_that_a_server_asks_for(headers: dict[str, str], status: int, seconds: float | None) -> None:
    assert retry_after(headers, status=status, now=NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_a_date_without_a_zone_is_utc_wherever_the_worker_is(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert retry_after({"retry-after": "Mon Oct 26 07:34:20 2026"}, status=429, now=NOW) == 60.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-x", "date"]), st.text()))
def test_no_header_breaks_it(headers: dict[str, Any]) -> None:
    found = retry_after(headers, status=429, now=NOW)
    assert found is None or found >= 0
