"""What came back: is it a chat completion, is it whole, and what does it say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from airflow_chat_provider.core.error_body import is_error
from airflow_chat_provider.core.errors import (
    ChatCompletionError,
    IncompleteReply,
    InvalidOutput,
    ProtocolError,
)
from airflow_chat_provider.core.nesting import LEVELS, TooDeep, fault, loads
from airflow_chat_provider.core.panic import is_panic

_CUT = {
    "length": "its length limit",
    "model_length": "the model's context limit",
    "content_filter": "a content filter",
}
_FENCE = re.compile(r"```[a-zA-Z]*")
_KEPT = ("content", "name", "refusal", "tool_calls", "function_call", "audio")


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
        """The first choice's message."""
        return dict(self.body["choices"][0]["message"])

    @property
    def text(self) -> str:
        """The first choice's text; empty where it has none."""
        return text_of(self.message.get("content"))

    @property
    def tokens(self) -> int | None:
        """``usage.total_tokens``, where the server counts."""
        usage = self.body.get("usage") if isinstance(self.body, dict) else None
        total = usage.get("total_tokens") if isinstance(usage, dict) else None
        return total if isinstance(total, int) else None


def text_of(content: Any) -> str:
    """A message's content as text: a string, or the text parts of a list (thinking and references left out)."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type", "text") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


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
        if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
            return f"choices[{index}] without a message"
        if is_error(choice.get("error")) or choice.get("finish_reason") == "error":
            return f"choices[{index}] that ended in an error"
    return None


def incomplete(body: Mapping[str, Any]) -> str | None:
    """Why an answer is not all that was asked for: cut off, filtered or refused; None if it is whole."""
    for index, choice in enumerate(body["choices"]):
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason in _CUT:
            return f"choices[{index}] was cut off by {_CUT[reason]} (finish_reason {reason})"
        if choice["message"].get("refusal"):
            return f"choices[{index}] is a refusal"
    return None


def conversation_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A reply's message as a request may hold it: the fields that requests have, and of those the ones with a value."""
    kept = {name: message[name] for name in _KEPT if message.get(name) not in (None, [], {})}
    if isinstance(kept.get("audio"), dict):
        kept["audio"] = {"id": kept["audio"].get("id")}
    if isinstance(kept.get("content"), list) and not all(_is_part(part) for part in kept["content"]):
        kept["content"] = text_of(kept["content"])
    if not kept.keys() & {"content", "tool_calls", "function_call", "refusal", "audio"}:
        kept["content"] = ""
    return {"role": "assistant", **kept}


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("text", "refusal")


def result(reply: Reply, result_format: str, request: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """What ``return_value`` is; InvalidOutput where the answer has no such form, IncompleteReply for half of one."""
    try:
        return _result(reply, result_format, request)
    except (InvalidOutput, IncompleteReply):
        raise
    except BaseException as error:
        if not is_mistake(error):
            raise
        raise unreadable(reply, error) from None


def _result(reply: Reply, result_format: str, request: Mapping[str, Any]) -> Any:
    if result_format == "raw":
        return {"body": reply.body, "status": reply.status}
    if result_format == "message":
        return reply.message
    if result_format == "tool_calls":
        from airflow_chat_provider.core.output import Tools

        calls = Tools(request).calls(reply.message)
        return [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]
    text = reply.text
    if not text and reply.message.get("tool_calls"):
        raise output_error(reply, "Use result_format='tool_calls': the answer calls tools and has no text")
    return text if result_format == "text" else _json_of(reply, text)


def _json_of(reply: Reply, text: str) -> Any:
    value, where = parsed(text)
    if where is None:
        return value
    if reason := incomplete(reply.body):
        raise incomplete_error(reply, reason)
    raise output_error(
        reply,
        f"The answer is not JSON ({where}): set response_schema, or response_format in the request, ask for JSON in "
        "the prompt, or use result_format='text'",
    )


def parsed(text: str) -> tuple[Any, str | None]:
    """An answer's text as JSON, which may stand in a Markdown fence; else where it is none."""
    try:
        return loads(_unfenced(text)), None
    except json.JSONDecodeError as error:
        return None, "line {1}, column {2} of {0} characters".format(len(text), *fault(error)[1:])
    except TooDeep:
        return None, f"too large or nested too deep: {LEVELS} in {len(text)} characters"
    except ValueError:
        return None, f"a number too long, in {len(text)} characters"


def _unfenced(text: str) -> str:
    """What stands in the Markdown fence, where the text is one. No pattern with wildcards: models repeat newlines."""
    fence, _, rest = text.strip().partition("\n")
    return rest.removesuffix("```") if rest.endswith("```") and _FENCE.fullmatch(fence.rstrip()) else text


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
    return IncompleteReply(
        f"Raise the token limit, change the prompt, or accept it with on_incomplete='warn': {reason}",
        status=reply.status,
        request_id=reply.request_id,
        body=reply.body,
    )


def protocol_error(message: str, reply: Reply) -> ProtocolError:
    """A 2xx that is no completion."""
    return ProtocolError(message, status=reply.status, request_id=reply.request_id, body=reply.body)
