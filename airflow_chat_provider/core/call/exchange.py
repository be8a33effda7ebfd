"""One call: attempts until an answer is final, and the judgement of each. The driver has clock, network and chance.

``exchange`` yields ``Send`` and ``Sleep``; its driver answers each with a ``Result``. The synchronous and the
asynchronous client drive the same generator.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping

from airflow_chat_provider.core.answer.refusal import refuses_unknown_field
from airflow_chat_provider.core.answer.reply import Reply, flaw, unanswered_error
from airflow_chat_provider.core.answer.usage import with_attempt
from airflow_chat_provider.core.call.body import parse_body
from airflow_chat_provider.core.call.steps import AFRESH, Begun, Call, Cut, Response, Result, Send, Sleep
from airflow_chat_provider.core.connection.settings import Settings, root_hint
from airflow_chat_provider.core.errors import (
    ChatCompletionError,
    ProtocolError,
    RateLimited,
    StatusError,
    TransportError,
)
from airflow_chat_provider.core.server.error_body import ServerError, holds_error, read_error
from airflow_chat_provider.core.server.remedy import advice, what_came
from airflow_chat_provider.core.server.verdict import Words, blames_answer, is_spoilt, why_final
from airflow_chat_provider.core.server.waits import retry_after
from airflow_chat_provider.core.types import JSON

NO_STREAM_OPTIONS = "the server refuses stream_options"
_QUICK = 1 << 17  # bytes of a request in which quotations are found in a few milliseconds, after each attempt
_REFUSAL = 1 << 16  # bytes of a refusal that are looked at
_SHORTEST = 0.001  # seconds: an attempt is never made with a timeout of zero or less
_BASE, _CAP = 0.5, 60.0  # seconds of the exponential waits: they double, up to a minute


def exchange(call: Call, begun: Begun = AFRESH, *, retries: bool = True) -> Generator[Send | Sleep, Result, Reply]:
    """Attempts until an answer is final, as a Reply. Its error, if any, is in it and is not raised.

    ``begun``: go on where an earlier driver ended. ``retries=False``: one attempt, whatever comes of it; for whoever
    decides by ``next_delay`` itself when the next one is made.
    """
    settings, contents, earlier = call.settings, call.contents, tuple[Reply, ...]()
    attempt, elapsed = begun
    while True:
        timeout = max(_SHORTEST, min(settings.timeout, settings.deadline - elapsed))
        result = yield Send(timeout, attempt, contents[0], call.choices)
        elapsed = begun.elapsed + result.elapsed
        reply = judge(result.outcome, call, now=result.now)
        took_less = contents is not call.contents and 200 <= (reply.status or 0) < 300
        notes = (NO_STREAM_OPTIONS,) if took_less else ()
        reply = reply._replace(attempts=attempt, seconds=elapsed, notes=notes, earlier=earlier)
        if reply.error is None:
            return reply
        if result.aborted:
            break
        if len(contents) > 1 and elapsed < settings.deadline and _refuses_stream_options(result, reply, call):
            contents = contents[1:]  # a refusal costs nothing: the next attempt is made at once, and is not counted
            continue
        delay = next_delay(settings, reply.error, attempt=attempt, elapsed=elapsed, jitter=result.jitter)
        if delay is None or not retries:
            break
        if len(contents[0]) < _QUICK:
            with_server_words(reply, call)
        waited = yield Sleep(delay, attempt, reply.error)
        elapsed = begun.elapsed + waited.elapsed
        if waited.aborted or elapsed >= settings.deadline:  # the driver slept for longer than it was asked to
            break
        attempt, earlier = attempt + 1, with_attempt(earlier, reply)
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


def _refuses_stream_options(result: Result, reply: Reply, call: Call) -> bool:
    """Does the server refuse the field that the user never wrote?"""
    if not isinstance(result.outcome, Response) or result.outcome.status not in (400, 422):
        return False
    said = result.outcome.content[:_REFUSAL]
    if b"stream_options" in said or b"include_usage" in said:
        return True
    return refuses_unknown_field(reply.body, call.request or {})


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


_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-ms-request-id", "cf-ray")
_LONGEST_ID = 128  # characters
_RETRYABLE = frozenset({408, 409, 425, 429, 498})  # and all from 500 on
_OVERLOADED = frozenset({429, 498, 503, 529})
_ERROR_LIMIT = 0  # of an error's JSON, as a max_response_bytes: an error holds few values


def judge(outcome: Response | TransportError | None, call: Call, *, now: float) -> Reply:
    """What one attempt brought, as a Reply with the error in it. ``now`` is epoch seconds.

    The error does not quote the server yet: see ``with_server_words``.
    """
    if outcome is None or isinstance(outcome, TransportError):
        error = outcome or TransportError("Nothing was sent", sent=False)
        return Reply(error.status, error.body, error=error)
    status, headers, ok = outcome.status, outcome.headers, 200 <= outcome.status < 300
    body, is_json, problem = outcome.body, True, outcome.problem
    if body is None:
        limit = call.settings.max_response_bytes if ok else _ERROR_LIMIT
        body, is_json, refused = parse_body(outcome.content, headers.get("content-type", ""), limit)
        problem = problem or refused
    request_id = next((headers[name] for name in _REQUEST_IDS if name in headers), None)
    if request_id is not None:
        request_id = call.scrub.name(request_id)[:_LONGEST_ID]
    reply = Reply(status, body, headers, request_id, doubts=outcome.doubts)
    if not ok:
        return reply._replace(error=_status_error(reply, call, now))
    if holds_error(body):
        return reply._replace(error=_held_error(reply, problem, call, now))
    if problem:
        todo, broken = "Try again, or ask for a shorter answer", isinstance(problem, Cut)
        return reply._replace(error=_protocol_error(todo, problem, reply, broken=broken))
    why = flaw(body, is_json=is_json)
    if why is None:
        return reply
    return reply._replace(error=_flaw_error(why, reply, call, is_json=is_json, is_stream=outcome.body is not None))


def with_server_words(reply: Reply, call: Call) -> Reply:
    """The same Reply, whose error now ends with what the server says, without secrets and quotations of the request.

    Done for the last attempt of a call, and for the others if that is quick: looking for quotations takes time.
    """
    error = reply.error
    if isinstance(error, StatusError) or (isinstance(error, ProtocolError) and _may_hold_error(reply.body)):
        said = read_error(reply.body)
        if said.message:
            words = call.scrub(said.message)
            error.reword(f"{error.message}: {words}")
            error.why = f"{error.why}: {words}" if error.why else ""
    return reply


def concerns_all(error: ChatCompletionError, call: Call) -> bool:
    """Would every other request over this connection be refused, too, because of the key, the bill or the quota?"""
    if not isinstance(error, StatusError) or error.status is None:
        return False
    said = read_error(error.body)
    status = _judged_status(error.status, said)
    if status in (401, 402, 407):
        return True
    words = Words(said.message, call.scrub)
    return error.final and why_final(status, said.codes, words, error.retry_after) == "account"


def is_final(status: int, headers: Mapping[str, str], *, hopeless: bool = False) -> bool:
    """Would the same request be refused again? ``hopeless``: the server's words say so, see ``why_final``."""
    told = _should_retry(headers)
    if told is not None:
        return not told
    return hopeless or (status < 500 and status not in _RETRYABLE)


