"""One attempt as it goes: what has arrived so far, and what to say if no more comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from airflow_chat_provider.core.call.answer import Answer
from airflow_chat_provider.core.call.body import BadEncoding, Body, TooLarge, parse_body
from airflow_chat_provider.core.call.steps import Cut, Response, Send
from airflow_chat_provider.core.call.stream import EMPTY, KEPT, StreamReader
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import TransportError, TransportTimeout

_E = TypeVar("_E", bound=TransportError)
# What TLS says of bytes that are none of its own, and of a connection that ends where it should begin.
_NO_TLS = frozenset(
    f"TLS: {reason}"
    for reason in (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "HTTPS_PROXY_REQUEST",
        "UNKNOWN_PROTOCOL",
        "PACKET_LENGTH_TOO_LONG",
    )
)
_MAYBE_NO_TLS = frozenset(
    f"TLS: {reason}"
    for reason in ("UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE", "SSLEOFError", "SSLZeroReturnError")
)


class _Scheme(NamedTuple):
    """A scheme to write, and in which field; whose it is."""

    scheme: str
    field: str
    whose: str


def _if_so(hint: _Scheme | None) -> str:
    if hint is None:
        return ""
    speaks = "speaks TLS" if hint.scheme == "https://" else "speaks plain http"
    return f"; if the {hint.whose} {speaks}, write {hint.scheme} in the {hint.field}"


class Attempt:
    """Both clients feed one of these; it ends as a Response or as a TransportError that holds what had come."""

    def __init__(self, settings: Settings, send: Send) -> None:
        self._settings = settings
        self._send = send
        self._status: int | None = None
        self._headers: dict[str, str] = {}
        self._body: Body | Answer = Body(0)
        self._problem: str | None = None
        self._cut = False
        self.content = send.content
        self.sent = False
        """May the server have begun? Set by the client when the first byte of the request leaves."""
        self.connected = False
        """Has somebody taken the connection, the server or a proxy? Set by the client, as is ``tunnelled``."""
        self.tunnelled = False
        """Was a proxy asked for a tunnel?"""

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
    def _stream(self) -> StreamReader | None:
        return self._body.stream if isinstance(self._body, Answer) else None

    @property
    def streaming(self) -> bool:
        """Do chunks come, rather than a body? By the Content-Type, until the first bytes say what comes."""
        return isinstance(self._body, Answer) and self._body.streaming

    @property
    def over(self) -> bool:
        """Is the rest of the response not wanted?"""
        return self._problem is not None or (self._stream is not None and self._stream.over)

    @property
    def size(self) -> int:
        """Bytes of the response that have come, decompressed."""
        return self._stream.size if self._stream is not None else len(self._body.content())

    @property
    def pending(self) -> int:
        """Bytes of a stream's event that the next piece may complete."""
        return self._stream.pending if self._stream is not None else 0

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """Take some of the response; the chunks of a stream that it completes."""
        return [found for chunks in self.pieces(chunk) for found in chunks]

    def pieces(self, chunk: bytes) -> Iterator[list[dict[str, Any]]]:
        """``feed``, one step after the other."""
        try:
            for chunks in self._body.pieces(chunk):
                yield chunks
                if self.over:
                    return
        except TooLarge:
            self._cut = True
            self._problem = f"the response is larger than max_response_bytes ({self._settings.max_response_bytes})"
        except BadEncoding as error:
            what = "response" if self._stream is None else "stream"
            self._problem = f"the {what} is not in its Content-Encoding ({error})"

    def finish(self) -> list[dict[str, Any]]:
        """The connection has no more; the last chunks of a stream that lacks its last line break."""
        return self._body.finish() if isinstance(self._body, Answer) and self._problem is None else []

    def end(self) -> Response:
        """The response is here, or as much of it as was wanted."""
        if self._status is None:
            raise RuntimeError("the response has not begun")
        stream = self._stream
        if stream is not None:
            body, problem = stream.body(), self._problem or stream.problem
            content = bytes(stream.head) if body is None else b""
            return Response(self._status, self._headers, content, problem, body, stream.doubts)
        problem = self._problem or (None if self._body.whole else Cut("the response's compressed data was cut off"))
        if problem is None and isinstance(self._body, Answer) and self._body.blank:
            problem = EMPTY
        return Response(self._status, self._headers, self._content(), problem)

    def _content(self) -> bytes | bytearray:
        content = self._body.content() if self._stream is None else self._stream.head
        return content[:KEPT] if self._cut else content

    def failed(self, why: str) -> TransportError:
        """The connection failed: ``why`` in the words of the network."""
        base, conn_id = self._settings.base_url, self._settings.conn_id
        hint = self._other_scheme(why)
        if self._status is not None:
            todo = f"Try again: the answer of {base} (HTTP {self._status}) was cut off"
        elif self.sent:
            todo = f"Try again: the connection to {base} broke before an answer"
        elif hint is not None and why in _NO_TLS:
            who = f"the server at {base}" if hint.whose == "server" else "the proxy"
            todo, hint = (
                f"Write {hint.scheme} in the {hint.field} of connection {conn_id!r}: {who} does not speak TLS",
                None,
            )
        else:
            todo = f"Check the base URL {base} of connection {conn_id!r}, and its proxy and TLS extras"
        return self._error(TransportError, f"{todo} ({why}){_if_so(hint)}")

    def _other_scheme(self, why: str = "") -> _Scheme | None:
        """The scheme to write instead, where the server may speak the other one."""
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
        """The wall clock ran out; or ``connecting``, connect_timeout if that is less, or ``stalled``, stall_timeout."""
        base, seconds = self._settings.base_url, self._send.timeout
        if stalled:
            quiet = self._settings.stall_timeout
            text = f"Raise stall_timeout, or try again: the stream of {base} stood still for {quiet:.4g} s"
            return self._error(TransportTimeout, text)
        limit = "timeout" if seconds >= self._settings.timeout else "deadline"
        if self.sent:
            got = "no answer" if self._status is None else "no whole answer"
            text = f"Raise {limit}, or ask for fewer tokens: {got} from {base} within {seconds:.4g} s"
            return self._error(TransportTimeout, text)
        if connecting and self._settings.connect_timeout < seconds:
            limit, seconds = "connect_timeout", self._settings.connect_timeout
        text = f"Check that {base} of connection {self._settings.conn_id!r} can be reached: "
        text = f"{text}no connection within {seconds:.4g} s ({limit})"
        return self._error(TransportTimeout, text + _if_so(self._other_scheme()))

    def _error(self, cls: type[_E], message: str) -> _E:
        body = self._stream.body() if self._stream is not None else None
        content = self._content()
        if body is None and content:
            kind, limit = self._headers.get("content-type", ""), self._settings.max_response_bytes
            body = parse_body(content, kind, limit).body
        return cls(message, status=self._status, body=body, sent=self.sent)
