"""Sockets under a wall clock, which can be closed from outside.

httpx has a timeout for each read; a server that sends a byte a minute never meets one. Here every read and write gets
what is left of the attempt.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import ssl
import time
from contextvars import ContextVar, Token
from typing import Any, Self

import httpcore

_PIECE = 1 << 16


class Clock:
    """An attempt's wall clock. While it is held (``with``), all reads and writes of the thread end when it runs out.

    ``quiet``: seconds within which each read must bring something.
    """

    def __init__(self, seconds: float) -> None:
        self._expires = time.monotonic() + seconds
        self.quiet = math.inf
        self._token: Token[Clock | None] | None = None

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._expires - time.monotonic()

    def __enter__(self) -> Self:
        self._token = _clock.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _clock.reset(self._token)
            self._token = None


_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    clock = _clock.get()
    if clock is None:
        return timeout
    left = clock.left
    if left <= 0:
        raise error("the wall clock ran out")
    left = min(left, clock.quiet)
    if timeout is not None:
        return min(timeout, left)
    return left


class Backend(httpcore.NetworkBackend):
    """httpcore's own backend, with the clock held to and the open sockets known."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()
        self.streams: set[_Stream] = set()
        self._aborted = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        until = math.inf if timeout is None else time.monotonic() + timeout
        failure: Exception = httpcore.ConnectError("the host has no address")
        for address in self._resolve(host, port):
            if self._aborted:
                raise httpcore.ConnectError("stopped")
            left = _left(max(0.001, until - time.monotonic()), httpcore.ConnectTimeout)
            try:
                stream = self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return self.watch(stream)
        raise failure

    def watch(self, stream: httpcore.NetworkStream) -> httpcore.NetworkStream:
        """The stream, from now on one that an abort shuts; once aborted there are no new ones."""
        watched = _Stream(stream, self)
        self.streams.add(watched)
        if self._aborted:  # looked at after the add: an abort meanwhile has seen the stream, or is seen here
            watched.close()
            raise httpcore.ConnectError("stopped")
        return watched

    def _resolve(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(error) from error
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def abort(self) -> None:
        """Shut every open socket; whoever reads from one gets an error at once."""
        self._aborted = True
        for stream in list(self.streams):
            stream.abort()


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, backend: Backend) -> None:
        self._inner = inner
        self._backend = backend
        self._spare: socket.socket | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
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


def words_of(error: BaseException) -> str:
    """The operating system's words for it, where they are under it: what is above differs between the clients."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and not isinstance(found, ssl.SSLError) and found.errno:
            return os.strerror(found.errno) if found.errno > 0 else str(found.strerror)
        found = _under(found)
    return str(error) or type(error).__name__


def _under(error: BaseException) -> BaseException | None:
    """What an error was made of: httpcore cuts the chain of causes, and keeps the cause as an argument."""
    inner = error.args[0] if error.args else None
    return error.__cause__ or (inner if isinstance(inner, BaseException) else None)
