"""The HTTP clients: one pure exchange, driven by a synchronous and an asynchronous one.

The only module that imports httpx, and its engine httpcore.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment
from urllib.request import proxy_bypass_environment as bypasses  # type: ignore[attr-defined]  # typeshed lacks it

import httpcore
import httpx

from airflow_chat_provider.core.attempt import Attempt
from airflow_chat_provider.core.body import ACCEPT_ENCODING
from airflow_chat_provider.core.errors import InvalidConnection, TransportError
from airflow_chat_provider.core.exchange import Received, Result, Send, Sleep
from airflow_chat_provider.tls import tls_context
from airflow_chat_provider.wire import Backend, wall_clock, words_of

if TYPE_CHECKING:
    from airflow_chat_provider.core.response import Reply
    from airflow_chat_provider.core.settings import Settings

Exchange = Generator[Send | Sleep, Result, "Reply"]
_PROXY_NAMES = [name for scheme in ("http", "https", "all") for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper())]
_SLICE = 0.2  # an abort ends a wait this soon


class Client:
    """A synchronous client for one connection. ``abort`` may be called from a signal handler or another thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._backend = Backend()
        self._transport = _Transport(_pool(settings, self._backend))
        self._http: httpx.Client | None = None
        self._aborted = False

    @property
    def http(self) -> httpx.Client:
        """An httpx.Client with the connection's base URL, headers, query, proxy, TLS and timeouts."""
        if self._http is None or self._http.is_closed:
            self._http = httpx.Client(transport=self._transport, **_client_options(self._settings))
        return self._http

    def run(self, steps: Exchange, content: bytes, headers: dict[str, str]) -> Reply:
        """Drive an exchange to its Reply."""
        began = time.monotonic()
        step = next(steps)
        try:
            while True:
                if isinstance(step, Send):
                    outcome = self._send(step, content, headers)
                    step = steps.send(_result(outcome, began, aborted=self._aborted))
                else:
                    self._sleep(step.seconds)
                    step = steps.send(_result(None, began, aborted=self._aborted))
        except StopIteration as done:
            reply: Reply = done.value
            return reply

    def get(self, path: str, timeout: float) -> Received | TransportError:
        """One GET, for connection tests."""
        return self._send(Send(timeout, 1), b"", {}, method="GET", path=path)

    def _send(
        self,
        send: Send,
        content: bytes,
        headers: dict[str, str],
        method: str = "POST",
        path: str | None = None,
    ) -> Received | TransportError:
        attempt = Attempt(self._settings, send)
        with wall_clock(send.timeout):
            try:
                request = _request(self._settings, method, path, content, headers)
                request.extensions["trace"] = partial(_trace, attempt)
                response = self._transport.handle_request(request)
                try:
                    attempt.begin(response.status_code, response.headers)
                    for chunk in response.iter_raw():
                        if not attempt.feed(chunk):
                            break
                finally:
                    response.close()
            except httpx.HTTPError as error:
                return _failure(attempt, error)
        return attempt.end()

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._aborted and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))

    def abort(self) -> None:
        """Close every socket now: a call under way returns with a TransportError, and no other is sent."""
        self._aborted = True
        self._backend.abort()

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()