def _should_retry(headers: Mapping[str, str]) -> bool | None:
    """What the server says itself, in a header that OpenAI's own clients obey; None if it says nothing."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def _may_hold_error(body: JSON) -> bool:
    """May the body of a 2xx hold an error? Half a completion does not, and may hold anything else; so may a text."""
    return holds_error(body) or (isinstance(body, dict) and not body.get("choices"))


def _held_error(reply: Reply, problem: str | None, call: Call, now: float) -> ChatCompletionError:
    """The error that a 2xx holds. If its code is known, it is judged as the status that the code stands for."""
    said = read_error(reply.body)
    words = Words(said.message, call.scrub)
    if said.status is not None or why_final(reply.status or 0, said.codes, words, None):
        return _status_error(reply, call, now)
    if problem:
        todo, why = "Try again, or ask for a shorter answer", problem
    else:
        where = "beside" if isinstance(reply.body, dict) and reply.body.get("choices") else "instead of"
        todo = "Read what the server says, then try again later"
        why = f"HTTP {reply.status} came with an error {where} a completion"
    error = _protocol_error(todo, why, reply, broken=isinstance(problem, Cut))
    error.code = _clean(said, call).code
    return error


def _flaw_error(why: str, reply: Reply, call: Call, *, is_json: bool, is_stream: bool) -> ChatCompletionError:
    """The error of a 2xx that is not a completion; ``why`` is from ``flaw``."""
    if (unanswered := unanswered_error(reply)) is not None:
        return unanswered
    base, came, body = call.settings.base_url, f"HTTP {reply.status} came with", reply.body
    if isinstance(body, dict) and "choices" in body:
        # Of a stream, all chunks came, and the last one says that the answer broke: the next attempt may bring it.
        broken = is_stream and bool(body["choices"])
        return _protocol_error("Look at the answer in body, then try again", f"{came} {why}", reply, broken=broken)
    cut = None if is_json else _cut(reply)
    if cut is not None:
        todo, why = "Try again", f"{came} {cut}; the server at {base}, or a gateway in front of it, gave up"
    else:
        todo = "Check the base URL"
        why = f"{came} {why}; {base} of connection {call.settings.conn_id!r} may not be a chat completions API"
    if not isinstance(body, dict) and (hint := root_hint(base)):
        why += f"; {hint}"
    error = _protocol_error(todo, why, reply, broken=cut is not None)
    error.code = _clean(read_error(body), call).code if _may_hold_error(body) else None
    return error


def _cut(reply: Reply) -> str | None:
    """What came of an answer that ended early, or never began; None for another text, and for a 204, which is empty."""
    text = reply.body.strip() if isinstance(reply.body, str) else ""
    if text:
        return "JSON that was cut off" if text.startswith("{") and not text.endswith("}") else None
    if reply.status == 204:
        return None
    return "nothing but blank lines" if reply.body else "an empty body"


def _protocol_error(todo: str, why: str, reply: Reply, *, broken: bool) -> ProtocolError:
    error = reply.as_error(ProtocolError, f"{todo}: {why}")
    error.why = why
    error.broken = broken and _should_retry(reply.headers) is not False
    return error


def _clean(said: ServerError, call: Call) -> ServerError:
    """What a server said, with a code that quotes nothing."""
    return said._replace(code=call.scrub.name(said.code)) if isinstance(said.code, str) else said


def _judged_status(status: int, said: ServerError) -> int:
    """The status itself, or for a 2xx that holds an error the status that its code stands for."""
    if not 200 <= status < 300:
        return status
    return said.status if said.status is not None else 402  # no code is known: its words speak of money


def _status_error(reply: Reply, call: Call, now: float) -> StatusError:
    """The error of a status from 300 on, or of a 2xx that holds an error with a known code."""
    status = reply.status or 0
    said = _clean(read_error(reply.body), call)
    judged = _judged_status(status, said)
    words = Words(said.message, call.scrub)
    passes = judged >= 500 or judged in _RETRYABLE
    wait = retry_after(
        reply.headers, status=judged, now=now, body=reply.body if passes else None, words=words if passes else None
    )
    reason = why_final(judged, said.codes, words, wait)
    location = reply.headers.get("location", "").partition("?")[0] if 300 <= status < 400 else ""
    message = advice(
        status,
        said,
        call.settings,
        body=reply.body,
        location=call.scrub.name(location) if location else "",
        judged=judged if judged != status else None,
        reason=reason,
        model=_model(call),
    )
    error = (RateLimited if judged in _OVERLOADED and not reason else StatusError)(
        message,
        status=status,
        code=said.code,
        request_id=reply.request_id,
        retry_after=wait,
        body=reply.body,
        # An error that blames one answer of the model is not final: another answer may be better.
        final=is_final(judged, reply.headers, hopeless=bool(reason)) and not is_spoilt(said.codes, said.message),
    )
    error.why = what_came(status, said, judged if judged != status else None)
    return error


def _model(call: Call) -> str:
    """The model that was asked for, as an error may show it; empty if there is none."""
    model = (call.request or {}).get("model")
    return call.scrub.name(model[:_LONGEST_ID]) if isinstance(model, str) else ""
