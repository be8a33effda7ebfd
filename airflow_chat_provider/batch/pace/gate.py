"""When the next request may be sent: one gate for all workers of a batch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from airflow_chat_provider.batch.pace.limits import Bucket, Concurrency, Guess

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply


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

    def _used(self, tokens: int | None, most: float) -> float | None:
        """The tokens that an answer takes from the bucket: at most ``most``, or a wrong count could stop the batch."""
        if tokens is not None and tokens > most and not self._warned:
            self._warned = True
            log.warning(
                "Raise tokens_per_minute, or ask the server's owner: by the server's count one answer took %s tokens, "
                "more than a minute allows. Such answers are counted as one minute's tokens",
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
