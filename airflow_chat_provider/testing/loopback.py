"""Sockets on loopback for the test servers: accept, read HTTP/1.1 requests, send exact bytes, stop at once.

It uses no HTTP library, because a test must be able to send what no library would send.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import select
import socket
import ssl
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

MAX_SECONDS = 120.0
"""Nothing here waits or blocks for longer than this, even if a test forgets to close something."""
_NO_FILE_LEFT = (errno.EMFILE, errno.ENFILE)


class PeerGoneError(Exception):
    """The other side closed the connection, or the server is being stopped."""


class Headers(Mapping[str, str]):
    """Headers by name, in upper or lower case. The values of a repeated header are joined with a comma."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            self._values[key] = f"{self._values[key]}, {value}" if key in self._values else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({self._values!r})"


@dataclass(frozen=True)
class Received:
    """One request as it came. Requests on one kept-alive connection have the same `connection_id`."""

    method: str
    target: str
    headers: Headers
    body: bytes
    connection_id: int
    received_at: float

    @cached_property
    def path(self) -> str:
        return urlsplit(self.target).path

    @cached_property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @cached_property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def wants_close(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


class Wire:
    """One accepted connection. Its methods raise PeerGoneError once the client has closed it."""

    def __init__(self, sock: socket.socket, connection_id: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(MAX_SECONDS)
        self.sock = sock
        self.connection_id = connection_id
        self._buffer = bytearray()

    def handshake(self) -> None:
        if isinstance(self.sock, ssl.SSLSocket):
            with _gone_on_error():
                self.sock.do_handshake()

    def read_request(self) -> Received | None:
        """The next request; None if the client closed the connection before it was complete."""
        try:
            head = self.read_head()
            return replace(head, body=b"".join(self.body(head.headers)), received_at=time.monotonic())
        except PeerGoneError:
            return None

    def read_head(self) -> Received:
        """The next request without its body, which `body` reads."""
        start, *lines = self._read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        method, target, _version = start.split(" ")
        headers = Headers((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        return Received(method, target, headers, b"", self.connection_id, time.monotonic())

    def body(self, headers: Headers) -> Iterator[bytes]:
        """The body after this head, in pieces as they come."""
        if headers.get("transfer-encoding", "").lower() != "chunked":
            yield from self._pieces(int(headers.get("content-length", 0)))
            return
        while size := int(self._read_until(b"\r\n"), 16):
            yield from self._pieces(size)
            self._read_exactly(2)
        self._read_until(b"\r\n")  # no client here sends trailers

    def send(self, data: bytes) -> None:
        with _gone_on_error():
            self.sock.sendall(data)

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + min(seconds, MAX_SECONDS)
        poll = select.poll()  # select() cannot watch descriptors over 1023, which large tests reach
        poll.register(self.sock, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(left * 1000):
                self._pull()

    def take_unread(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def reset(self) -> None:
        """Close with a reset (RST) instead of FIN."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.interrupt()  # close() alone sends no FIN while a forked process holds the descriptor too
        self.sock.close()

    def interrupt(self) -> None:
        """Make the method that is running in another thread raise PeerGoneError."""
        with contextlib.suppress(OSError):
            # not SSLSocket.shutdown, which drops the TLS state that the other thread is using
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def _pull(self) -> None:
        with _gone_on_error():
            data = self.sock.recv(262_144)
        if not data:
            raise PeerGoneError
        self._buffer += data

    def _read_until(self, mark: bytes) -> bytes:
        while (end := self._buffer.find(mark)) < 0:
            self._pull()
        found = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        return found

    def _read_exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._pull()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _pieces(self, left: int) -> Iterator[bytes]:
        while left > 0:
            if not self._buffer:
                self._pull()
            piece = bytes(self._buffer[:left])
            del self._buffer[:left]
            left -= len(piece)
            yield piece


class Listener(ABC):
    """A context manager that serves each connection in a thread of its own, and closes them all when it is left.

    It then raises what a connection's thread has raised, like an assertion in a scripted reply.
    """

    def __init__(self, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.failures: list[Exception] = []
        self._tls = tls
        self._stopping = threading.Event()
        self._news = threading.Condition()
        self._open: dict[Wire, threading.Thread] = {}

    @abstractmethod
    def handle(self, wire: Wire) -> None:
        """Serve one connection, in its own thread; it is closed on return."""

    def wait_all_closed(self, timeout: float = 5.0, *, but: int = 0) -> bool:
        """Wait until at most ``but`` connections are open, kept-alive ones included; False after the timeout."""
        with self._news:
            return self._news.wait_for(lambda: len(self._open) <= but, timeout)

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = self._listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name=f"listener-{self.port}", daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for failure in self.failures:
            if error is None:
                raise failure
            error.add_note(f"The test server failed too: {failure!r}")

    def stop(self) -> None:
        """Close the port and all connections, and wait for their threads. It may be called twice."""
        if not self._stopping.is_set():
            self._stopping.set()
            with contextlib.suppress(OSError):  # closing a socket does not wake accept(), a connection does
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            self._accepting.join()
            self._listening.close()
        with self._news:
            threads = list(self._open.values())
            for wire in self._open:
                wire.interrupt()
        for thread in threads:
            thread.join(timeout=10)

    def _accept(self) -> None:
        for connection_id in itertools.count(1):
            try:
                sock, _address = self._listening.accept()
            except OSError as error:
                if error.errno in _NO_FILE_LEFT:  # also while nobody wants to connect
                    self._stopping.wait(0.05)
                    if not self._stopping.is_set():
                        continue
                    return
                self.failures.append(error)
                return
            if self._stopping.is_set():
                sock.close()
                return
            self._start(sock, connection_id)

    def _start(self, sock: socket.socket, connection_id: int) -> None:
        if self._tls is not None:
            try:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            except OSError:  # gone before its turn came
                sock.close()
                return
        wire = Wire(sock, connection_id)
        thread = threading.Thread(target=self._serve, args=(wire,), name=f"connection-{connection_id}", daemon=True)
        with self._news:
            self._open[wire] = thread
            thread.start()

    def _serve(self, wire: Wire) -> None:
        try:
            wire.handshake()
            self.handle(wire)
        except PeerGoneError:
            pass
        except Exception as error:  # noqa: BLE001 - raised again in the test's thread
            self.failures.append(error)
        finally:
            with self._news:  # so that stop() never touches a descriptor that was closed and given away
                del self._open[wire]
                wire.close()
                self._news.notify_all()


@contextlib.contextmanager
def _gone_on_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PeerGoneError from error
