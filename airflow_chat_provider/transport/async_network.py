"""Sockets on an event loop, for httpcore: plain asyncio, without the layer (anyio) that also serves other loops.

A request takes a third less CPU than with httpcore's own backend. There are no timeouts here: the caller cancels.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from airflow_chat_provider.core.call.attempt import TRAILERS, Head, HeadError
from airflow_chat_provider.transport.http_library import httpcore

_PIECE = 1 << 15  # bytes that one read returns at most
_WRITTEN = 1 << 18  # bytes that are written in one step
_WITHOUT_DATA = 1 << 13  # bytes that may bring nothing of the body, such as chunk sizes; only trailers are longer
_READ_AHEAD = 1 << 18  # bytes that are received before they are read; then the server has to wait
_HAPPY_EYEBALLS = 0.25  # seconds after which the host's next address is tried beside the first (RFC 8305)


class AsyncBackend(httpcore.AsyncNetworkBackend):
    """Connects streams on the running loop, and remembers the last one."""

    def __init__(self) -> None:
        self._last: Socket | None = None

    def abort(self) -> None:
        """Close the last stream now, whatever it is used for."""
        if self._last is not None:
            self._last.abort()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, stream = await loop.create_connection(Socket, host, port, happy_eyeballs_delay=_delay(host))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(error) from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(last_failure(error)) from error
        self._last = stream
        return stream


def _delay(host: str) -> float | None:
    """None for an address: there is no other to race with, and the race takes a tenth of a request's CPU."""
    try:
        ip_address(host)
    except ValueError:
        return _HAPPY_EYEBALLS
    return None


def last_failure(error: Exception) -> Exception:
    """The last of several failures, one for each address of the host: asyncio joins them into one text."""
    numbers = re.findall(r"\[Errno (\d+)\]", str(error)) if isinstance(error, OSError) and not error.errno else []
    return OSError(int(numbers[-1]), os.strerror(int(numbers[-1]))) if numbers else error


class Socket(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection, which one call at a time reads from and writes to."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._received = bytearray()
        self._over = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full = False
        self._head = Head()
        self._idle = 0  # bytes that were read since something of the body came

    # Called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > _READ_AHEAD:
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self._over = True
        _wake(self._reader)
        return not self._transport.get_extra_info("ssl_object")  # over TLS both directions end together

    def connection_lost(self, exc: Exception | None) -> None:
        self._over, self._error = True, exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._writer)

    # Called by httpcore

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._received:  # else a fast server would keep other tasks from having their turn
            await asyncio.sleep(0)
        while not self._received and not self._over:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if not self._received and self._error is not None:
            raise httpcore.ReadError(self._error) from self._error
        size = min(max_bytes, _PIECE)
        data = bytes(self._received[:size])
        del self._received[:size]
        if not self._received:
            self._transport.resume_reading()
        self._watch(data)
        return data

    def _watch(self, data: bytes) -> None:
        """Enforce limits that the HTTP library does not: a server could send headers or trailers without end."""
        if self._idle > _WITHOUT_DATA:
            raise httpcore.RemoteProtocolError(TRAILERS)
        if self._head.over:
            self._idle += len(data)
        try:
            self._head.take(data)
        except HeadError as error:
            raise httpcore.RemoteProtocolError(str(error)) from None

    def data_came(self) -> None:
        """What was read held something of the body."""
        self._idle = 0

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._head, self._idle = Head(), 0
        # In pieces: the transport copies what the socket does not take at once, and over TLS encrypts all of it in one
        # step of the loop.
        view = memoryview(buffer)
        for start in range(0, len(buffer), _WRITTEN):
            self._transport.write(view[start : start + _WRITTEN])
            while self._full and not self._over:
                self._writer = asyncio.get_running_loop().create_future()
                await self._writer
            if self._over:
                break
        if self._error is not None:
            raise httpcore.WriteError(self._error) from self._error

    def abort(self) -> None:
        """Close without waiting for what is still to be written, or for the peer: neither may ever end."""
        self._transport.close()
        self._transport.abort()

    async def aclose(self) -> None:
        self.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                transport = await loop.start_tls(self._transport, self, ssl_context, server_hostname=server_hostname)
        except TimeoutError as error:
            await self.aclose()
            raise httpcore.ConnectTimeout(error) from error
        except (OSError, ssl.SSLError) as error:
            await self.aclose()
            raise httpcore.ConnectError(error) from error
        self._transport = transport
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # an idle connection is readable only if the server has ended it
            return self._over or bool(self._received)
        return self._transport.get_extra_info(info)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
