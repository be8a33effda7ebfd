"""A response as it comes, and a call as it goes: drained for its reply, or handed out chunk by chunk.

What the synchronous and the asynchronous kind share is in the two base classes; each kind has its own loop.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.call.exchange import salvaged
from airflow_chat_provider.core.call.steps import Response, Result, Send, Sleep
from airflow_chat_provider.transport.aside import by_size
from airflow_chat_provider.transport.async_network import Socket
from airflow_chat_provider.transport.http_library import httpx
from airflow_chat_provider.transport.sync_network import Clock, failure

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.call.attempt import Attempt
    from airflow_chat_provider.core.errors import TransportError
    from airflow_chat_provider.transport.client import AsyncClient, Client

Exchange = Generator[Send | Sleep, Result, "Reply"]
Chunks = list[dict[str, Any]]
Note = Callable[[Send | Sleep, float], Awaitable[None]]
"""Told of each step before it is made, with the seconds since the exchange is driven."""
Guard = Callable[[], Awaitable[None]]
"""Asked once more when a connection is there, before the first byte of a request leaves; raises to hold it back."""

_TURN = 0.002  # seconds after which the loop's other tasks have their turn


class _Response:
    """A response whose headers are here. Its clock runs on, but binds only while the body is read from."""

    def __init__(self, response: httpx.Response, attempt: Attempt, clock: Clock, stall_timeout: float) -> None:
        self.attempt = attempt
        self.outcome: Response | TransportError | None = None
        self._response = response
        self._clock = clock
        self._stall_timeout = stall_timeout

    def _steps(self, piece: bytes) -> Iterator[Chunks]:
        yield from self.attempt.pieces(piece)
        self._clock.quiet = self._stall_timeout if self.attempt.streaming else math.inf

    def _ended(self) -> Chunks:
        chunks = self.attempt.finish()
        self.outcome = self.attempt.end()
        return chunks

    def _broke(self, error: Exception) -> None:
        self.outcome = failure(self.attempt, error, stalled=self._clock.left > 0)


class Live(_Response):
    """Iterate for the chunks of a stream (another body has none); then ``outcome`` is set."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        pieces = self._response.iter_raw()
        try:
            while not self.attempt.over:
                with self._clock:
                    piece = next(pieces, None)
                if piece is None:
                    break
                for chunks in self._steps(piece):
                    yield from chunks
            yield from self._ended()
        except httpx.HTTPError as error:
            self._broke(error)
        finally:
            self.close()

    def drain(self) -> Response | TransportError:
        for _ in self:
            pass
        return self.outcome or self.attempt.failed("stopped")

    def close(self) -> None:
        self._response.close()


