"""Connections: TLS contexts and proxies, the HTTP library's transports, and those that the calls of one loop share.

Making a TLS context takes 20 ms, so there is one per process and settings. A forked process may use its parent's: a
context holds no connection, and OpenSSL seeds its random numbers anew.
"""

from __future__ import annotations

import contextlib
import math
import os
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment
from urllib.request import proxy_bypass_environment as bypasses  # type: ignore[attr-defined]  # typeshed lacks it

from airflow_chat_provider._per_loop import PerLoop, renew_in_child
from airflow_chat_provider.core.errors import InvalidConnection
from airflow_chat_provider.transport.async_network import AsyncBackend
from airflow_chat_provider.transport.http_library import httpcore, httpx

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.transport.sync_network import Backend

KEEPALIVE = 5.0  # seconds that an idle connection is kept
_PROXY_NAMES = [name for scheme in ("http", "https", "all") for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper())]


def tls_context(settings: Settings) -> ssl.SSLContext:
    """The context for these settings, made again only when one of their files changes. Raises InvalidConnection."""
    verify, cert, key = settings.verify, settings.client_cert, settings.client_key
    try:
        stamps = _stamp("verify", verify), _stamp("client_cert", cert), _stamp("client_key", key)
        return _context(verify, cert, key, stamps)
    except InvalidConnection as error:
        raise InvalidConnection(
            f"Correct connection {settings.conn_id!r}: {error.message}", field=error.field
        ) from None


def _stamp(field: str, path: Any) -> float | None:
    if not isinstance(path, str):
        return None
    with _naming(field, "names a file that cannot be read"):
        return Path(path).stat().st_mtime


@contextlib.contextmanager
def _naming(field: str, why: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise InvalidConnection(f"{field} {why} ({error.strerror or error})", field=field) from None


@lru_cache(maxsize=32)
def _context(
    verify: bool | str,  # noqa: FBT001 - the name and the values are those of the extra
    cert: str | None,
    key: str | None,
    stamps: tuple[float | None, ...],  # noqa: ARG001 - part of the cache key
) -> ssl.SSLContext:
    with _naming("verify", "holds no usable PEM file"):
        context = httpx.create_ssl_context(verify=verify) if isinstance(verify, bool) else _trusting(verify)
    if cert is not None:
        with _naming("client_cert", "holds no usable PEM file, or not that of client_key"):
            context.load_cert_chain(cert, key, _no_passphrase)
    return context


def _trusting(path: str) -> ssl.SSLContext:
    folder = Path(path).is_dir()
    return ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)


def _no_passphrase() -> str:
    # Without this, OpenSSL would ask for one at the terminal, and a worker would wait for ever.
    raise OSError("the key is encrypted")


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
        "ssl_context": tls_context(settings) if settings.base_url.startswith("https:") else None,
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


class Rack:
    """The transports that all asynchronous calls of one loop to one endpoint share.

    For each request, a pool of httpcore's looks at all of its connections: 500 requests at once make it look 250,000
    times. Here each call takes a transport of its own, which has one connection at most, and leaves it to the next
    call. Whoever ``join``s has to ``leave``; the last one closes all.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: deque[tuple[float, AsyncTransport]] = deque()
        self.members = 0
        renew_in_child(self)

    def _renew(self) -> None:
        self._idle.clear()  # without closing any: that would talk to the event loop, which is the parent's

    @classmethod
    def join(cls, settings: Settings) -> Rack:
        """The running loop's rack for these settings."""
        racks = _racks()
        key = (settings.base_url, settings.proxy, settings.verify, settings.client_cert, settings.client_key)
        rack = racks.get(key)
        if rack is None or not rack.members:
            rack = racks[key] = cls(settings)
        rack.members += 1
        return rack

    async def leave(self) -> None:
        self.members -= 1
        self._close_idle_since(math.inf if not self.members else -math.inf)

    def take(self) -> AsyncTransport:
        """A transport that no other call uses: the one used last, whose connection is the likeliest to be alive."""
        return self._idle.pop()[1] if self._idle else AsyncTransport(self._settings)

    async def give(self, transport: AsyncTransport) -> None:
        """Leave a transport to the next call, whatever became of this one."""
        if not transport.is_idle:
            transport.abort()
            return
        now = time.monotonic()
        self._idle.append((now, transport))
        self._close_idle_since(now - KEEPALIVE if self.members else math.inf)

    def _close_idle_since(self, moment: float) -> None:
        while self._idle and self._idle[0][0] < moment:
            self._idle.popleft()[1].abort()


_racks: PerLoop[dict[Any, Rack]] = PerLoop(dict)
