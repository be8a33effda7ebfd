"""What came back: is it a chat completion, is it whole, and what does it say."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from airflow_chat_provider.core.answer.ending import (
    ended_in_error,
    hidden_text,
    incomplete,
    may_lack_message,
    remedy,
    stopped,
    unanswered,
)
from airflow_chat_provider.core.errors import (
    ChatCompletionError,
    IncompleteReply,
    InvalidOutput,
    ProtocolError,
)
from airflow_chat_provider.core.json_text.nesting import is_panic
from airflow_chat_provider.core.messages.answer_text import parsed, text_of
from airflow_chat_provider.core.messages.conversation import begun, conversation_message
from airflow_chat_provider.core.messages.tool_calls import is_unread
from airflow_chat_provider.core.server.error_body import is_error

__all__ = ["conversation_message", "incomplete", "parsed", "text_of"]  # of modules of their own; here for whoever reads
_UNREAD = (
    "Check that the server reads the calls of this model (vLLM: --tool-call-parser, llama.cpp: --jinja): the answer "
    "calls no tool, and its text looks like a call"
)
_CONTINUED = "The answer was read as the rest of the request's last message, with which it is JSON"


class Reply(NamedTuple):
    """The server's last answer to one call, however many attempts it took.

    ``body`` is parsed JSON, or text where the server sent none. ``error`` is what is wrong with it, if anything;
    ``status`` is None where no response began. ``changes`` names what was made safe for XCom in ``body``,
    ``doubts`` what was read otherwise than the server wrote it: sentences for a log, which quote nothing of the answer.
    """

    status: int | None
    body: Any
    headers: Mapping[str, str] = MappingProxyType({})
    request_id: str | None = None
    attempts: int = 1
    seconds: float = 0.0
    error: ChatCompletionError | None = None
    notes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Nothing of what was said: a reply may stand in a traceback or a log."""
        error = type(self.error).__name__ if self.error is not None else None
        return f"Reply(status={self.status}, attempts={self.attempts}, error={error})"

    def raise_for_error(self) -> Reply:
        """The reply itself; raises its error where it has one."""
        if self.error is not None:
            raise self.error
        return self

    @property
    def message(self) -> dict[str, Any]:
        """The first choice's message; empty where it has none."""
        return dict(self.body["choices"][0].get("message") or {})

    @property
    def text(self) -> str:
        """The first choice's text; empty where it has none."""
        return text_of(self.message.get("content"))

    @property
    def tokens(self) -> int | None:
        """``usage.total_tokens`` or the sum of its parts, where the server counts."""
        return tokens_of(self.body.get("usage") if isinstance(self.body, dict) else None)