class AsyncLive(_Response):
    """The asynchronous twin of Live. ``release`` gives its transport back."""

    def __init__(
        self,
        response: httpx.Response,
        attempt: Attempt,
        clock: Clock,
        stall_timeout: float,
        release: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(response, attempt, clock, stall_timeout)
        self._release: Callable[[], Awaitable[None]] | None = release
        self._stream = response.extensions.get("network_stream")
        self._turn = 0.0

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        pieces = self._response.aiter_raw()
        try:
            while not self.attempt.over:
                piece = await self._piece(pieces)
                if piece is None:
                    break
                steps = self._steps(piece)
                while (chunks := await self._step(steps)) is not None:
                    for chunk in chunks:
                        yield chunk
            for chunk in await by_size(self.attempt.size, self._ended):
                yield chunk
        except (TimeoutError, httpx.HTTPError) as error:
            await by_size(self.attempt.size, self._broke, error)
        finally:
            await self.aclose()

    async def _piece(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        left = min(self._clock.left, self._clock.quiet)
        if left <= 0:  # the timeout below is not met while there is something to read
            raise TimeoutError
        async with asyncio.timeout(left):
            piece = await anext(pieces, None)
        if isinstance(self._stream, Socket):
            self._stream.data_came()
        return piece

    async def _step(self, steps: Iterator[Chunks]) -> Chunks | None:
        """The next chunks that a piece completes, on the loop while that is quick."""
        if time.monotonic() > self._turn:
            await asyncio.sleep(0)
            self._turn = time.monotonic() + _TURN
        return await by_size(self.attempt.pending, next, steps, None)

    async def aclose(self) -> None:
        release, self._release = self._release, None
        try:
            await self._response.aclose()
        finally:  # it may be cancelled, and then the connection is in nobody's hands but the transport's
            if release is not None:
                await release()


class _Call:
    """An exchange being driven. ``reply`` is there when it is over."""

    def __init__(self, steps: Exchange, headers: dict[str, str]) -> None:
        self._steps = steps
        self._headers = headers
        self._began = time.monotonic()
        self._reply: Reply | None = None
        self._attempt = 1

    @property
    def reply(self) -> Reply:
        """The whole reply, put together from the chunks; RuntimeError while there are more to come."""
        if self._reply is None:
            raise RuntimeError("read all chunks first: the reply is not complete")
        return self._reply

    @property
    def over(self) -> bool:
        return self._reply is not None

    def _next(self, outcome: Response | TransportError | None = None, *, last: bool = False) -> Send | Sleep | None:
        """Tell the exchange; None when it is over. ``last``: nothing may be sent again, as chunks were handed out."""
        result = Result(outcome, time.monotonic() - self._began, time.time(), _jitter(), last)
        try:
            step = self._steps.send(result)
        except StopIteration as done:
            self._reply = done.value
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is, what has come is kept
            self._reply = salvaged(outcome, error, self._attempt)
            return None
        self._attempt = step.attempt if isinstance(step, Send) else self._attempt
        return step


class Stream(_Call):
    """Iterate for the chunks of a call; raises ChatCompletionError where the stream breaks. Then ``reply`` is there."""

    def __init__(self, client: Client, steps: Exchange, headers: dict[str, str]) -> None:
        super().__init__(steps, headers)
        self._client = client
        self._live: Live | None = None
        self._chunks: Iterator[dict[str, Any]]

    def drain(self) -> Reply:
        """The reply; nothing was handed out before, so that a stream that breaks may be asked for again."""
        self.open(hand_over=False)
        return self.reply

    def open(self, *, hand_over: bool = True) -> None:
        """Send until there is a chunk to hand out, or a final reply."""
        step: Send | Sleep | None = next(self._steps)
        while step is not None:
            outcome: Response | TransportError | None = None
            if isinstance(step, Sleep):
                self._client.sleep(step.seconds)
            else:
                live = self._client.open(step, self._headers)
                if isinstance(live, Live) and self._begins(live, hand_over=hand_over):
                    return
                outcome = live.outcome if isinstance(live, Live) else live
            step = self._next(outcome, last=self._client.aborted)

    def _begins(self, live: Live, *, hand_over: bool) -> bool:
        """Is there a chunk to hand out? If not, or if none is wanted, it is read to its end."""
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


class AsyncStream(_Call):
    """The asynchronous twin of Stream. ``note``: see ``ChatCompletionHook.asend``."""

    def __init__(
        self,
        client: AsyncClient,
        steps: Exchange,
        headers: dict[str, str],
        note: Note | None = None,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(steps, headers)
        self._client = client
        self._note = note
        self._guard = guard
        self._live: AsyncLive | None = None
        self._first: dict[str, Any]
        self._chunks: AsyncIterator[dict[str, Any]]

    async def drain(self) -> Reply:
        await self.open(hand_over=False)
        return self.reply

    async def open(self, *, hand_over: bool = True) -> None:
        step: Send | Sleep | None = next(self._steps)
        while step is not None:
            outcome: Response | TransportError | None = None
            size = 0
            if self._note is not None:
                await self._note(step, time.monotonic() - self._began)
            if isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
            else:
                live = await self._client.open(step, self._headers, self._guard)
                if isinstance(live, AsyncLive) and await self._begins(live, hand_over=hand_over):
                    return
                outcome = live.outcome if isinstance(live, AsyncLive) else live
                answer = live.attempt.size if isinstance(live, AsyncLive) else 0
                size = max(answer, len(step.content) // 2)  # in the request an error's quotations are looked for
            step = await by_size(size, self._next, outcome)

    async def _begins(self, live: AsyncLive, *, hand_over: bool) -> bool:
        """Is there a chunk to hand out? If not, or if none is wanted, it is read to its end."""
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


def _jitter() -> float:
    return random.random()  # noqa: S311 - spreads retries, guards nothing
