"""One attempt as it goes: what has arrived so far, and what to say if no more comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from airflow_chat_provider.core.body import BadEncoding, Body, TooLarge, parse_body
from airflow_chat_provider.core.errors import TransportError, TransportTimeout
from airflow_chat_provider.core.exchange import Received, Send
from airflow_chat_provider.core.settings import Settings

_E = TypeVar("_E", bound=TransportError)
_KEPT_OF_TOO_LARGE = 1 << 20  # enough to see what it was


class Attempt:
    """Both clients feed one of these; it ends as a Received or as a TransportError that holds what had come."""

    def __init__(self, settings: Settings, send: Send) -> None:
        self._settings = settings
        self._send = send
        self._status: int | None = None
        self._headers: dict[str, str] = {}
        self._body = Body(0)
        self._problem: str | None = None

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The response line and headers are here."""
        self._status = status
        self._headers = {name.lower(): value for name, value in headers.items()}
        self._body = Body(self._settings.max_response_bytes, self._headers.get("content-encoding", ""))

    def feed(self, chunk: bytes) -> bool:
        """Take some of the body; False where the rest is not wanted."""
        try:
            self._body.feed(chunk)
        except TooLarge:
            self._problem = f"the response is larger than max_response_bytes ({self._settings.max_response_bytes})"
        except BadEncoding as error:
            self._problem = f"the response is not in its Content-Encoding ({str(error)[:40]})"
        return self._problem is None

    def end(self) -> Received:
        """The response is here, or as much of it as was wanted."""
        if self._status is None:
            raise RuntimeError("the response has not begun")
        problem = self._problem or (None if self._body.whole else "the response's compressed data was cut off")
        return Received(self._status, self._headers, self._content(), problem)

    def _content(self) -> bytes:
        content = self._body.content()
        return content[:_KEPT_OF_TOO_LARGE] if len(content) >= self._settings.max_response_bytes else content

    def failed(self, why: str, *, sent: bool) -> TransportError:
        """The connection failed: ``why`` in the words of the network, ``sent`` if the server may have begun."""
        base = self._settings.base_url
        if self._status is not None:
            todo = f"Try again: the answer of {base} (HTTP {self._status}) was cut off"
        elif sent:
            todo = f"Try again: the connection to {base} broke before an answer"
        else:
            todo = f"Check the base URL {base} of connection {self._settings.conn_id!r}, and its proxy and TLS extras"
        return self._error(TransportError, f"{todo} ({why})", sent=sent)

    def timed_out(self) -> TransportTimeout:
        """The wall clock of the attempt ran out."""
        limit = "timeout" if self._send.timeout >= self._settings.timeout else "what was left of deadline"
        got = "no answer" if self._status is None else "no whole answer"
        text = f"Raise {limit}, or ask for fewer tokens: {got} from {self._settings.base_url} "
        return self._error(TransportTimeout, f"{text}within {self._send.timeout:.4g} s", sent=True)

    def no_connection(self) -> TransportTimeout:
        """connect_timeout ran out."""
        text = f"Check that {self._settings.base_url} of connection {self._settings.conn_id!r} can be reached: "
        text += f"no connection within {self._settings.connect_timeout:g} s (connect_timeout)"
        return self._error(TransportTimeout, text, sent=False)

    def _error(self, cls: type[_E], message: str, *, sent: bool) -> _E:
        content = self._content()
        body = parse_body(content, self._headers.get("content-type", ""))[0] if content else None
        return cls(message, status=self._status, body=body, sent=sent)
