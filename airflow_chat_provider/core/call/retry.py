"""Whether to send again, and when: one pure function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from airflow_chat_provider.core.errors import ChatCompletionError, ProtocolError, StatusError, TransportError
from airflow_chat_provider.core.server.generation import blames_answer

RETRYABLE = frozenset({408, 409, 425, 429, 498})
OVERLOADED = frozenset({429, 498, 503, 529})
_BASE, _CAP = 0.5, 60.0


class RetryLimits(NamedTuple):
    """``max_attempts`` sends in all, and ``deadline`` seconds for everything, waits included."""

    max_attempts: int = 3
    deadline: float = 1800.0


def next_delay(
    policy: RetryLimits, error: ChatCompletionError, *, attempt: int, elapsed: float, jitter: float
) -> float | None:
    """Seconds to wait before attempt ``attempt + 1``; None where there is to be none.

    ``attempt`` counts from 1, ``elapsed`` is seconds since the first send, ``jitter`` is uniform in [0, 1). The
    server's word (``retry_after``) is exact; without one the wait is exponential with full jitter. A wait that the
    deadline does not leave room for is not made: ``error.retry_after`` tells whoever can wait longer.
    """
    if attempt >= policy.max_attempts or not _may_pass(error):
        return None
    if isinstance(error, StatusError) and blames_answer(error.status, error.code, error.message):
        return None  # the request was answered: a dialogue asks again, and tells what is wrong
    delay = error.retry_after
    if not delay:
        delay = jitter * min(_CAP, _BASE * 2 ** min(attempt, 20))
    return delay if elapsed + delay < policy.deadline else None


def _may_pass(error: ChatCompletionError) -> bool:
    """May the next attempt fare better?"""
    if isinstance(error, ProtocolError):
        return error.broken
    return isinstance(error, StatusError | TransportError) and not error.final


def is_final(status: int, headers: Mapping[str, str], *, hopeless: bool = False) -> bool:
    """Would the same request be refused again? ``hopeless``: the server's own words say so, see ``verdict``."""
    told = should_retry(headers)
    if told is not None:
        return not told
    return hopeless or (status < 500 and status not in RETRYABLE)


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """What the server says itself, where it does."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())
