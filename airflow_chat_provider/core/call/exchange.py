"""One call as a conversation with whoever does the sending: no clock, no network, no chance in here.

``exchange`` yields ``Send`` and ``Sleep``; the driver answers each with a ``Result``. Synchronous and asynchronous
clients drive the same generator.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from airflow_chat_provider.core.answer.refusal import refuses_unknown_field
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.judging import judged, told
from airflow_chat_provider.core.call.retry import RetryLimits, next_delay
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import ProtocolError, TransportError
from airflow_chat_provider.core.server.scrub import Scrubber

NO_STREAM_OPTIONS = "the server refuses stream_options"
_REFUSAL = 1 << 16  # bytes of a refusal that are looked at


class Send(NamedTuple):
    """Send the request once, within ``timeout`` seconds from connect to last byte.

    ``choices``: how many it asks for.
    """

    timeout: float
    attempt: int
    content: bytes = b""
    choices: int = 1

    def __repr__(self) -> str:  # without the prompt
        return f"Send(timeout={self.timeout}, attempt={self.attempt}, {len(self.content)} bytes)"


class Sleep(NamedTuple):
    """Wait, without holding anything up."""

    seconds: float


class Received(NamedTuple):
    """One response: its bytes, or the ``body`` that a stream was put together to; its first bytes where nothing was.

    ``problem`` says why that is not all, ``doubts`` what was read otherwise than it was written. Names of headers are
    lower case.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes | bytearray
    problem: str | None = None
    body: Any = None
    doubts: tuple[str, ...] = ()

    def __repr__(self) -> str:  # without the answer
        return f"Received(status={self.status}, {len(self.content)} bytes, problem={self.problem!r})"


class Result(NamedTuple):
    """What became of a Send (None after a Sleep): a response or a TransportError, and the driver's clocks.

    ``elapsed`` is seconds since the call began, ``now`` the epoch, ``jitter`` uniform in [0, 1). ``aborted``: nothing
    more may be sent, because the call was stopped, or because a caller has got some of this answer.
    """

    outcome: Received | TransportError | None
    elapsed: float
    now: float = 0.0
    jitter: float = 0.0
    aborted: bool = False


class Call(NamedTuple):
    """What an exchange needs to know of its call.

    ``contents`` are the request's bytes, and after them those to send where the server refuses ``stream_options``.
    """

    settings: Settings
    scrub: Scrubber = Scrubber()
    contents: tuple[bytes, ...] = (b"",)
    choices: int = 1

    def __repr__(self) -> str:  # without the prompt, and the key in the settings
        return f"Call({self.settings.conn_id!r}, {sum(map(len, self.contents))} bytes)"


class Begun(NamedTuple):
    """How far a call had come before whoever drove it ended: the attempt that is due, and the seconds spent."""

    attempt: int = 1
    elapsed: float = 0.0


AFRESH = Begun()


def exchange(call: Call, begun: Begun = AFRESH) -> Generator[Send | Sleep, Result, Reply]:
    """Attempts until an answer is final; the Reply carries its error, it is not raised."""
    return told(call, (yield from _attempts(call, begun)))


def _attempts(call: Call, begun: Begun) -> Generator[Send | Sleep, Result, Reply]:
    settings = call.settings
    limits = RetryLimits(settings.max_attempts, settings.deadline)
    (attempt, elapsed), contents = begun, list(call.contents)
    while True:
        timeout = max(0.001, min(settings.timeout, settings.deadline - elapsed))
        result = yield Send(timeout, attempt, contents[0], call.choices)
        result = result._replace(elapsed=begun.elapsed + result.elapsed)
        reply = judged(result.outcome, call, result.now)
        took_less = len(contents) < len(call.contents) and 200 <= (reply.status or 0) < 300
        notes = (NO_STREAM_OPTIONS,) if took_less else ()
        reply = reply._replace(attempts=attempt, seconds=result.elapsed, notes=notes)
        if reply.error is None or result.aborted:
            return reply
        if (
            len(contents) > 1
            and _refuses_stream_options(result, reply, contents[1])
            and result.elapsed < settings.deadline
        ):
            contents.pop(0)  # a refusal costs nothing: asked again at once, and not counted
            elapsed = result.elapsed
            continue
        delay = next_delay(limits, reply.error, attempt=attempt, elapsed=result.elapsed, jitter=result.jitter)
        if delay is None:
            return reply
        waited = yield Sleep(delay)
        elapsed = begun.elapsed + waited.elapsed
        if waited.aborted or elapsed >= settings.deadline:  # slept for longer than was asked
            return reply
        attempt += 1


def _refuses_stream_options(result: Result, reply: Reply, without: bytes) -> bool:
    """Does the server refuse the field that the user never wrote? ``without``: the request as the user wrote it."""
    if not isinstance(result.outcome, Received) or result.outcome.status not in (400, 422):
        return False
    said = result.outcome.content[:_REFUSAL]
    if b"stream_options" in said or b"include_usage" in said:
        return True
    try:
        request = json.loads(without)
    except ValueError:
        request = None
    return refuses_unknown_field(reply.body, request)


def judge(outcome: Received | TransportError | None, call: Call, *, now: float) -> Reply:
    """A response or its absence as a Reply, with the error in it where there is one."""
    return told(call, judged(outcome, call, now))


def salvaged(outcome: Received | TransportError | None, error: Exception, attempts: int) -> Reply:
    """A reply whose reading failed by a fault of ours: the bytes that came are paid for, whatever they are."""
    if not isinstance(outcome, Received):
        raise error
    body = outcome.content.decode("utf-8", "replace") if outcome.body is None else outcome.body
    # Not with the error's own words, which may quote the answer.
    message = f"Look at the answer in body: this provider failed to read it ({type(error).__name__})"
    failure = ProtocolError(message, status=outcome.status, body=body)
    return Reply(outcome.status, body, outcome.headers, attempts=attempts, error=failure)
