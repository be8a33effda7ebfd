"""One call: attempts until an answer is final. Pure: the driver has the clock, the network and the random numbers.

``exchange`` yields ``Send`` and ``Sleep``; its driver answers each with a ``Result``. The synchronous and the
asynchronous client drive the same generator.
"""

from __future__ import annotations

import json
from collections.abc import Generator

from airflow_chat_provider.core.answer.refusal import refuses_unknown_field
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.judging import judge, with_server_words
from airflow_chat_provider.core.call.steps import AFRESH, Begun, Call, Response, Result, Send, Sleep
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import ChatCompletionError, ProtocolError, StatusError, TransportError
from airflow_chat_provider.core.server.verdict import blames_answer

NO_STREAM_OPTIONS = "the server refuses stream_options"
_REFUSAL = 1 << 16  # bytes of a refusal that are looked at
_SHORTEST = 0.001  # seconds: an attempt is never made with a timeout of zero or less
_BASE, _CAP = 0.5, 60.0  # seconds of the exponential waits: they double, up to a minute


def exchange(call: Call, begun: Begun = AFRESH, *, retries: bool = True) -> Generator[Send | Sleep, Result, Reply]:
    """Attempts until an answer is final, as a Reply. Its error, if any, is in it and is not raised.

    ``begun``: go on where an earlier driver ended. ``retries=False``: one attempt, whatever comes of it; for whoever
    decides by ``next_delay`` itself when the next one is made.
    """
    settings, contents = call.settings, call.contents
    attempt, elapsed = begun
    while True:
        timeout = max(_SHORTEST, min(settings.timeout, settings.deadline - elapsed))
        result = yield Send(timeout, attempt, contents[0], call.choices)
        elapsed = begun.elapsed + result.elapsed
        reply = judge(result.outcome, call, now=result.now)
        took_less = contents is not call.contents and 200 <= (reply.status or 0) < 300
        reply = reply._replace(attempts=attempt, seconds=elapsed, notes=(NO_STREAM_OPTIONS,) if took_less else ())
        if reply.error is None:
            return reply
        if result.aborted:
            break
        if len(contents) > 1 and elapsed < settings.deadline and _refuses_stream_options(result, reply, contents[1]):
            contents = contents[1:]  # a refusal costs nothing: the next attempt is made at once, and is not counted
            continue
        delay = next_delay(settings, reply.error, attempt=attempt, elapsed=elapsed, jitter=result.jitter)
        if delay is None or not retries:
            break
        waited = yield Sleep(delay)
        elapsed = begun.elapsed + waited.elapsed
        if waited.aborted or elapsed >= settings.deadline:  # the driver slept for longer than it was asked to
            break
        attempt += 1
    return with_server_words(reply, call)


def next_delay(
    settings: Settings, error: ChatCompletionError, *, attempt: int, elapsed: float, jitter: float
) -> float | None:
    """Seconds to wait before attempt ``attempt + 1``; None if there is to be none.

    ``attempt`` counts from 1, ``elapsed`` is seconds since the first attempt began, ``jitter`` is uniform in [0, 1).
    If the server says how long to wait (``retry_after``), it is exactly that; else it grows exponentially, with full
    jitter. A wait that would end after the deadline is not made: ``error.retry_after`` tells whoever can wait longer.
    """
    if isinstance(error, ProtocolError):
        may_pass = error.broken
    else:
        may_pass = isinstance(error, StatusError | TransportError) and not error.final
    if attempt >= settings.max_attempts or not may_pass:
        return None
    if isinstance(error, StatusError) and blames_answer(error.status, error.code, error.message):
        return None  # the request was answered: a dialogue asks again, and tells the model what is wrong
    # The exponent is limited: 2 ** 5000 is too large for a float.
    delay = error.retry_after or jitter * min(_CAP, _BASE * 2 ** min(attempt, 20))
    return delay if elapsed + delay < settings.deadline else None


def _refuses_stream_options(result: Result, reply: Reply, without: bytes) -> bool:
    """Does the server refuse the field that the user never wrote? ``without``: the request as the user wrote it."""
    if not isinstance(result.outcome, Response) or result.outcome.status not in (400, 422):
        return False
    said = result.outcome.content[:_REFUSAL]
    if b"stream_options" in said or b"include_usage" in said:
        return True
    try:
        request = json.loads(without)
    except ValueError:
        request = None
    return refuses_unknown_field(reply.body, request)


def salvaged(outcome: Response | TransportError | None, error: Exception, attempts: int) -> Reply:
    """The Reply of an answer that a mistake in this package kept from being read; raises ``error`` if none came.

    The bytes that came are paid for, whatever they are, so they are the body.
    """
    if not isinstance(outcome, Response):
        raise error
    body = outcome.content.decode("utf-8", "replace") if outcome.body is None else outcome.body
    # Without the words of ``error``, which may quote the answer.
    message = f"Look at the answer in body: this provider failed to read it ({type(error).__name__})"
    failure = ProtocolError(message, status=outcome.status, body=body)
    return Reply(outcome.status, body, outcome.headers, attempts=attempts, error=failure)