def tokens_of(usage: Any) -> int | None:
    """All tokens of a ``usage``; None where it has no counts."""
    if not isinstance(usage, dict):
        return None
    if type(total := usage.get("total_tokens")) is int:
        return total
    for names in (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")):
        counts = [count for name in names if type(count := usage.get(name)) is int]
        if counts:
            return sum(counts)
    return None


def flaw(body: Any, *, is_json: bool) -> str | None:
    """Why a 2xx body is no chat completion; None if it is one."""
    if not is_json:
        return "an empty body" if not body else "text that is not JSON"
    if not isinstance(body, dict):
        return f"JSON that is no object (a {type(body).__name__})" if body is not None else "the JSON null"
    choices = body.get("choices")
    if is_error(body.get("error")):
        return "an error in place of a completion"
    if not isinstance(choices, list) or not choices:
        return "a body without choices"
    for index, choice in enumerate(choices):
        if not isinstance(choice, dict):
            return f"choices[{index}] without a message"
        if ended_in_error(choice):
            return f"choices[{index}] that ended in an error"
        if not isinstance(choice.get("message"), dict) and not (index and may_lack_message(choice)):
            return f"choices[{index}] without a message"
    return None


def result(
    reply: Reply,
    result_format: str,
    request: Mapping[str, Any] = MappingProxyType({}),
    doubts: list[str] | None = None,
) -> Any:
    """What ``return_value`` is; InvalidOutput where the answer has no such form, IncompleteReply for half of one.

    ``doubts`` takes a sentence for each thing that was read otherwise than it was written.
    """
    try:
        return _result(reply, result_format, request, [] if doubts is None else doubts)
    except (InvalidOutput, IncompleteReply):
        raise
    except BaseException as error:
        if not is_mistake(error):
            raise
        raise unreadable(reply, error) from None


def _result(reply: Reply, result_format: str, request: Mapping[str, Any], doubts: list[str]) -> Any:
    if result_format == "raw":
        return {"body": reply.body, "status": reply.status}
    if result_format == "message":
        return reply.message
    if result_format == "tool_calls":
        from airflow_chat_provider.core.answer.output_schema import Tools

        calls = Tools(request).calls(reply.message)
        doubts.extend(call.doubt for call in calls if call.doubt)
        if not calls and is_unread(reply.text):
            doubts.append(_UNREAD)
        return [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]
    if not reply.text and reply.message.get("tool_calls"):
        raise output_error(reply, "Use result_format='tool_calls': the answer calls tools and has no text")
    return reply.text if result_format == "text" else _json_of(reply, request, doubts)


def _json_of(reply: Reply, request: Mapping[str, Any], doubts: list[str]) -> Any:
    found = read_json(reply, request, may_be_hidden=True)
    doubts.extend(found.doubts)
    if found.where is None:
        return found.value
    if reason := incomplete(reply.body):
        raise incomplete_error(reply, reason)
    raise output_error(
        reply,
        f"The answer is not JSON ({found.where}): set response_schema, or response_format in the request, ask for JSON "
        "in the prompt, or use result_format='text'",
    )


class Found(NamedTuple):
    """The JSON of an answer; ``where`` says why there is none, ``doubts`` what was guessed to find it."""

    value: Any
    where: str | None = None
    doubts: tuple[str, ...] = ()


def read_json(reply: Reply, request: Mapping[str, Any], *, may_be_hidden: bool = False) -> Found:
    """The JSON that an answer is, on its own or as the end of what the request began.

    ``may_be_hidden``: a server may have taken all of it for reasoning. That is believed where the answer ended by
    itself, has no text, and the reasoning is one JSON object or array.
    """
    text, (prefix, is_flagged) = reply.text, begun(request)
    value, where = parsed(text)
    if prefix and not text.startswith(prefix) and (is_flagged or where is not None):
        whole, why = parsed(prefix + text)
        if why is None:
            return Found(whole) if is_flagged else Found(whole, None, (_CONTINUED,))
    content = reply.message.get("content")
    if may_be_hidden and isinstance(content, dict) and not text:
        return Found(content, None, ("The answer is a JSON object, not the text of one",))
    hidden = hidden_text(reply.message) if where is not None else None
    if hidden is None:
        return Found(value, where)
    if may_be_hidden and stopped(reply.body) and not reply.message.get("tool_calls"):
        value, why = parsed(reply.message[hidden])
        if why is None and isinstance(value, dict | list):
            return Found(value, None, (f"The answer has no text: the JSON in its {hidden} was taken for the answer",))
    return Found(None, f"it has no text, there is some in its {hidden} alone")


def output_error(reply: Reply, message: str) -> InvalidOutput:
    """The answer is not what was asked for."""
    return InvalidOutput(message, status=reply.status, request_id=reply.request_id, body=reply.body)


def is_mistake(error: BaseException) -> bool:
    """Is it one of ours, or of a class of the user's? Not a signal, a time limit or the end of the memory."""
    return (isinstance(error, Exception) and not isinstance(error, MemoryError)) or is_panic(error)


def unreadable(reply: Reply, error: BaseException) -> InvalidOutput:
    """An answer that could not be looked at, for a reason that nobody foresaw; its own words may quote the answer."""
    why = error.message if isinstance(error, ChatCompletionError) else type(error).__name__
    return output_error(
        reply,
        "Look at the answer in body, and loosen what is wanted of it or use result_format='raw': it could not be read "
        f"({why})",
    )


def incomplete_error(reply: Reply, reason: str) -> IncompleteReply:
    """The error of an answer that is not whole."""
    todo = remedy(reply.body, "accept it with on_incomplete='warn'")
    return IncompleteReply(f"{todo}: {reason}", status=reply.status, request_id=reply.request_id, body=reply.body)


def unanswered_error(reply: Reply) -> IncompleteReply | None:
    """The error of an answer that was filtered, cut or failed before there was a message; None for any other body."""
    reason = unanswered(reply.body)
    if reason is None:
        return None
    message = f"{remedy(reply.body)}: {reason}"
    return IncompleteReply(message, status=reply.status, request_id=reply.request_id, body=reply.body)


def protocol_error(message: str, reply: Reply) -> ProtocolError:
    """A 2xx that is no completion."""
    return ProtocolError(message, status=reply.status, request_id=reply.request_id, body=reply.body)
