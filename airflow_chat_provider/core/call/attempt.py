"""One attempt: what has arrived of its response, and what to tell the user if no more comes.

``Head`` limits what comes before a response's body: HTTP and its libraries set no limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

from airflow_chat_provider.core.call.body import Answer, BadEncoding, Body, TooLarge, parse_body
from airflow_chat_provider.core.call.steps import Cut, Response, Send
from airflow_chat_provider.core.call.stream import EMPTY, KEPT
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import TransportError, TransportTimeout
from airflow_chat_provider.core.types import JSONObject

_LONGEST = 1 << 16  # bytes: what large gateways allow
_LINES = 1000  # each takes an HTTP library a few microseconds
_INTERIM = 16  # responses with a status of 1xx; servers send one or two
_END = re.compile(rb"\n\r?\n")
_IS_INTERIM = re.compile(rb"HTTP/\d\.\d 1(?!01)\d\d")
TOO_LONG = "the response's headers are too long"
TOO_MANY = "the response has too many headers"
TOO_OFTEN = "the server sends too many interim responses (1xx)"
TRAILERS = "too many headers follow the response's body"


class HeadError(Exception):
    """The response is not worth reading on. The text is one of those above."""


class Head:
    """``take`` all bytes that come once a request is sent; raises HeadError. ``over``: the body has begun."""

    def __init__(self) -> None:
        self._seen = bytearray()
        self._interim = 0
        self.over = False

    def take(self, data: bytes) -> None:
        if self.over:
            return
        at = max(0, len(self._seen) - 2)
        self._seen += data
        while (end := _END.search(self._seen, at)) is not None:
            self._check(self._seen[: end.end()])
            if not _IS_INTERIM.match(self._seen):
                self.over, self._seen = True, bytearray()
                return
            self._interim += 1
            if self._interim > _INTERIM:
                raise HeadError(TOO_OFTEN)
            del self._seen[: end.end()]
            at = 0
        self._check(self._seen)

    def _check(self, head: bytearray) -> None:
        if len(head) > _LONGEST:
            raise HeadError(TOO_LONG)
        if head.count(b"\n") > _LINES:
            raise HeadError(TOO_MANY)


_E = TypeVar("_E", bound=TransportError)
_NO_BODY = Body(0)  # before the response begins
# What OpenSSL says of bytes that are not TLS at all, and of a connection that ends where TLS should begin.
_REASONS = "WRONG_VERSION_NUMBER HTTP_REQUEST HTTPS_PROXY_REQUEST UNKNOWN_PROTOCOL PACKET_LENGTH_TOO_LONG"
_NO_TLS = frozenset(f"TLS: {reason}" for reason in _REASONS.split())
_MAYBE = "UNEXPECTED_EOF_WHILE_READING RECORD_LAYER_FAILURE SSLEOFError SSLZeroReturnError"
_MAYBE_NO_TLS = frozenset(f"TLS: {reason}" for reason in _MAYBE.split())


class _Scheme(NamedTuple):
    """A URL's scheme to write instead, the field to write it in, and whether that is the server's or the proxy's."""

    scheme: str
    field: str
    whose: str


def _if_so(other: _Scheme | None) -> str:
    if other is None:
        return ""
    speaks = "speaks TLS" if other.scheme == "https://" else "speaks plain http"
    return f"; if the {other.whose} {speaks}, write {other.scheme} in the {other.field}"


