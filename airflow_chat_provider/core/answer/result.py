"""What a task leaves behind of a reply: its XComs, and its return value in the format that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from airflow_chat_provider.core.answer.reply import Reply, hidden_text, incomplete, remedy, stopped
from airflow_chat_provider.core.answer.reply import doubts as doubts_about
from airflow_chat_provider.core.answer.usage import summary, was_sent
from airflow_chat_provider.core.errors import (
    ChatCompletionError,
    IncompleteReply,
    InvalidOutput,
    StatusError,
    kind_of,
)
from airflow_chat_provider.core.json_text.nesting import is_panic
from airflow_chat_provider.core.json_text.writing import sanitize
from airflow_chat_provider.core.messages import begun, conversation, is_unread, parsed, rewritten
from airflow_chat_provider.core.types import JSONObject, OnIncomplete, ResultFormat

_UNREAD = (
    "Check that the server parses the tool calls of this model (vLLM: --tool-call-parser, llama.cpp: --jinja): the "
    "answer calls no tool, but its text looks like a call"
)
_CONTINUED = "The answer continues the request's last message: only together are they JSON"


class Delivery(NamedTuple):
    """The arguments of a task that say how its answer is delivered."""

    result_format: ResultFormat = "raw"
    check_status: bool = True
    on_incomplete: OnIncomplete = "warn"
    push_messages: bool = True


class Outcome(NamedTuple):
    """What a task ends with: ``value`` is returned, or ``error`` raised. ``xcoms`` are pushed in either case."""

    xcoms: dict[str, Any]
    value: Any = None
    error: Exception | None = None
    warnings: tuple[str, ...] = ()

    def failed(self, error: Exception) -> Outcome:
        """The same with this error in place of the value."""
        xcoms = self.xcoms
        if "usage" in xcoms:
            xcoms = {**xcoms, "usage": {**xcoms["usage"], "errors": {kind_of(error): 1}}}
        return self._replace(xcoms=xcoms, value=None, error=error)


def outcome(
    how: Delivery, request: JSONObject, reply: Reply, configuration: JSONObject, replies: Sequence[Reply] = ()
) -> Outcome:
    """What becomes of a reply whose body XCom can keep (``safe``).

    ``replies``: those of all calls of the dialogue that it ended, for their usage; itself if it was the only one. Body,
    status and usage are among the XComs whatever is wrong with the reply, and whatever goes wrong while it is read: it
    is paid for. If no response came there is the usage alone, and nothing if nothing was sent.
    """
    xcoms: dict[str, Any] = {}
    warnings: list[str] = []
    if reply.changes:
        warnings.append(f"The reply was changed so that XCom can keep it: {'; '.join(reply.changes)}")
    warnings.extend(reply.doubts)
    if reply.status is not None:
        xcoms |= {"body": reply.body, "status": reply.status}
    try:
        if reply.status is not None or was_sent(replies or (reply,)):
            xcoms["usage"] = summary(replies or (reply,), request, reply.error, reply.rejected)
        value = _value(how, request, reply, configuration, xcoms, warnings)
    except BaseException as error:
        if not is_mistake(error):
            raise
        failure = error if isinstance(error, ChatCompletionError) else unreadable(reply, error)
        return Outcome(xcoms, warnings=tuple(warnings)).failed(failure)
    return Outcome(xcoms, value, warnings=tuple(warnings))


def _value(
    how: Delivery,
    request: JSONObject,
    reply: Reply,
    configuration: JSONObject,
    xcoms: dict[str, Any],
    warnings: list[str],
) -> Any:
    if reply.error is not None and (how.check_status or not _is_bad_status(reply)):
        raise reply.error
    xcoms["configuration"] = sanitize(configuration)[0]
    if reply.error is not None:
        return _raw(reply) if how.result_format == "raw" else None
    if how.push_messages:
        messages = conversation(request, reply.message, configuration.get("base_url"))
        if how.result_format != "tool_calls":  # whose calls tell by themselves what was changed in them
            warnings.extend(rewritten(reply.message))
        xcoms["messages"] = sanitize(messages)[0]  # a prompt, too, may hold what XCom cannot keep
    reason = None if how.on_incomplete == "ignore" else incomplete(reply.body)
    if reason is not None and how.on_incomplete == "fail":
        raise incomplete_error(reply, reason)
    if reason is not None:
        warnings.append(f"{remedy(reply.body)}: {reason}")
    warnings.extend(doubts_about(reply.body))
    value = result(reply, how.result_format, request, warnings)
    return sanitize(value)[0] if how.result_format in ("json", "tool_calls") else value


def _is_bad_status(reply: Reply) -> bool:
    """Is it a status that a caller may want as data? Not a 2xx whose body is an error: it would look like an answer."""
    return isinstance(reply.error, StatusError) and not 200 <= (reply.status or 0) < 300


def _raw(reply: Reply) -> JSONObject:
    return {"body": reply.body, "status": reply.status}


def result(
    reply: Reply, result_format: ResultFormat, request: Mapping[str, Any] | None = None, doubts: list[str] | None = None
) -> Any:
    """The answer in a format, as a task returns it.

    Raises InvalidOutput if the answer cannot be read so, and IncompleteReply if that is because it is incomplete.
    ``doubts`` takes a sentence for each thing that was read otherwise than it was written.
    """
    try:
        return _result(reply, result_format, request or {}, [] if doubts is None else doubts)
    except (InvalidOutput, IncompleteReply):
        raise
    except BaseException as error:
        if not is_mistake(error):
            raise
        raise unreadable(reply, error) from None


def _result(reply: Reply, result_format: ResultFormat, request: Mapping[str, Any], doubts: list[str]) -> Any:
    if result_format == "raw":
        return _raw(reply)
    if result_format == "message":
        return reply.message
    if result_format == "tool_calls":
        return _tool_calls(reply, request, doubts)
    if not reply.text and reply.message.get("tool_calls"):
        raise output_error(reply, "Use result_format='tool_calls': the answer calls tools and has no text")
    if result_format == "text":
        return reply.text
    found = read_json(reply, request, may_be_hidden=True)
    doubts.extend(found.doubts)
    if found.where is None:
        value = found.value
        return value[reply.key] if isinstance(value, dict) and reply.key in value else value
    if reason := incomplete(reply.body):
        raise incomplete_error(reply, reason)
    raise output_error(
        reply,
        f"Ask for JSON with response_schema, or use result_format='text': the answer is not JSON ({found.where})",
    )


def _tool_calls(reply: Reply, request: Mapping[str, Any], doubts: list[str]) -> list[JSONObject]:
    from airflow_chat_provider.core.answer.output_schema import Tools  # whose JSON Schemas are slow to import

    calls = Tools(request).calls(reply.message)
    doubts.extend(call.doubt for call in calls if call.doubt)
    if not calls and is_unread(reply.text):
        doubts.append(_UNREAD)
    return [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]


class Found(NamedTuple):
    """The JSON of an answer. ``where`` says why there is none; ``doubts`` say what was assumed to find it."""

    value: Any
    where: str | None = None
    doubts: tuple[str, ...] = ()


def read_json(reply: Reply, request: Mapping[str, Any], *, may_be_hidden: bool = False) -> Found:
    """The JSON that an answer is, by itself or as the end of what the request's last message began.

    ``may_be_hidden``: a server may have taken the whole answer for reasoning. That is assumed if the model ended the
    answer by itself, the answer has no text, and the reasoning is one JSON object or array.
    """
    text, (prefix, is_flagged) = reply.text, begun(request)
    value, where = parsed(text)
    if prefix and not text.startswith(prefix) and (is_flagged or where is not None):
        whole, why = parsed(prefix + text)
        if why is None:
            return Found(whole) if is_flagged else Found(whole, None, (_CONTINUED,))
    content = reply.message.get("content")
    if may_be_hidden and isinstance(content, dict) and not text:
        return Found(content, None, ("The answer's content is a JSON object instead of text",))
    hidden = hidden_text(reply.message) if where is not None else None
    if hidden is None:
        return Found(value, where)
    if may_be_hidden and stopped(reply.body) and not reply.message.get("tool_calls"):
        value, why = parsed(reply.message[hidden])
        if why is None and isinstance(value, dict | list):
            return Found(value, None, (f"The answer has no text: the JSON in its {hidden} was taken for the answer",))
    return Found(None, f"it has text only in its {hidden}")


def output_error(reply: Reply, message: str) -> InvalidOutput:
    """The error of an answer that is not what was wanted."""
    return reply.as_error(InvalidOutput, message)


def incomplete_error(reply: Reply, reason: str) -> IncompleteReply:
    """The error of an answer that is not complete, for the ``reason`` that ``incomplete`` names."""
    return reply.as_error(IncompleteReply, f"{remedy(reply.body)}: {reason}. on_incomplete='warn' accepts it")


def unreadable(reply: Reply, error: BaseException) -> InvalidOutput:
    """The error of an answer that could not be read for a reason that nobody foresaw.

    The words of ``error`` may quote the answer, so only our own are shown.
    """
    why = error.message if isinstance(error, ChatCompletionError) else type(error).__name__
    return output_error(
        reply,
        f"Look at the answer in body: it could not be read ({why}). Loosen the schema, or use result_format='raw'",
    )


def is_mistake(error: BaseException) -> bool:
    """Is it a mistake in our code or in a class of the user's, and not a signal, a time limit or the end of memory?"""
    return (isinstance(error, Exception) and not isinstance(error, MemoryError)) or is_panic(error)
