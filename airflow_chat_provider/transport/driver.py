"""Whoever drives an exchange: makes the attempts that it asks for, waits in between, and hands out chunks meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.exchange import salvaged
from airflow_chat_provider.core.call.steps import Response, Result, Send, Sleep
from airflow_chat_provider.core.errors import TransportError
from airflow_chat_provider.transport.aside import by_size
from airflow_chat_provider.transport.client import AsyncClient, AsyncLive, Client, Guard, Live
from airflow_chat_provider.transport.observer import NOBODY, Watch

if TYPE_CHECKING:
    from airflow_chat_provider.transport.call_log import CallLog

Exchange: TypeAlias = "Generator[Send | Sleep, Result, Reply]"
Note: TypeAlias = Callable[[Send | Sleep, float], Awaitable[None]]
"""Awaited before each step of an exchange, with the seconds since it began."""


class _Driver:
    """Drives one exchange. ``reply`` is there when it is over. ``log``, if any, is told of failures and waits.

    ``watch`` is told of each attempt.
    """

    def __init__(
        self, steps: Exchange, headers: dict[str, str], log: CallLog | None = None, watch: Watch = NOBODY
    ) -> None:
        self._log = log
        self._watch = watch
        self._steps = steps
        self._headers = headers
        self._began = time.monotonic()
        self._reply: Reply | None = None
        self._attempt = 1

    @property
    def reply(self) -> Reply:
        """The complete reply, assembled from the chunks. RuntimeError while there are more to come."""
        if self._reply is None:
            raise RuntimeError("read all chunks first: the reply is not complete")
        return self._reply

    @property
    def over(self) -> bool:
        return self._reply is not None

    def so_far(self) -> Reply:
        """What is known before the reply is there."""
        return Reply(None, None, attempts=self._attempt, seconds=time.monotonic() - self._began)

    def _first_step(self) -> Send | Sleep | None:
        """None if not even one attempt may be made."""
        try:
            return next(self._steps)
        except StopIteration as done:
            self._reply = done.value
            return None

    def _next(self, outcome: Response | TransportError | None = None, *, last: bool = False) -> Send | Sleep | None:
        """The exchange's next step, None when it is over. ``last``: it may send no more, as a caller has chunks."""
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        result = Result(outcome, time.monotonic() - self._began, time.time(), jitter, last)
        try:
            step = self._steps.send(result)
        except StopIteration as done:
            self._reply = done.value
        except Exception as error:  # noqa: BLE001 - whatever it is, the bytes that came are kept
            self._reply = salvaged(outcome, error, self._attempt)
        if self._reply is not None:
            self._watch.came(outcome, self._reply.error)
            return None
        self._watch.came(outcome, step.error if isinstance(step, Sleep) else None)
        self._attempt = step.attempt
        if isinstance(step, Sleep) and self._log is not None:
            self._log.failed(step)
        return step

    def _still_waits(self, step: Send) -> Callable[[], None] | None:
        """To be called when an attempt has brought nothing for a long time."""
        return None if self._log is None else partial(self._log.waits, step)


class Stream(_Driver):
    """Iterate for the chunks of a call; raises ChatCompletionError where the stream breaks. Then ``reply`` is there."""

    def __init__(
        self,
        client: Client,
        steps: Exchange,
        headers: dict[str, str],
        log: CallLog | None = None,
        watch: Watch = NOBODY,
    ) -> None:
        super().__init__(steps, headers, log, watch)
        self._client = client
        self._live: Live | None = None
        self._chunks: Iterator[dict[str, Any]]

    def open(self, *, hand_over: bool = True) -> None:
        """Make attempts until there is a chunk to hand out, or a final reply.

        Without ``hand_over`` no caller gets a chunk, so a stream that breaks may be retried to the end.
        """
        step = self._first_step()
        while step is not None:
            outcome: Response | TransportError | None = None
            if isinstance(step, Sleep):
                self._client.sleep(step.seconds)
            else:
                self._watch.sends(step)
                live = self._client.open(step, self._headers, still_waits=self._still_waits(step))
                if isinstance(live, Live) and self._begins(live, hand_over=hand_over):
                    return
                outcome = live.outcome if isinstance(live, Live) else live
            step = self._next(outcome, last=self._client.aborted)

    def _begins(self, live: Live, *, hand_over: bool) -> bool:
        """Is there a chunk to hand out? If not, or if none is wanted, the response is read to its end."""
        self._live, chunks = live, iter(live)
        for first in chunks:
            if hand_over:
                self._chunks = chain((first,), chunks)
                return True
        return False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._live is not None and not self.over:
            yield from self._chunks
            self._next(self._live.outcome, last=True)
        self.reply.raise_for_error()

    def close(self) -> None:
        """Close a stream that was not read to its end."""
        if self._live is not None:
            self._live.close()


class AsyncStream(_Driver):
    """The asynchronous twin of Stream. ``note`` and ``guard`` let a trigger keep its journal."""

    def __init__(
        self,
        client: AsyncClient,
        steps: Exchange,
        headers: dict[str, str],
        log: CallLog | None = None,
        note: Note | None = None,
        guard: Guard | None = None,
        watch: Watch = NOBODY,
    ) -> None:
        super().__init__(steps, headers, log, watch)
        self._client = client
        self._note = note
        self._guard = guard
        self._live: AsyncLive | None = None
        self._first: dict[str, Any]
        self._chunks: AsyncIterator[dict[str, Any]]

    async def open(self, *, hand_over: bool = True) -> None:
        step = self._first_step()
        while step is not None:
            outcome: Response | TransportError | None = None
            size = 0
            if self._note is not None:
                await self._note(step, time.monotonic() - self._began)
            if isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
            else:
                self._watch.sends(step)
                live = await self._client.open(step, self._headers, self._guard, self._still_waits(step))
                if isinstance(live, AsyncLive) and await self._begins(live, hand_over=hand_over):
                    return
                outcome = live.outcome if isinstance(live, AsyncLive) else live
                answer = live.attempt.size if isinstance(live, AsyncLive) else 0
                size = max(answer, len(step.content) // 2)  # an error's quotations are searched for in the request
            step = await by_size(size, self._next, outcome)

    async def _begins(self, live: AsyncLive, *, hand_over: bool) -> bool:
        self._live, self._chunks = live, aiter(live)
        async for first in self._chunks:
            if hand_over:
                self._first = first
                return True
        return False

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        if self._live is not None and not self.over:
            yield self._first
            async for chunk in self._chunks:
                yield chunk
            finish = partial(self._next, self._live.outcome, last=True)
            await by_size(self._live.attempt.size, finish)
        self.reply.raise_for_error()

    async def aclose(self) -> None:
        if self._live is not None:
            await self._live.aclose()
