"""What an exchange and its driver tell each other: the steps to make, what became of them, and the call itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import ChatCompletionError, TransportError
from airflow_chat_provider.core.server.scrub import Scrubber
from airflow_chat_provider.core.types import JSON, JSONObject


class Cut(str):
    """A ``problem`` that the next attempt may not have: the answer ended early, or never began.

    A problem that is a plain ``str`` lies in the answer itself: it is too large, or in a form that is not read here.
    """

    __slots__ = ()


class Send(NamedTuple):
    """Make one attempt: POST ``content``, with ``timeout`` seconds from connecting to the last byte.

    ``attempt`` counts from 1. ``choices``: how many the request asks for.
    """

    timeout: float
    attempt: int
    content: bytes = b""
    choices: int = 1

    def __repr__(self) -> str:  # without the prompt
        return f"Send(timeout={self.timeout}, attempt={self.attempt}, {len(self.content)} bytes)"


class Sleep(NamedTuple):
    """Wait, without holding anything up. ``error`` is that of the attempt before, whose number is ``attempt``."""

    seconds: float
    attempt: int
    error: ChatCompletionError


class Response(NamedTuple):
    """What an attempt brought: the bytes of a document, or the ``body`` that a stream's chunks were assembled into.

    ``headers`` have names in lower case. ``content`` of a stream is empty, or its first bytes where no chunk could be
    read. ``problem`` says why the answer is not complete. ``doubts`` are sentences about what was read otherwise than
    it was written; they quote nothing.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes | bytearray
    problem: str | None = None
    body: JSON = None
    doubts: tuple[str, ...] = ()

    def __repr__(self) -> str:  # without the answer
        return f"Response(status={self.status}, {len(self.content)} bytes, problem={self.problem!r})"


class Result(NamedTuple):
    """What became of a step, with the driver's clocks: the exchange has none of its own.

    ``outcome`` is None after a Sleep. ``elapsed`` is seconds since the driver began, ``now`` epoch seconds, ``jitter``
    uniform in [0, 1). ``aborted``: make no further attempt, because the call was stopped, or because a caller has
    already got some of this answer.
    """

    outcome: Response | TransportError | None
    elapsed: float
    now: float = 0.0
    jitter: float = 0.0
    aborted: bool = False


class Begun(NamedTuple):
    """How far a call had come when its earlier driver ended: the attempt that is due, and the seconds spent."""

    attempt: int = 1
    elapsed: float = 0.0


AFRESH = Begun()


@dataclass(frozen=True, eq=False, repr=False)
class Call:
    """What an exchange needs to know of its call.

    ``contents`` holds the request's bytes, and after them those to send if the server refuses ``stream_options``.
    ``choices``: how many the request asks for. ``request``: what error messages must not quote. ``attached``: the
    bytes of its files that are text.
    """

    settings: Settings
    contents: tuple[bytes, ...] = (b"",)
    choices: int = 1
    request: JSONObject | None = None
    attached: int = 0

    @cached_property
    def scrub(self) -> Scrubber:
        """Blanks secrets and quotations of the request. Most calls need none, so it is made on demand."""
        return Scrubber(self.request, self.settings.secrets)

    def __repr__(self) -> str:  # without the prompt, and the key in the settings
        return f"Call({self.settings.conn_id!r}, {sum(map(len, self.contents))} bytes)"
