"""Whether to send again, and when: one pure function."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from airflow_chat_provider.core.errors import ChatCompletionError, StatusError, TransportError
from airflow_chat_provider.core.generation import blames_answer

RETRYABLE = frozenset({408, 409, 425, 429, 498})
OVERLOADED = frozenset({429, 498, 503, 529})
# Under 429, and yet waiting does not help: somebody has to pay or to raise a limit.
QUOTA = frozenset(
    {
        "insufficient_quota",
        "quota_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "account_deactivated",
        "access_terminated",
        "credit_balance_too_low",
        "insufficient_balance",
        "insufficient_credits",
        "exceeded_current_quota_error",
    }
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_BASE, _CAP = 0.5, 60.0
_LONGEST = 64  # characters of a header that is read as a time: no server needs more, and reading may take their square


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
    if attempt >= policy.max_attempts or error.final or not isinstance(error, StatusError | TransportError):
        return None
    if isinstance(error, StatusError) and blames_answer(error.status, error.code, error.message):
        return None  # the request was answered: a dialogue asks again, and tells what is wrong
    delay = error.retry_after
    if not delay:
        delay = jitter * min(_CAP, _BASE * 2 ** min(attempt, 20))
    return delay if elapsed + delay < policy.deadline else None


def is_final(status: int, codes: frozenset[str], headers: Mapping[str, str]) -> bool:
    """Would the same request be refused again? ``codes``: the error's code and type, lower case."""
    told = headers.get("x-should-retry", "").strip().lower()
    if told in ("true", "false"):
        return told == "false"
    return status < 500 and (status not in RETRYABLE or (status == 429 and bool(codes & QUOTA)))


def retry_after(headers: Mapping[str, str], *, status: int, now: float) -> float | None:
    """Seconds that the server asks to wait; ``now`` in epoch seconds, used where it names a date without its own.

    ``retry-after-ms`` before ``retry-after`` (seconds or HTTP date) before ``x-ratelimit-reset-*``, which some servers
    send with every answer: they count under 429 and 498 alone, and of them those whose allowance is used up.
    """
    for wait in (
        _number(headers.get("retry-after-ms"), 0.001),
        _number(headers.get("retry-after")),
        _date(headers.get("retry-after"), headers.get("date"), now),
        _reset(headers, now) if status in (429, 498) else None,
    ):
        if wait is not None:
            return wait
    return None


def _number(text: str | None, unit: float = 1.0) -> float | None:
    try:
        value = float(_readable(text)) * unit
    except ValueError:
        return None
    return value if value >= 0 and math.isfinite(value) else None


def _readable(text: str | None) -> str:
    """A header's text, or nothing where it is too long to be a time."""
    return text if text and len(text) <= _LONGEST else ""


def _date(text: str | None, served: str | None, now: float) -> float | None:
    """Seconds until an HTTP date, by the server's own clock where it states one."""
    until = _epoch(text)
    if until is None:
        return None
    start = _epoch(served)
    return max(0.0, until - (now if start is None else start))


def _epoch(text: str | None) -> float | None:
    try:
        date = parsedate_to_datetime(_readable(text))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()  # HTTP has no local times
    except (ValueError, TypeError, OverflowError):
        return None


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    waits, used_up = [], []
    for name, value in headers.items():
        if not name.startswith("x-ratelimit-reset"):
            continue
        wait = _span(value, now)
        if wait is not None:
            waits.append(wait)
            if headers.get(name.replace("reset", "remaining"), "").strip() == "0":
                used_up.append(wait)
    return max(used_up) if used_up else min(waits, default=None)


def allowance_gone(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds until a server that just answered takes more; None where its ``x-ratelimit-remaining-*`` are not zero."""
    for name in headers:
        if name.startswith("x-ratelimit-remaining") and headers[name].strip() == "0":
            return _reset(headers, now)
    return None


def _span(text: str, now: float) -> float | None:
    """Seconds in ``6m0s``, ``20ms``, ``2.5``, or until an epoch in seconds or milliseconds."""
    number = _number(text)
    if number is not None:
        for unit in (1000.0, 1.0):
            if number / unit > 1e9:
                return max(0.0, number / unit - now)
        return number
    text = _readable(text).strip().lower()
    parts = _SPAN.findall(text)
    return sum(float(n) * _UNITS[u] for n, u in parts) if parts and _SPAN.sub("", text) == "" else None