class AsyncClient:
    """The asynchronous twin; cancelling the task is its abort."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._transport = _AsyncTransport(_pool(settings, None))

    async def run(self, steps: Exchange, content: bytes, headers: dict[str, str]) -> Reply:
        """Drive an exchange to its Reply."""
        began = time.monotonic()
        step = next(steps)
        try:
            while True:
                if isinstance(step, Send):
                    step = steps.send(_result(await self._send(step, content, headers), began))
                else:
                    await asyncio.sleep(step.seconds)
                    step = steps.send(_result(None, began))
        except StopIteration as done:
            reply: Reply = done.value
            return reply

    async def _send(self, send: Send, content: bytes, headers: dict[str, str]) -> Received | TransportError:
        attempt = Attempt(self._settings, send)
        try:
            async with asyncio.timeout(send.timeout):
                request = _request(self._settings, "POST", None, content, headers)
                request.extensions["trace"] = partial(_atrace, attempt)
                response = await self._transport.handle_async_request(request)
                try:
                    attempt.begin(response.status_code, response.headers)
                    async for chunk in response.aiter_raw():
                        if not attempt.feed(chunk):
                            break
                finally:
                    await response.aclose()
        except TimeoutError:
            return attempt.timed_out()
        except (httpx.HTTPError, OSError) as error:  # anyio lets the alert of a TLS server through
            return _failure(attempt, error)
        return attempt.end()

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._transport.aclose()


def _result(outcome: Received | TransportError | None, began: float, *, aborted: bool = False) -> Result:
    jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
    return Result(outcome, time.monotonic() - began, time.time(), jitter, aborted)


def _failure(attempt: Attempt, error: Exception) -> TransportError:
    if isinstance(error, httpx.TimeoutException):
        return attempt.timed_out(connecting=isinstance(error, httpx.ConnectTimeout))
    if isinstance(error, httpx.ProxyError):
        return attempt.failed(f"the proxy answered {error}")
    return attempt.failed(" ".join(words_of(error).split())[:200])


def _trace(attempt: Attempt, event: str, info: Mapping[str, Any]) -> None:
    """Called by httpcore as a request goes its way. A CONNECT to a proxy is not yet the request."""
    if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
        attempt.sent = True


async def _atrace(attempt: Attempt, event: str, info: Mapping[str, Any]) -> None:
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
        settings.url(settings.endpoint if path is None else path),
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


class _Transport(httpx.HTTPTransport):
    """httpx's transport over a pool of our own making: its own constructor takes no network backend, and makes a TLS
    context (18 ms) for ``http://`` too.
    """

    def __init__(self, pool: httpcore.ConnectionPool) -> None:
        self._pool = pool


class _AsyncTransport(httpx.AsyncHTTPTransport):
    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool


def _pool(settings: Settings, backend: Backend | None) -> Any:
    """A connection pool, through a proxy where one is set; asynchronous without a backend of ours."""
    options: dict[str, Any] = {
        "ssl_context": tls_context(settings, httpx.create_ssl_context)
        if settings.base_url.startswith("https:")
        else None,
        "max_connections": 100,
        "keepalive_expiry": 5.0,
    }
    if backend is not None:
        options["network_backend"] = backend
    try:
        httpx.URL(settings.base_url)
    except httpx.InvalidURL:  # such as a name that is no IDNA of 2008
        raise InvalidConnection(
            f"Correct connection {settings.conn_id!r}: host {settings.base_url!r} is no URL", field="host"
        ) from None
    proxy = _proxy(settings)
    if proxy is None:
        return (httpcore.AsyncConnectionPool if backend is None else httpcore.ConnectionPool)(**options)
    try:
        url = httpx.Proxy(proxy)
    except (ValueError, httpx.InvalidURL):  # no word of what it is: it may hold a password
        whose = "the proxy of" if settings.proxy else "the environment's proxy for"
        raise InvalidConnection(
            f"Correct {whose} connection {settings.conn_id!r}: it is no URL of a proxy", field="proxy"
        ) from None
    options |= {"proxy_url": _core_url(url.url), "proxy_auth": url.raw_auth}
    if url.url.scheme.startswith("socks"):
        return _socks(backend)(**options)
    return (httpcore.AsyncHTTPProxy if backend is None else httpcore.HTTPProxy)(**options)


def _socks(backend: Backend | None) -> Any:
    try:
        import socksio  # noqa: F401 - httpcore says that it needs it only when it connects
    except ImportError:
        raise InvalidConnection(
            "Install httpx[socks]: the proxy of this connection is a SOCKS proxy", field="proxy"
        ) from None
    return httpcore.AsyncSOCKSProxy if backend is None else httpcore.SOCKSProxy


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _proxy(settings: Settings) -> str | None:
    """The connection's proxy, else the environment's (HTTPS_PROXY, NO_PROXY, ...)."""
    if settings.proxy:
        return settings.proxy
    if not any(name in os.environ for name in _PROXY_NAMES):  # the function below reads all of the environment
        return None
    found = getproxies_environment()
    parts = urlsplit(settings.base_url)
    if not found or bypasses(parts.netloc, found):
        return None
    proxy = found.get(parts.scheme) or found.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"
