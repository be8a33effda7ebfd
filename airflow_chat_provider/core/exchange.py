"""One call as a conversation with whoever does the sending: no clock, no network, no chance in here.

``exchange`` yields ``Send`` and ``Sleep``; the driver answers each with a ``Result``. Synchronous and asynchronous
clients drive the same generator.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from airflow_chat_provider.core.base_url import root_hint
from airflow_chat_provider.core.body import parse_body
from airflow_chat_provider.core.errors import (
    ChatCompletionError,
    ProtocolError,
    RateLimited,
    StatusError,
    TransportError,
)
from airflow_chat_provider.core.generation import is_spoilt
from airflow_chat_provider.core.refusal import refuses_unknown_field
from airflow_chat_provider.core.response import Reply, flaw, protocol_error, unanswered_error
from airflow_chat_provider.core.retry import OVERLOADED, QUOTA, RetryLimits, is_final, next_delay, retry_after
from airflow_chat_provider.core.scrub import Scrubber
from airflow_chat_provider.core.server_error import ServerError, advice, read_error
from airflow_chat_provider.core.settings import Settings

NO_STREAM_OPTIONS = "the server refuses stream_options"
_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-ms-request-id", "cf-ray")
_LONGEST_ID = 128  # characters
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
    """One response: its bytes, or the ``body`` that a stream was put together to.

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
    return _told(call, (yield from _attempts(call, begun)))


def _attempts(call: Call, begun: Begun) -> Generator[Send | Sleep, Result, Reply]:
    settings = call.settings
    limits = RetryLimits(settings.max_attempts, settings.deadline)
    (attempt, elapsed), contents = begun, list(call.contents)
    while True:
        timeout = max(0.001, min(settings.timeout, settings.deadline - elapsed))
        result = yield Send(timeout, attempt, contents[0], call.choices)
        result = result._replace(elapsed=begun.elapsed + result.elapsed)
        reply = _judge(result.outcome, call, result.now)
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
    return _told(call, _judge(outcome, call, now))


def salvaged(outcome: Received | TransportError | None, error: Exception, attempts: int) -> Reply:
    """A reply whose reading failed by a fault of ours: the bytes that came are paid for, whatever they are."""
    if not isinstance(outcome, Received):
        raise error
    body = outcome.content.decode("utf-8", "replace") if outcome.body is None else outcome.body
    # Not with the error's own words, which may quote the answer.
    message = f"Look at the answer in body: this provider failed to read it ({type(error).__name__})"
    failure = ProtocolError(message, status=outcome.status, body=body)
    return Reply(outcome.status, body, outcome.headers, attempts=attempts, error=failure)


def _told(call: Call, reply: Reply) -> Reply:
    """The reply; its error ends with what the server says. Only the last one's: looking for quotations takes time."""
    error = reply.error
    if isinstance(error, StatusError | ProtocolError):
        said = read_error(reply.body)
        if said.message and (isinstance(error, StatusError) or _tells(reply.body)):
            error.reword(f"{error.message}: {call.scrub(said.message)}")
    return reply


def _tells(body: Any) -> bool:
    """May the body of a 2xx hold an error? Half a completion has none, and may have anything else."""
    return not isinstance(body, dict) or "error" in body or "choices" not in body


def _judge(outcome: Received | TransportError | None, call: Call, now: float) -> Reply:
    if outcome is None or isinstance(outcome, TransportError):
        error = outcome or TransportError("Nothing was sent", sent=False)
        return Reply(error.status, error.body, error=error)
    body, is_json, refused = outcome.body, True, None
    if body is None:
        kind = outcome.headers.get("content-type", "")
        limit = call.settings.max_response_bytes if 200 <= outcome.status < 300 else 0  # an error holds few values
        body, is_json, refused = parse_body(outcome.content, kind, limit)
    request_id = next((outcome.headers[name] for name in _REQUEST_IDS if name in outcome.headers), None)
    request_id = call.scrub.name(request_id)[:_LONGEST_ID] if request_id is not None else None
    reply = Reply(outcome.status, body, outcome.headers, request_id, doubts=outcome.doubts)
    if not 200 <= outcome.status < 300:
        return reply._replace(error=_status_error(reply, outcome.status, call, now))
    return reply._replace(error=_flaw(reply, call, outcome.problem or refused, is_json=is_json))


def _flaw(reply: Reply, call: Call, problem: str | None, *, is_json: bool) -> ChatCompletionError | None:
    if problem:
        message = f"Ask again or lower what is asked for: {problem}"
    else:
        why = flaw(reply.body, is_json=is_json)
        if why is None:
            return None
        if (cut := unanswered_error(reply)) is not None:
            return cut
        message = (
            f"Check that {call.settings.base_url} of connection {call.settings.conn_id!r} is a chat completions API: "
            f"HTTP {reply.status} came with {why}"
        )
        if not isinstance(reply.body, dict) and (hint := root_hint(call.settings.base_url)):
            message += f"; {hint}"
    error = protocol_error(message, reply)
    error.code = _clean(read_error(reply.body), call).code if _tells(reply.body) else None
    return error


def _clean(said: ServerError, call: Call) -> ServerError:
    """What a server said, with a code that holds no quotation."""
    return said._replace(code=call.scrub.name(said.code)) if isinstance(said.code, str) else said


def _status_error(reply: Reply, status: int, call: Call, now: float) -> StatusError:
    said = _clean(read_error(reply.body), call)
    # Not of one answer that was spoilt: another one may be better.
    final = is_final(status, said.codes, reply.headers) and not is_spoilt(said.codes, said.message)
    limited = status in OVERLOADED and not (said.codes & QUOTA)
    values: dict[str, Any] = {
        "status": status,
        "code": said.code,
        "request_id": reply.request_id,
        "retry_after": retry_after(reply.headers, status=status, now=now),
        "body": reply.body,
        "final": final,
    }
    location = reply.headers.get("location", "").partition("?")[0] if 300 <= status < 400 else ""
    location = call.scrub.name(location) if location else ""
    todo = advice(status, said, call.settings, body=reply.body, location=location)
    return (RateLimited if limited else StatusError)(todo, **values)
