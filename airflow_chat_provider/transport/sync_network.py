"""Sockets with a time limit for the whole attempt, which another thread can close.

The HTTP library has a timeout for each read, which a server that sends one byte a minute never reaches. Here every read
and write gets only what is left of the attempt.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
import ssl
import threading
import time
from contextvars import ContextVar, Token
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self

from airflow_chat_provider.core.call.attempt import TOO_LONG, TOO_MANY, TOO_OFTEN, TRAILERS, Head, HeadError
from airflow_chat_provider.transport.http_library import httpcore, httpx

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_chat_provider.core.call.attempt import Attempt
    from airflow_chat_provider.core.errors import TransportError

_PIECE = 1 << 16
_SLICE = 0.2  # seconds in which an abort is noticed while a name is looked up
NO_ADDRESS, STOPPED = "the host has no address", "stopped"
# Texts of the libraries below, each by its beginning, that quote nothing of what a server sent.
_SAYINGS = (
    NO_ADDRESS,
    STOPPED,
    TRAILERS,
    TOO_LONG,
    TOO_MANY,
    TOO_OFTEN,
    "Server disconnected without sending a response",
    "peer closed connection without sending complete message body",
    "peer unexpectedly closed connection",
    "no response line received",
    "illegal status line",
    "illegal header line",
    "illegal chunk header",
    "malformed chunk footer",
    "continuation line at start of headers",
    "conflicting Content-Length headers",
    "bad Content-Length",
    "multiple Transfer-Encoding headers",
    "Only Transfer-Encoding: chunked is supported",
    "Receive buffer too long",
    "Invalid username/password",
    "Proxy Server could not connect",
)


class Clock:
    """An attempt's time limit. While it is held (``with``), all reads and writes of this thread end when it is over.

    ``expires``: by ``time.monotonic()``. ``quiet``: seconds within which each read must bring something.
    """

    def __init__(self, seconds: float) -> None:
        self.expires = time.monotonic() + seconds
        self.quiet = math.inf
        self._remind_at = math.inf
        self._remind: Callable[[], None] | None = None
        self._token: Token[Clock | None] | None = None

    @property
    def left(self) -> float:
        """Seconds."""
        return self.expires - time.monotonic()

    def remind(self, seconds: float, call: Callable[[], None]) -> None:
        """Make a call if a read waits for longer than until then, unless it is forgotten before."""
        self._remind_at, self._remind = time.monotonic() + seconds, call

    def forget(self) -> None:
        self._remind_at, self._remind = math.inf, None

    def until_reminder(self) -> float:
        """Seconds, infinite if there is none."""
        return max(0.001, self._remind_at - time.monotonic())

    def run_out(self) -> None:
        """Make the call for which ``remind`` asked."""
        call = self._remind
        self.forget()
        if call is not None:
            call()

    def __enter__(self) -> Self:
        self._token = _clock.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _clock.reset(self._token)
            self._token = None


_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    """``timeout``, or what the thread's clock leaves of it; raises ``error`` when that has run out."""
    clock = _clock.get()
    if clock is None:
        return timeout
    left = clock.expires - time.monotonic()
    if left <= 0:
        raise error("the wall clock ran out")
    return min(left, clock.quiet, math.inf if timeout is None else timeout)


