"""Connection pools for a connection's settings: TLS, proxies, and the HTTP library's transports over them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment
from urllib.request import proxy_bypass_environment as bypasses  # type: ignore[attr-defined]  # typeshed lacks it

from airflow_chat_provider.core.errors import InvalidConnection
from airflow_chat_provider.transport.async_network import AsyncBackend
from airflow_chat_provider.transport.http_library import httpcore, httpx
from airflow_chat_provider.transport.tls import tls_context

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.transport.sync_network import Backend

KEEPALIVE = 5.0  # seconds that an idle connection is kept
_PROXY_NAMES = [name for scheme in ("http", "https", "all") for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper())]


class Transport(httpx.HTTPTransport):
    """The library's transport over a pool of our own making.

    Its own constructor takes no network backend, and makes a TLS context (18 ms) for ``http://`` too.
    """

    def __init__(self, settings: Settings, backend: Backend) -> None:
        self._make = _pool_maker(settings, backend)
        self._pool = self._make()
        self._backend = backend

    def renew(self) -> None:
        """In a forked process: let go of the parent's connections, and begin with an empty pool."""
        # Two processes that read from one connection get each other's answers. Closing a descriptor here sends nothing,
        # not even over TLS, and lets the parent's own close reach the server.
        for stream in list(self._backend.streams):
            with contextlib.suppress(OSError):
                stream.close()
        self._pool = self._make()


class AsyncTransport(httpx.AsyncHTTPTransport):
    """The asynchronous twin, for one call at a time: it has one connection at most."""

    def __init__(self, settings: Settings) -> None:
        self._backend = AsyncBackend()
        self._pool = pool_for(settings, self._backend)

    @property
    def is_idle(self) -> bool:
        """May another call use it? Not if a call was cancelled while httpcore was cleaning up after it."""
        return all(connection.is_idle() or connection.is_closed() for connection in self._pool.connections)

    def abort(self) -> None:
        """Close the connection without waiting for anything, so that nothing can cancel that."""
        self._backend.abort()


@lru_cache(maxsize=16)
def parsed(url: str) -> httpx.URL:
    """A URL of a connection's, parsed once for all of its calls."""
    return httpx.URL(url)


def pool_for(settings: Settings, backend: Backend | AsyncBackend) -> Any:
    """A connection pool over ``backend``, through a proxy where one is set."""
    return _pool_maker(settings, backend)()


def _pool_maker(settings: Settings, backend: Backend | AsyncBackend) -> Callable[[], Any]:
    """Makes such a pool. All that can fail happens here, so the maker can be called again after a fork."""
    is_async = isinstance(backend, AsyncBackend)
    options: dict[str, Any] = {
        "ssl_context": tls_context(settings, httpx.create_ssl_context)
        if settings.base_url.startswith("https:")
        else None,
        "max_connections": 100,
        "keepalive_expiry": KEEPALIVE,
        "network_backend": backend,
    }
    try:
        parsed(settings.base_url)
    except httpx.InvalidURL:  # such as a name that IDNA 2008 does not allow
        raise InvalidConnection(
            f"Correct connection {settings.conn_id!r}: host {settings.base_url!r} is not a URL", field="host"
        ) from None
    proxy = _proxy(settings)
    if proxy is None:
        return partial(httpcore.AsyncConnectionPool if is_async else httpcore.ConnectionPool, **options)
    try:
        url = httpx.Proxy(proxy)
    except (ValueError, httpx.InvalidURL):  # the URL is not quoted: it may hold a password
        whose = "the proxy of" if settings.proxy else "the environment's proxy for"
        raise InvalidConnection(
            f"Correct {whose} connection {settings.conn_id!r}: it is not the URL of a proxy", field="proxy"
        ) from None
    options |= {"proxy_url": _core_url(url.url), "proxy_auth": url.raw_auth}
    if url.url.scheme.startswith("socks"):
        return partial(_socks(is_async=is_async), **options)
    return partial(httpcore.AsyncHTTPProxy if is_async else httpcore.HTTPProxy, **options)


def _socks(*, is_async: bool) -> Any:
    try:
        import socksio  # noqa: F401 - httpcore says that it needs it only when it connects
    except ImportError:
        raise InvalidConnection(
            f"Install {httpx.__name__}[socks]: this connection uses a SOCKS proxy", field="proxy"
        ) from None
    return httpcore.AsyncSOCKSProxy if is_async else httpcore.SOCKSProxy


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _proxy(settings: Settings) -> str | None:
    """The connection's proxy, else the environment's (HTTPS_PROXY, NO_PROXY, ...)."""
    if settings.proxy:
        return settings.proxy
    if not any(name in os.environ for name in _PROXY_NAMES):  # quicker than the function below, which reads all
        return None
    found = getproxies_environment()
    parts = urlsplit(settings.base_url)
    if not found or bypasses(parts.netloc, found):
        return None
    proxy = found.get(parts.scheme) or found.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"
