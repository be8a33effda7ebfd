"""How fast a batch may go: as fast as the user allows and the server can take. The caller passes the time in."""

from __future__ import annotations

import math
from collections.abc import Mapping

from airflow_chat_provider.core.server.waits import allowance_gone

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds, after an overload if the server does not say how long to wait


class Bucket:
    """A token bucket: a steady stream of ``per_minute``, and after a pause at most one second's worth at once."""

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_minute = per_minute
        self._rate = per_minute / 60.0
        self._capacity = max(1.0, self._rate)
        self._level = self._capacity
        self._at = now

    def wait(self, cost: float, now: float) -> float:
        """Seconds until ``cost`` may be taken. If it is more than the bucket can hold, seconds until that is full."""
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        missing = min(cost, self._capacity) - self._level
        return max(0.0, missing / self._rate) if missing > 1e-9 else 0.0

    def take(self, cost: float) -> None:
        """Take ``cost`` out; a negative one is given back."""
        self._level -= cost


class Concurrency:
    """How many requests may be under way: fewer after an overload, one more after each round without one.

    It grows by addition and shrinks by multiplication, as TCP's congestion control does.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self._cut_at = -math.inf
        self._paused_until = -math.inf
        self._pause = _FIRST_PAUSE

    def wait(self, now: float) -> float:
        """Seconds for which nothing may be sent."""
        return max(0.0, self._paused_until - now)

    def went_well(self, now: float, headers: Mapping[str, str]) -> None:
        """An answer came. If its headers say that the allowance is used up, wait until the server refills it."""
        self._pause = _FIRST_PAUSE
        self.limit = min(float(self.most), self.limit + 1.0 / self.limit)
        gone = allowance_gone(headers, now=now)
        if gone:
            self._hold(now, min(gone, 2 * _LONGEST_PAUSE))

    def overloaded(self, sent_at: float, now: float, retry_after: float | None, *, jitter: float) -> None:
        """The server was overloaded. If the request was sent before the last cut, the limit is not cut again."""
        if sent_at > self._cut_at:
            self.limit, self._cut_at = max(1.0, self.limit * 0.7), now
            if not retry_after:
                retry_after, self._pause = self._pause * (0.5 + jitter / 2), min(_LONGEST_PAUSE, self._pause * 2)
        if retry_after:
            self._hold(now, retry_after)

    def _hold(self, now: float, seconds: float) -> None:
        self._paused_until = max(self._paused_until, now + seconds)


class Guess:
    """Guesses how many tokens a request of some bytes will take: one for four bytes, then what this batch shows."""

    def __init__(self) -> None:
        self._tokens, self._bytes = 250.0, 1000.0

    def __call__(self, size: int) -> float:
        return max(1.0, size * self._tokens / self._bytes)

    def learn(self, size: int, tokens: float) -> None:
        """A request of ``size`` bytes took ``tokens`` tokens, including its answer's."""
        self._tokens, self._bytes = 0.99 * self._tokens + tokens, 0.99 * self._bytes + size