class Attempt:
    """Both clients feed one of these. It ends as a Response, or as a TransportError that holds what had come.

    The client sets ``sent`` when the first byte of the request leaves: from then on the server may have begun.
    It sets ``connected`` when the server or a proxy takes the connection, and ``tunnelled`` when a proxy is asked for a
    tunnel.
    """

    def __init__(self, settings: Settings, send: Send) -> None:
        self.content = send.content
        self.sent = self.connected = self.tunnelled = False
        self._settings = settings
        self._send = send
        self._status: int | None = None
        self._headers: dict[str, str] = {}
        self._body = _NO_BODY
        self._problem: str | None = None
        self._cut = False  # is the response too large to be kept?

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The response line and headers are here."""
        self._status = status
        self._headers = {name.lower(): value for name, value in headers.items()}
        limit, encoding = self._settings.max_response_bytes, self._headers.get("content-encoding", "")
        if 200 <= status < 300:
            declared = "text/event-stream" in self._headers.get("content-type", "").lower()
            self._body = Answer(limit, encoding, self._send.choices, declared=declared)
        else:
            self._body = Body(limit, encoding)

    @property
    def streaming(self) -> bool:
        """Do chunks come, rather than a document? The Content-Type decides until the first bytes tell what comes."""
        return self._body.streaming

    @property
    def over(self) -> bool:
        """Is the rest of the response not wanted?"""
        stream = self._body.stream
        return self._problem is not None or (stream is not None and stream.over)

    @property
    def size(self) -> int:
        """Bytes of the response that have come, decompressed."""
        stream = self._body.stream
        return len(self._body.data) if stream is None else stream.size

    @property
    def pending(self) -> int:
        """Bytes of a stream's event that the next piece may complete."""
        stream = self._body.stream
        return 0 if stream is None else stream.pending

    def pieces(self, chunk: bytes) -> Iterator[list[JSONObject]]:
        """Take some of the response, one step after the other; gives the chunks of a stream that each completes."""
        try:
            for chunks in self._body.pieces(chunk):
                yield chunks
                if self.over:
                    return
        except TooLarge:
            self._cut = True
            self._problem = f"the response is larger than max_response_bytes ({self._settings.max_response_bytes})"
        except BadEncoding as error:
            what = "response" if self._body.stream is None else "stream"
            self._problem = f"the {what} is not encoded as its Content-Encoding says ({error})"

    def finish(self) -> list[JSONObject]:
        """The connection has no more: the last chunks of a stream that lacks its last line break."""
        return self._body.finish() if self._problem is None else []

    def end(self) -> Response:
        """The response is here, or as much of it as was wanted."""
        if self._status is None:
            raise RuntimeError("the response has not begun")
        stream, problem = self._body.stream, self._problem
        if stream is not None:
            body = stream.body()
            content = bytes(stream.head) if body is None else b""
            return Response(self._status, self._headers, content, problem or stream.problem, body, stream.doubts)
        if problem is None and not self._body.whole:
            problem = Cut("the response's compressed data was cut off")
        if problem is None and self._body.blank:
            problem = EMPTY
        return Response(self._status, self._headers, self._content(), problem)

    def _content(self) -> bytes | bytearray:
        content = self._body.data if self._body.stream is None else self._body.stream.head
        return content[:KEPT] if self._cut else content

    def failed(self, why: str) -> TransportError:
        """The connection failed. ``why`` is in the words of the network, with "TLS: " before a reason of OpenSSL's."""
        base, conn_id = self._settings.base_url, self._settings.conn_id
        other = self._other_scheme(why)
        if self._status is not None:
            todo, came = "Try again", f"the answer (HTTP {self._status}) was cut off ({why}), from {base}"
        elif self.sent:
            todo, came = "Try again", f"the connection broke ({why}) before an answer came from {base}"
        elif other is not None and why in _NO_TLS:
            todo, came = f"Write {other.scheme} in the {other.field}", f"the {other.whose} does not speak TLS ({why})"
            return self._error(TransportError, todo, f"{came}; connection {conn_id!r}, {base}")
        else:
            todo = "Check the base URL, proxy and TLS extras"
            came = f"no connection ({why}) to {base} of connection {conn_id!r}"
        return self._error(TransportError, todo, came + _if_so(other))

    def _other_scheme(self, why: str = "") -> _Scheme | None:
        """The scheme to write instead, if the server or the proxy may speak the other one."""
        secure, proxy = self._settings.base_url.startswith("https:"), self._settings.proxy or ""
        if self._status is not None:
            return None
        if self.sent:
            return None if secure else _Scheme("https://", "base URL (host)", "server")
        if not self.connected or (why.startswith("TLS: ") and why not in _NO_TLS | _MAYBE_NO_TLS):
            return None
        if proxy.startswith("https:") and not self.tunnelled:
            return _Scheme("http://", "extra 'proxy'", "proxy")
        return _Scheme("http://", "base URL (host)", "server") if secure else None

    def timed_out(self, *, connecting: bool = False, stalled: bool = False) -> TransportTimeout:
        """The wall clock ran out.

        ``connecting``: it may have been connect_timeout, if that is the shorter one. ``stalled``: it was stall_timeout.
        """
        base, conn_id, seconds = self._settings.base_url, self._settings.conn_id, self._send.timeout
        if stalled:
            came = f"the stream sent nothing for {self._settings.stall_timeout:.4g} s, from {base}"
            return self._error(TransportTimeout, "Raise stall_timeout, or try again", came)
        limit = "timeout" if seconds >= self._settings.timeout else "deadline"
        if self.sent:
            got = "no answer" if self._status is None else "no complete answer"
            todo, came = f"Raise {limit}, or ask for fewer tokens", f"{got} within {seconds:.4g} s from {base}"
            return self._error(TransportTimeout, todo, came)
        if connecting and self._settings.connect_timeout < seconds:
            limit, seconds = "connect_timeout", self._settings.connect_timeout
        came = f"no connection within {seconds:.4g} s ({limit}) to {base} of connection {conn_id!r}"
        todo = "Check that the server can be reached"
        return self._error(TransportTimeout, todo, came + _if_so(self._other_scheme()))

    def _error(self, cls: type[_E], todo: str, why: str) -> _E:
        body = self._body.stream.body() if self._body.stream is not None else None
        content = self._content()
        if body is None and content:
            kind, limit = self._headers.get("content-type", ""), self._settings.max_response_bytes
            body = parse_body(content, kind, limit).body
        error = cls(f"{todo}: {why}", status=self._status, body=body, sent=self.sent)
        error.why = why
        return error
