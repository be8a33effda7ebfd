"""One attempt over HTTP, and its response as it comes: a synchronous client, and its twin for an event loop.

A client opens a response: it sends a request and reads as far as the headers. The body is iterated over for the chunks
of a stream, or drained; then ``outcome`` tells what became of the attempt.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_chat_provider import __version__
from airflow_chat_provider._per_loop import renew_in_child
from airflow_chat_provider.core.call.attempt import Attempt
from airflow_chat_provider.core.call.body import ACCEPT_ENCODING
from airflow_chat_provider.core.call.steps import Response, Send
from airflow_chat_provider.core.errors import TransportError
from airflow_chat_provider.transport.aside import by_size
from airflow_chat_provider.transport.async_network import Socket
from airflow_chat_provider.transport.call_log import LONG
from airflow_chat_provider.transport.http_library import httpx
from airflow_chat_provider.transport.pools import Rack, Transport, parsed
from airflow_chat_provider.transport.sync_network import Backend, Clock, failure

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings

Chunks: TypeAlias = list[dict[str, Any]]
Guard: TypeAlias = Callable[[], Awaitable[None]]
"""Awaited when a connection is there, before the first byte of the request leaves; raises to hold it back."""
StillWaits: TypeAlias = Callable[[], None] | None
"""Called once if the response has not begun after ``LONG`` seconds."""

_TURN = 0.002  # seconds after which the loop's other tasks have their turn
_SLICE = 0.2  # seconds in which an abort ends a wait
_USER_AGENT = f"airflow-chat-provider/{__version__}"
_LEAVES = "send_request_headers.started"
"""How the event ends that httpcore tells of just before it writes a request, or a proxy's CONNECT."""


class _BaseClient:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _headers(self) -> dict[str, str]:
        own = {"accept": "application/json", "accept-encoding": ACCEPT_ENCODING, "user-agent": _USER_AGENT}
        return {**own, **self._settings.request_headers()}

    def _request(
        self, method: str, path: str | None, content: bytes | AsyncIterable[bytes], headers: dict[str, str]
    ) -> httpx.Request:
        """A request to ``path``, by default the endpoint's."""
        kind = {"content-type": "application/json"} if content else {}
        # Only connecting has a time limit of its own here; the attempt's clock covers the rest.
        timeout = {"connect": self._settings.connect_timeout, "read": None, "write": None, "pool": None}
        return httpx.Request(
            method,
            parsed(self._settings.url(self._settings.endpoint if path is None else path)),
            headers={**kind, **self._headers, **headers},
            content=content or None,
            extensions={"timeout": timeout},
        )


class Client(_BaseClient):
    """A synchronous client for one connection. ``abort`` may be called from a signal handler or another thread."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._backend = Backend()
        self._made: Transport | None = None
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None
        renew_in_child(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it when this process was forked
        if self._made is not None:
            self._made.renew()

    @property
    def _transport(self) -> Transport:
        """Made when first needed: its TLS context takes 18 ms, and its files may be wrong."""
        with self._lock:
            if self._made is None:
                self._made = Transport(self._settings, self._backend)
            return self._made

    @property
    def http(self) -> httpx.Client:
        """The HTTP library's Client, with the connection's base URL, headers, query, proxy, TLS and timeouts."""
        if self._http is None or self._http.is_closed:
            settings = self._settings
            self._http = httpx.Client(
                transport=self._transport,
                base_url=settings.base_url,
                headers={"user-agent": _USER_AGENT, **settings.request_headers()},
                params=dict(settings.query),
                timeout=httpx.Timeout(settings.timeout, connect=settings.connect_timeout),
            )
        return self._http

    def open(
        self,
        send: Send,
        headers: dict[str, str],
        method: str = "POST",
        path: str | None = None,
        still_waits: StillWaits = None,
    ) -> Live | TransportError:
        """Send a request, to the endpoint unless ``path`` says otherwise, and read as far as the response's headers."""
        attempt, clock = Attempt(self._settings, send), Clock(send.timeout)
        if still_waits is not None:
            clock.remind(LONG, still_waits)
        transport = self._transport  # which checks the URL, too
        request = self._request(method, path, attempt.content, headers)
        request.extensions["trace"] = partial(_trace, attempt)
        try:
            with clock:
                response = transport.handle_request(request)
        except Exception as error:  # noqa: BLE001 - the HTTP library has assertions about servers and proxies, too
            return failure(attempt, error)
        clock.forget()
        attempt.begin(response.status_code, response.headers)
        return Live(response, attempt, clock, self._settings.stall_timeout)

    def sleep(self, seconds: float) -> None:
        """Wait, but not for longer than until an abort."""
        until = time.monotonic() + seconds
        while not self.aborted and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))

    @property
    def aborted(self) -> bool:
        return self._backend.aborted

    def abort(self) -> None:
        """Close every socket now: a call under way returns with a TransportError, and nothing more is sent."""
        self._backend.abort()

    def close(self) -> None:
        """Close idle connections."""
        if self._made is not None:
            self._made.close()