class _Lookup:
    """A host's addresses, looked up in a thread, because ``getaddrinfo`` cannot be interrupted.

    A call that gives up and a process that ends do not wait for it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._found: list[Any] = []
        self._error: Exception | None = None
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="lookup", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the process may start no more threads
            self._thread = None
            self._run()

    def _run(self) -> None:
        try:
            self._found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._error = error

    def wait(self, seconds: float) -> bool:
        """Wait for so many seconds at most; is it over?"""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def addresses(self) -> list[str]:
        if self._error is not None:
            raise httpcore.ConnectError(self._error) from self._error
        return list(dict.fromkeys(str(entry[4][0]) for entry in self._found))


class Backend(httpcore.NetworkBackend):
    """httpcore's own backend, which also obeys the clock and knows the open sockets."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()
        self.streams: set[_Stream] = set()
        self.aborted = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        until = math.inf if timeout is None else time.monotonic() + timeout
        failure: Exception = httpcore.ConnectError(NO_ADDRESS)
        for address in self._resolve(host, port, until):
            if self.aborted:
                raise httpcore.ConnectError(STOPPED)
            left = _left(max(0.001, until - time.monotonic()), httpcore.ConnectTimeout)
            try:
                stream = self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return self.watch(stream)
        raise failure

    def watch(self, stream: httpcore.NetworkStream) -> httpcore.NetworkStream:
        """The stream, which an abort will shut from now on. After an abort there are no new ones."""
        watched = _Stream(stream, self)
        self.streams.add(watched)
        if self.aborted:  # read after the add: an abort in between has seen the stream, or is seen here
            watched.close()
            raise httpcore.ConnectError(STOPPED)
        return watched

    def _resolve(self, host: str, port: int, until: float) -> list[str]:
        with contextlib.suppress(ValueError):
            ip_address(host)
            return [host]
        lookup = _Lookup(host, port)
        while not lookup.wait(min(_SLICE, _left(max(0.0, until - time.monotonic()), httpcore.ConnectTimeout) or 0.0)):
            if self.aborted:
                raise httpcore.ConnectError(STOPPED)
            if time.monotonic() >= until:
                raise httpcore.ConnectTimeout
        return lookup.addresses()

    def abort(self) -> None:
        """Shut every open socket; whoever reads from one gets an error at once."""
        self.aborted = True
        for stream in list(self.streams):
            stream.abort()


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, backend: Backend) -> None:
        self._inner = inner
        self._backend = backend
        self._spare: socket.socket | None = None
        self._head = Head()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._read(max_bytes, timeout)
        try:
            self._head.take(data)
        except HeadError as error:
            raise httpcore.RemoteProtocolError(str(error)) from None
        return data

    def _read(self, max_bytes: int, timeout: float | None) -> bytes:
        left, clock = _left(timeout, httpcore.ReadTimeout), _clock.get()
        soon = math.inf if clock is None else clock.until_reminder()
        if clock is None or (left is not None and left <= soon) or soon == math.inf:
            return self._inner.read(max_bytes, left)
        with contextlib.suppress(httpcore.ReadTimeout):
            return self._inner.read(max_bytes, soon)
        clock.run_out()
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._head = Head()
        # In pieces: the inner stream gives each send() of a long buffer the whole timeout again.
        for start in range(0, len(buffer), _PIECE):
            self._inner.write(buffer[start : start + _PIECE], _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._backend.streams.discard(self)
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        sock = self._inner.get_extra_info("socket")
        # Wrapping takes the descriptor out of the socket; an abort during the handshake needs one.
        with socket.fromfd(sock.fileno(), sock.family, sock.type) as self._spare:
            try:
                stream = self._inner.start_tls(ssl_context, server_hostname, _left(timeout, httpcore.ConnectTimeout))
            except BaseException:
                self.close()
                raise
        self._backend.streams.discard(self)
        return self._backend.watch(stream)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def abort(self) -> None:
        for sock in (self._inner.get_extra_info("socket"), self._spare):
            if sock is not None:
                with contextlib.suppress(OSError):
                    # Not SSLSocket.shutdown: it drops the TLS state that a read on another frame still uses.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


def failure(attempt: Attempt, error: Exception, *, stalled: bool = False) -> TransportError:
    """The error of an attempt that ended in an exception of the HTTP library."""
    if isinstance(error, TimeoutError):
        return attempt.timed_out(stalled=stalled)
    if isinstance(error, httpx.TimeoutException):
        return attempt.timed_out(connecting=isinstance(error, httpx.ConnectTimeout), stalled=stalled)
    if isinstance(error, httpx.ProxyError):
        return attempt.failed(f"the proxy answered {proxy_words(error)}")
    return attempt.failed(words_of(error))


def words_of(error: BaseException) -> str:
    """What went wrong, in words that quote nothing: the text of an error may hold a header with the key, or the prompt.

    These are the operating system's words, or the reason that TLS gives, or one of _SAYINGS, or the name of the error's
    class.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLError):
            return _words_of_tls(found)
        if isinstance(found, OSError) and found.errno:
            return os.strerror(found.errno) if found.errno > 0 else str(found.strerror)
        if isinstance(found, UnicodeError):
            return "the host's name cannot be encoded"
        found = _under(found)
    return next((saying for saying in _SAYINGS if str(error).startswith(saying)), type(error).__name__)


def _words_of_tls(error: ssl.SSLError) -> str:
    reason = f"TLS: {error.reason or type(error).__name__}"
    return f"{reason}, {error.verify_message}" if isinstance(error, ssl.SSLCertVerificationError) else reason


def proxy_words(error: BaseException) -> str:
    """What a proxy answered: its status without its own words, or one of _SAYINGS."""
    status = re.match(r"[1-9]\d\d(?= )", str(error))
    if status is None:
        return words_of(error)
    with contextlib.suppress(ValueError):
        return f"{status[0]} {HTTPStatus(int(status[0])).phrase}"
    return status[0]


def _under(error: BaseException) -> BaseException | None:
    """The error below this one: httpcore cuts the chain of causes, and keeps the cause as an argument."""
    inner = error.args[0] if error.args else None
    return error.__cause__ or (inner if isinstance(inner, BaseException) else None)
