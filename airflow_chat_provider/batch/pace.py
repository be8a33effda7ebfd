"""How fast a batch goes: all workers make their calls through one gate, as the user allows and the server can take."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from airflow_chat_provider.batch.pace_log import PaceLog
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.server.waits import allowance_gone

if TYPE_CHECKING:
    pass

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds, after an overload if the server does not say how long to wait
_ABSURD = 10**18  # tokens; a larger count is not written out in the log

log = logging.getLogger(__name__)


class Stopped(Exception):
    """Nothing more may be sent."""


class Pass(NamedTuple):
    """Allows its holder one request of ``size`` bytes and, by our guess, ``tokens`` tokens. It must be given back."""

    size: int
    tokens: float
    sent_at: float


class Gate:
    """``enter``, send, ``leave``: the answer decides when the next request may go."""

    def __init__(self, most: int, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self.concurrency = Concurrency(most)
        self._requests = Bucket(requests_per_minute, now) if requests_per_minute else None
        self._tokens = Bucket(tokens_per_minute, now) if tokens_per_minute else None
        self._guess = Guess()
        self._warned = False
        self.log = PaceLog()
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._inside = 0
        self._stop = asyncio.Event()

    async def enter(self, size: int) -> Pass:
        """Wait until a request of ``size`` bytes may be sent. Raises Stopped."""
        if self.stopped:
            raise Stopped
        tokens = min(self._guess(size), self._tokens.per_minute) if self._tokens is not None else 0.0
        if self._waiting or self._wait(tokens) is not None:
            turn = self._loop.create_future()
            self._waiting.append((tokens, turn))
            self._let_in()
            await turn
        else:
            self._admit(tokens)
        return Pass(size, tokens, self._loop.time())

    def leave(self, ticket: Pass, reply: Reply, *, overloaded: bool = False) -> None:
        """A request has ended. ``overloaded``: the server refused it for its load, or could not be reached."""
        self._inside -= 1
        try:
            self._learn(ticket, reply, overloaded=overloaded)
        finally:  # whatever is wrong with this answer, others wait for their turn
            if self._waiting:
                self._let_in()

    def _learn(self, ticket: Pass, reply: Reply, *, overloaded: bool) -> None:
        now = self._loop.time()
        if self._tokens is not None:
            used = self._used(reply.tokens, self._tokens.per_minute)
            self._tokens.take((used or 0) - ticket.tokens)
            if used is not None:
                self._guess.learn(ticket.size, used)
        if overloaded:
            wait = reply.error.retry_after if reply.error is not None else None
            jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
            self.concurrency.overloaded(ticket.sent_at, now, wait, jitter=jitter)
        else:
            self.concurrency.went_well(now, reply.headers)
        self.log.pauses(now, now + self.concurrency.wait(now), reply.error if overloaded else None)

    def _used(self, tokens: int | None, most: float) -> float | None:
        """The tokens that an answer takes from the bucket: at most ``most``, or a wrong count could stop the batch."""
        if tokens is not None and tokens > most and not self._warned:
            self._warned = True
            log.warning(
                "Raise tokens_per_minute, or ask the server's owner: by the server's count one answer took %s tokens, "
                "more than that. Such an answer is counted as a whole minute's tokens",
                f"{tokens:,}" if tokens < _ABSURD else "over 10^18",
            )
        return None if tokens is None else max(0, min(tokens, most))

    async def sleep(self, seconds: float) -> None:
        """Wait for a retry. Raises Stopped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
            raise Stopped

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Let nothing more be sent."""
        self._stop.set()
        while self._waiting:
            turn = self._waiting.popleft()[1]
            if not turn.done():
                turn.set_exception(Stopped())

    def _wait(self, tokens: float) -> float | None:
        """Seconds until the next request may go; infinite if another has to end first; None if it may go now."""
        if self._inside >= int(self.concurrency.limit):
            return float("inf")
        now = self._loop.time()
        wait = self.concurrency.wait(now)
        if self._requests is not None:
            wait = max(wait, self._requests.wait(1.0, now))
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(tokens, now))
        return wait or None

    def _admit(self, tokens: float) -> None:
        self._inside += 1
        if self._requests is not None:
            self._requests.take(1.0)
        if self._tokens is not None:
            self._tokens.take(tokens)

    def _let_in(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            tokens, turn = self._waiting[0]
            if not turn.done():
                wait = self._wait(tokens)
                if wait is not None:
                    if wait < float("inf"):
                        self._timer = self._loop.call_later(wait, self._let_in)
                    return
                self._admit(tokens)
                turn.set_result(None)
            self._waiting.popleft()


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