class AsyncClient(_BaseClient):
    """The asynchronous twin, for one loop; cancelling the task is its abort.

    Cheap: all clients of a loop with the same connection share its sockets, for as long as one of them is open.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._rack: Rack | None = None

    async def open(
        self,
        send: Send,
        headers: dict[str, str],
        guard: Guard | None = None,
        still_waits: StillWaits = None,
        *,
        method: str = "POST",
        path: str | None = None,
        body: AsyncIterable[bytes] | None = None,
    ) -> AsyncLive | TransportError:
        """Send a request, to the endpoint unless ``path`` says otherwise, and read as far as the response's headers.

        ``body`` is sent as it comes, in place of the content of ``send``; ``headers`` must then say how long it is.
        """
        attempt, clock = Attempt(self._settings, send), Clock(send.timeout)
        rack = self._rack = self._rack or Rack.join(self._settings)
        transport, answered = rack.take(), False  # which checks the URL, too
        request = self._request(method, path, attempt.content if body is None else body, headers)
        request.extensions["trace"] = partial(_atrace, attempt, guard)
        reminder = asyncio.get_running_loop().call_later(LONG, still_waits) if still_waits is not None else None
        try:
            async with asyncio.timeout(send.timeout):
                response = await transport.handle_async_request(request)
            answered = True
        except Exception as error:  # noqa: BLE001 - as above
            return failure(attempt, error)
        finally:
            if reminder is not None:
                reminder.cancel()
            if not answered:
                await rack.give(transport)
        attempt.begin(response.status_code, response.headers)
        return AsyncLive(response, attempt, clock, self._settings.stall_timeout, partial(rack.give, transport))

    async def aclose(self) -> None:
        """Be done; the last client of a loop closes the idle connections."""
        if self._rack is not None:
            rack, self._rack = self._rack, None
            await rack.leave()


def _trace(attempt: Attempt, event: str, info: Mapping[str, Any]) -> None:
    """Note how far a request got: httpcore calls this a dozen times on the way of each."""
    if event.endswith(_LEAVES):
        if info["request"].method == b"CONNECT":  # to a proxy: the request itself comes later
            attempt.tunnelled = True
        else:
            attempt.sent = True
    elif event.endswith("connect_tcp.complete"):
        attempt.connected = True


async def _atrace(attempt: Attempt, guard: Guard | None, event: str, info: Mapping[str, Any]) -> None:
    if guard is not None and event.endswith(_LEAVES) and info["request"].method != b"CONNECT":
        await guard()
    _trace(attempt, event, info)


class _BaseLive:
    """A response whose headers are here. Its clock runs on, but binds only while the body is read from."""

    def __init__(self, response: httpx.Response, attempt: Attempt, clock: Clock, stall_timeout: float) -> None:
        self.attempt = attempt
        self.outcome: Response | TransportError | None = None
        self._response = response
        self._clock = clock
        self._stall_timeout = stall_timeout

    @property
    def status(self) -> int:
        return self._response.status_code

    def _steps(self, piece: bytes) -> Iterator[Chunks]:
        yield from self.attempt.pieces(piece)
        self._clock.quiet = self._stall_timeout if self.attempt.streaming else math.inf

    def _ended(self) -> Chunks:
        chunks = self.attempt.finish()
        self.outcome = self.attempt.end()
        return chunks

    def _broke(self, error: Exception) -> None:
        self.outcome = failure(self.attempt, error, stalled=self._clock.left > 0)


class Live(_BaseLive):
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
        """What became of the attempt, once the body is read to its end."""
        for _ in self:
            pass
        return self.outcome or self.attempt.failed("stopped")

    def close(self) -> None:
        self._response.close()


class AsyncLive(_BaseLive):
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

    async def drain(self) -> Response | TransportError:
        """What became of the attempt, once the body is read to its end."""
        async for _ in self:
            pass
        return self.outcome or self.attempt.failed("stopped")

    async def file(self) -> AsyncIterator[bytes]:
        """The body as a file of any size, decompressed. If it breaks off, ``outcome`` says why afterwards."""
        pieces = self._response.aiter_bytes()
        self._clock.quiet = self._stall_timeout
        try:
            while (piece := await self._piece(pieces)) is not None:
                yield piece
        except (TimeoutError, httpx.HTTPError) as error:
            self._broke(error)
        finally:
            await self.aclose()

    async def _piece(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        left = min(self._clock.left, self._clock.quiet)
        if left <= 0:  # the time limit below does not end what needs no waiting
            raise TimeoutError
        async with asyncio.timeout(left):
            piece = await anext(pieces, None)
        if isinstance(self._stream, Socket):
            self._stream.data_came()
        return piece

    async def _step(self, steps: Iterator[Chunks]) -> Chunks | None:
        """The next chunks that a piece completes, on the loop if that is quick."""
        if time.monotonic() > self._turn:
            await asyncio.sleep(0)
            self._turn = time.monotonic() + _TURN
        return await by_size(self.attempt.pending, next, steps, None)

    async def aclose(self) -> None:
        release, self._release = self._release, None
        try:
            await self._response.aclose()
        finally:  # this may be cancelled, and then the connection is in nobody's hands but the transport's
            if release is not None:
                await release()
