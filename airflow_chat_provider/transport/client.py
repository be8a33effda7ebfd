"""The HTTP clients: one pure exchange, driven by a synchronous and an asynchronous one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.call.attempt import Attempt
from airflow_chat_provider.core.call.body import ACCEPT_ENCODING
from airflow_chat_provider.core.call.steps import Response, Send
from airflow_chat_provider.core.errors import TransportError
from airflow_chat_provider.transport.http_library import httpx
from airflow_chat_provider.transport.pools import Transport, parsed
from airflow_chat_provider.transport.response import AsyncLive, AsyncStream, Exchange, Guard, Live, Note, Stream
from airflow_chat_provider.transport.shared import Rack
from airflow_chat_provider.transport.sync_network import Backend, Clock, failure

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings

_SLICE = 0.2  # an abort ends a wait this soon


class Client:
    """A synchronous client for one connection. ``abort`` may be called from a signal handler or another thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._backend = Backend()
        self._transport = Transport(settings, self._backend)
        self._http: httpx.Client | None = None
        self.aborted = False

    @property
    def http(self) -> httpx.Client:
        """The HTTP library's Client, with the connection's base URL, headers, query, proxy, TLS and timeouts."""
        if self._http is None or self._http.is_closed:
            self._http = httpx.Client(transport=self._transport, **_client_options(self._settings))
        return self._http

    def run(self, steps: Exchange, headers: dict[str, str]) -> Reply:
        """Drive an exchange to its Reply."""
        return self.stream(steps, headers).drain()

    def stream(self, steps: Exchange, headers: dict[str, str]) -> Stream:
        """An exchange whose chunks are wanted as they come."""
        return Stream(self, steps, headers)

    def get(self, path: str, timeout: float) -> Response | TransportError:
        """One GET, for connection tests."""
        live = self.open(Send(timeout, 1), {}, method="GET", path=path)
        return live if isinstance(live, TransportError) else live.drain()

    def post(self, content: bytes, timeout: float) -> Response | TransportError:
        """One POST to the endpoint, for connection tests."""
        live = self.open(Send(timeout, 1, content), {})
        return live if isinstance(live, TransportError) else live.drain()

    def open(
        self, send: Send, headers: dict[str, str], method: str = "POST", path: str | None = None
    ) -> Live | TransportError:
        """Send a request and read as far as the response's headers."""
        attempt, clock = Attempt(self._settings, send), Clock(send.timeout)
        request = _request(self._settings, method, path, attempt.content, headers)
        request.extensions["trace"] = partial(_trace, attempt)
        try:
            with clock:
                response = self._transport.handle_request(request)
        except Exception as error:  # noqa: BLE001 - the HTTP library has assertions for servers and proxies, too
            return failure(attempt, error)
        attempt.begin(response.status_code, response.headers)
        return Live(response, attempt, clock, self._settings.stall_timeout)

    def sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.aborted and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))

    def abort(self) -> None:
        """Close every socket now: a call under way returns with a TransportError, and no other is sent."""
        self.aborted = True
        self._backend.abort()

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()


class AsyncClient:
    """The asynchronous twin, for one loop; cancelling the task is its abort.

    Cheap: all clients of a loop with the same connection share its sockets, for as long as one of them is open.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rack: Rack | None = None

    async def run(
        self, steps: Exchange, headers: dict[str, str], note: Note | None = None, guard: Guard | None = None
    ) -> Reply:
        """Drive an exchange to its Reply."""
        return await AsyncStream(self, steps, headers, note, guard).drain()

    def stream(self, steps: Exchange, headers: dict[str, str]) -> AsyncStream:
        """An exchange whose chunks are wanted as they come."""
        return AsyncStream(self, steps, headers)

    async def open(self, send: Send, headers: dict[str, str], guard: Guard | None = None) -> AsyncLive | TransportError:
        """Send a request and read as far as the response's headers."""
        attempt, clock = Attempt(self._settings, send), Clock(send.timeout)
        request = _request(self._settings, "POST", None, attempt.content, headers)
        request.extensions["trace"] = partial(_atrace, attempt, guard)
        rack = self._rack = self._rack or Rack.join(self._settings)
        transport, answered = rack.take(), False
        try:
            async with asyncio.timeout(send.timeout):
                response = await transport.handle_async_request(request)
            answered = True
        except Exception as error:  # noqa: BLE001 - as above
            return failure(attempt, error)
        finally:
            if not answered:
                await rack.give(transport)
        attempt.begin(response.status_code, response.headers)
        return AsyncLive(response, attempt, clock, self._settings.stall_timeout, partial(rack.give, transport))

    async def aclose(self) -> None:
        """Be done; the last client closes the idle connections."""
        if self._rack is not None:
            rack, self._rack = self._rack, None
            await rack.leave()


def _trace(attempt: Attempt, event: str, info: Mapping[str, Any]) -> None:
    """Called by httpcore as a request goes its way."""
    if _is_start(event, info):
        attempt.sent = True
    elif event.endswith("connect_tcp.complete"):
        attempt.connected = True
    elif event.endswith("send_request_headers.started"):
        attempt.tunnelled = True


def _is_start(event: str, info: Mapping[str, Any]) -> bool:
    """Is the request about to leave? A CONNECT to a proxy is not yet the request."""
    return event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT"


async def _atrace(attempt: Attempt, guard: Guard | None, event: str, info: Mapping[str, Any]) -> None:
    if guard is not None and _is_start(event, info):
        await guard()
    _trace(attempt, event, info)


def _request(
    settings: Settings, method: str, path: str | None, content: bytes, headers: dict[str, str]
) -> httpx.Request:
    # Only connecting has a timeout of its own; the wall clock holds the rest.
    timeout = {"connect": settings.connect_timeout, "read": None, "write": None, "pool": None}
    own = {"accept": "application/json", "accept-encoding": ACCEPT_ENCODING, "user-agent": _user_agent()}
    if content:
        own["content-type"] = "application/json"
    return httpx.Request(
        method,
        parsed(settings.url(settings.endpoint if path is None else path)),
        headers={**own, **settings.request_headers(), **headers},
        content=content or None,
        extensions={"timeout": timeout},
    )


def _client_options(settings: Settings) -> dict[str, Any]:
    return {
        "base_url": settings.base_url,
        "headers": {"user-agent": _user_agent(), **settings.request_headers()},
        "params": dict(settings.query),
        "timeout": httpx.Timeout(settings.timeout, connect=settings.connect_timeout),
    }


def _user_agent() -> str:
    from airflow_chat_provider import __version__

    return f"airflow-chat-provider/{__version__}"
