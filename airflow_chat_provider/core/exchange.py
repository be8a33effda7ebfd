"""One call as a conversation with whoever does the sending: no clock, no network, no chance in here.

``exchange`` yields ``Send`` and ``Sleep``; the driver answers each with a ``Result``. Synchronous and asynchronous
clients drive the same generator.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from airflow_chat_provider.core.body import parse_body
from airflow_chat_provider.core.errors import ChatCompletionError, RateLimited, StatusError, TransportError
from airflow_chat_provider.core.response import Reply, flaw, protocol_error
from airflow_chat_provider.core.retry import OVERLOADED, QUOTA, RetryLimits, is_final, next_delay, retry_after
from airflow_chat_provider.core.scrub import Scrubber
from airflow_chat_provider.core.server_error import ServerError, advice, read_error
from airflow_chat_provider.core.settings import Settings

NO_STREAM_OPTIONS = "the server refuses stream_options"
_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-ms-request-id", "cf-ray")


class Send(NamedTuple):
    """Send the request once, within ``timeout`` seconds from connect to last byte."""

    timeout: float
    attempt: int
    content: bytes = b""


class Sleep(NamedTuple):
    """Wait, without holding anything up."""

    seconds: float


class Received(NamedTuple):
    """One response: its bytes, or the ``body`` that a stream was put together to.

    ``problem`` says why that is not all. Names of headers are lower case.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    problem: str | None = None
    body: Any = None


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


class Begun(NamedTuple):
    """How far a call had come before whoever drove it ended: the attempt that is due, and the seconds spent."""

    attempt: int = 1
    elapsed: float = 0.0


AFRESH = Begun()


def exchange(call: Call, begun: Begun = AFRESH) -> Generator[Send | Sleep, Result, Reply]:
    """Attempts until an answer is final; the Reply carries its error, it is not raised."""
    settings = call.settings
    limits = RetryLimits(settings.max_attempts, settings.deadline)
    (attempt, elapsed), contents = begun, list(call.contents)
    while True:
        result = yield Send(max(0.001, min(settings.timeout, settings.deadline - elapsed)), attempt, contents[0])
        result = result._replace(elapsed=begun.elapsed + result.elapsed)
        reply = judge(result.outcome, call, now=result.now)
        plain = len(contents) < len(call.contents)
        reply = reply._replace(attempts=attempt, seconds=result.elapsed, notes=(NO_STREAM_OPTIONS,) if plain else ())
        if reply.error is None or result.aborted:
            return reply
        if len(contents) > 1 and _refuses_stream_options(reply) and result.elapsed < settings.deadline:
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


def _refuses_stream_options(reply: Reply) -> bool:
    said = str(reply.body)
    return reply.status in (400, 422) and ("stream_options" in said or "include_usage" in said)


def judge(outcome: Received | TransportError | None, call: Call, *, now: float) -> Reply:
    """A response or its absence as a Reply, with the error in it where there is one."""
    if outcome is None or isinstance(outcome, TransportError):
        error = outcome or TransportError("Nothing was sent", sent=False)
        return Reply(error.status, error.body, error=error)
    body, is_json = outcome.body, True
    if body is None:
        body, is_json = parse_body(outcome.content, outcome.headers.get("content-type", ""))
    request_id = next((outcome.headers[name] for name in _REQUEST_IDS if name in outcome.headers), None)
    reply = Reply(outcome.status, body, outcome.headers, request_id)
    if not 200 <= outcome.status < 300:
        return reply._replace(error=_status_error(reply, outcome.status, call, now))
    return reply._replace(error=_flaw(reply, call, outcome.problem, is_json=is_json))


def _flaw(reply: Reply, call: Call, problem: str | None, *, is_json: bool) -> ChatCompletionError | None:
    if problem:
        tells = isinstance(reply.body, dict) and "error" in reply.body
        message = f"Ask again or lower what is asked for: {problem}"
    else:
        why = flaw(reply.body, is_json=is_json)
        if why is None:
            return None
        tells = is_json
        message = (
            f"Check that {call.settings.base_url} of connection {call.settings.conn_id!r} is a chat completions API: "
            f"HTTP {reply.status} came with {why}"
        )
    said = read_error(reply.body) if tells else ServerError()
    error = protocol_error(message + _quoted(said, call), reply)
    error.code = said.code
    return error


def _quoted(said: ServerError, call: Call) -> str:
    """What the server says, as the end of a message."""
    return f": {call.scrub(said.message)}" if said.message else ""


def _status_error(reply: Reply, status: int, call: Call, now: float) -> StatusError:
    said = read_error(reply.body)
    final = is_final(status, said.codes, reply.headers)
    limited = status in OVERLOADED and not (said.codes & QUOTA)
    values: dict[str, Any] = {
        "status": status,
        "code": said.code,
        "request_id": reply.request_id,
        "retry_after": retry_after(reply.headers, status=status, now=now),
        "body": reply.body,
        "final": final,
    }
    message = advice(status, said, call.settings) + _quoted(said, call)
    return (RateLimited if limited else StatusError)(message, **values)
