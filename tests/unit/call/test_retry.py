"""Whether to send again, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.call.exchange import is_final, next_delay
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import (
    ChatCompletionError,
    InvalidRequest,
    ProtocolError,
    RateLimited,
    StatusError,
    TransportError,
    TransportTimeout,
)

LIMITED = Settings(max_attempts=3, deadline=100.0)
NOW = 1_793_000_000.0  # Mon, 26 Oct 2026 07:33:20 GMT


def delay(error: ChatCompletionError, attempt: int = 1, elapsed: float = 0.0, jitter: float = 0.5) -> float | None:
    return next_delay(LIMITED, error, attempt=attempt, elapsed=elapsed, jitter=jitter)


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
        (ProtocolError("x", status=200, broken=True), True),
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
def test_without_retry_after_the_wait_doubles_up_to_a_minute(attempt: int, jitter: float, seconds: float) -> None:
    settings = Settings(max_attempts=10_000, deadline=100.0)
    assert next_delay(settings, StatusError("x"), attempt=attempt, elapsed=0.0, jitter=jitter) == pytest.approx(seconds)


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
    settings = Settings(max_attempts=40, deadline=1800.0)
    error = RateLimited("x", retry_after=asked)
    found = next_delay(settings, error, attempt=attempt, elapsed=elapsed, jitter=jitter)
    assert found is None or (found >= 0 and elapsed + found < 1800.0 and attempt < 40)


RETRIED = [408, 409, 425, 429, 498, 500, 501, 502, 503, 504, 520, 529, 599]
FINAL = [301, 302, 307, 400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 431, 451]


@pytest.mark.parametrize(("status", "final"), [(s, False) for s in RETRIED] + [(s, True) for s in FINAL])
def test_a_status_is_final_or_not(status: int, final: bool) -> None:
    assert is_final(status, {}) is final


def test_an_error_that_waiting_does_not_help_is_final_whatever_its_status() -> None:
    assert is_final(429, {}, hopeless=True)
    assert is_final(500, {}, hopeless=True)


@pytest.mark.parametrize(
    ("told", "status", "hopeless", "final"),
    [
        ("true", 400, False, False),
        ("true", 429, True, False),
        (" False ", 500, False, True),
        ("false", 429, False, True),
        ("maybe", 500, False, False),
        ("", 400, False, True),
    ],
)
def test_x_should_retry_wins(told: str, status: int, hopeless: bool, final: bool) -> None:
    assert is_final(status, {"x-should-retry": told}, hopeless=hopeless) is final
