"""Is a response an answer, and if not, what error is it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.answer.reply import Reply, flaw, protocol_error, unanswered_error
from airflow_chat_provider.core.call.body import parse_body
from airflow_chat_provider.core.call.problem import Cut
from airflow_chat_provider.core.call.retry import OVERLOADED, RETRYABLE, is_final, should_retry
from airflow_chat_provider.core.connection.base_url import root_hint
from airflow_chat_provider.core.errors import (
    ChatCompletionError,
    ProtocolError,
    RateLimited,
    StatusError,
    TransportError,
)
from airflow_chat_provider.core.server.error_body import ServerError, holds_error, read_error
from airflow_chat_provider.core.server.generation import is_spoilt
from airflow_chat_provider.core.server.remedy import advice
from airflow_chat_provider.core.server.verdict import Words, why_final
from airflow_chat_provider.core.server.waits import retry_after

if TYPE_CHECKING:
    from airflow_chat_provider.core.call.exchange import Call, Received

_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-ms-request-id", "cf-ray")
_LONGEST_ID = 128  # characters


def concerns_all(error: ChatCompletionError, call: Call) -> bool:
    """Would every other request over this connection be refused, too: the key, the bill, the quota?"""
    if not isinstance(error, StatusError) or error.status is None:
        return False
    said = read_error(error.body)
    status = _judged_as(error.status, said)
    if status in (401, 402, 407):
        return True
    words = Words(said.message, call.scrub)
    return error.final and why_final(status, said.codes, words, error.retry_after) == "account"


def told(call: Call, reply: Reply) -> Reply:
    """The reply; its error ends with what the server says. Only the last one's: looking for quotations takes time."""
    error = reply.error
    if isinstance(error, StatusError) or (isinstance(error, ProtocolError) and _tells(reply.body)):
        said = read_error(reply.body)
        if said.message:
            error.reword(f"{error.message}: {call.scrub(said.message)}")
    return reply


def _tells(body: Any) -> bool:
    """May the body of a 2xx hold an error? Half a completion has none, and may have anything else; so may a text."""
    return holds_error(body) or (isinstance(body, dict) and not body.get("choices"))


def judged(outcome: Received | TransportError | None, call: Call, now: float) -> Reply:
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
    problem = outcome.problem or refused
    if holds_error(body):
        return reply._replace(error=_held_error(reply, outcome, call, now))
    if problem:
        message = f"Ask again or lower what is asked for: {problem}"
        return reply._replace(error=_protocol_error(message, reply, broken=isinstance(problem, Cut)))
    return reply._replace(error=_flaw(reply, call, is_json=is_json, is_stream=outcome.body is not None))


def _held_error(reply: Reply, outcome: Received, call: Call, now: float) -> ChatCompletionError:
    """The error that a 2xx holds: judged as its code's status would be, where it has a code that is known."""
    if outcome.problem:
        todo = f"Ask again or lower what is asked for: {outcome.problem}"
    else:
        todo = f"See what the server says, and try again later: HTTP {outcome.status} came with an error"
        todo += " beside a completion" if _has_choices(reply.body) else " in place of a completion"
    said = read_error(reply.body)
    if said.status is not None or why_final(outcome.status, said.codes, Words(said.message, call.scrub), None):
        return _status_error(reply, outcome.status, call, now)
    error = _protocol_error(todo, reply, broken=isinstance(outcome.problem, Cut))
    error.code = _clean(said, call).code
    return error


def _has_choices(body: Any) -> bool:
    return isinstance(body, dict) and bool(body.get("choices"))


def _flaw(reply: Reply, call: Call, *, is_json: bool, is_stream: bool) -> ChatCompletionError | None:
    why = flaw(reply.body, is_json=is_json)
    if why is None:
        return None
    if (unanswered := unanswered_error(reply)) is not None:
        return unanswered
    base, came = call.settings.base_url, f"HTTP {reply.status} came with"
    cut = None if is_json else _cut(reply)
    if isinstance(reply.body, dict) and "choices" in reply.body:
        broken = is_stream and _has_choices(reply.body)  # all chunks came, and the last one says that it broke
        message = f"Look at the answer in body, and ask again: {came} {why}"
        return _protocol_error(message, reply, broken=broken)
    if cut is not None:
        message = f"Ask again, the server at {base} or a gateway before it gave up: {came} {cut}"
    else:
        message = f"Check that {base} of connection {call.settings.conn_id!r} is a chat completions API: {came} {why}"
    if not isinstance(reply.body, dict) and (hint := root_hint(base)):
        message += f"; {hint}"
    error = _protocol_error(message, reply, broken=cut is not None)
    error.code = _clean(read_error(reply.body), call).code if _tells(reply.body) else None
    return error


def _cut(reply: Reply) -> str | None:
    """How an answer ended early, or that it never began; None where it is another text, or says itself to be empty."""
    text = reply.body.strip() if isinstance(reply.body, str) else ""
    if not text:
        what = "nothing but blank lines" if reply.body else "an empty body"
        return what if reply.status != 204 else None
    return "JSON that was cut off" if text.startswith("{") and not text.endswith("}") else None


def _protocol_error(message: str, reply: Reply, *, broken: bool = False) -> ProtocolError:
    error = protocol_error(message, reply)
    error.broken = broken and should_retry(reply.headers) is not False
    return error


def _clean(said: ServerError, call: Call) -> ServerError:
    """What a server said, with a code that holds no quotation."""
    return said._replace(code=call.scrub.name(said.code)) if isinstance(said.code, str) else said


def _judged_as(status: int, said: ServerError) -> int:
    """The status itself, and of a 2xx that holds an error the one that its code stands for."""
    if not 200 <= status < 300:
        return status
    return said.status if said.status is not None else 402


def _status_error(reply: Reply, status: int, call: Call, now: float) -> StatusError:
    said = _clean(read_error(reply.body), call)
    judged = _judged_as(status, said)
    words = Words(said.message, call.scrub)
    passes = judged >= 500 or judged in RETRYABLE
    asked = (reply.body, words) if passes else (None, None)
    wait = retry_after(reply.headers, status=judged, now=now, body=asked[0], words=asked[1])
    reason = why_final(judged, said.codes, words, wait)
    values: dict[str, Any] = {
        "status": status,
        "code": said.code,
        "request_id": reply.request_id,
        "retry_after": wait,
        "body": reply.body,
        # Not of one answer that was spoilt: another one may be better.
        "final": is_final(judged, reply.headers, hopeless=bool(reason)) and not is_spoilt(said.codes, said.message),
    }
    location = reply.headers.get("location", "").partition("?")[0] if 300 <= status < 400 else ""
    location = call.scrub.name(location) if location else ""
    todo = advice(
        status,
        said,
        call.settings,
        body=reply.body,
        location=location,
        judged=judged if judged != status else None,
        reason=reason,
    )
    limited = judged in OVERLOADED and not reason
    return (RateLimited if limited else StatusError)(todo, **values)
