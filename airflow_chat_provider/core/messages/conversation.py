"""A reply as part of the next request: what of its message a request may hold, and what its server takes of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_chat_provider.core.messages.answer_text import text_of
from airflow_chat_provider.core.messages.tool_calls import (
    as_text,
    called,
    how_arguments_came,
    requested,
    requested_function,
)
from airflow_chat_provider.core.servers import ANSWER_PARTS, Server, server_at

_OPENAI = ("content", "name", "refusal", "tool_calls", "function_call", "audio")
# What other servers' assistant messages have, and want back: DeepSeek and Kimi answer 400 to tool results whose calls
# have lost their reasoning, Gemini to calls without their thought signature.
_REASONING = (
    "reasoning_content",  # DeepSeek, Kimi, Qwen, GLM, LiteLLM, llama.cpp
    "reasoning",  # vLLM, Groq, Cerebras, OpenRouter, Ollama
    "reasoning_details",  # OpenRouter, MiniMax
    "thinking",  # Ollama's own
    "thinking_blocks",  # LiteLLM: Anthropic's signed blocks
    "reasoning_text",  # GitHub Copilot
    "reasoning_opaque",  # GitHub Copilot
    "extra_content",  # Gemini: thought signatures
    "provider_specific_fields",  # LiteLLM: the same
    "images",  # OpenRouter
)
_FORMS: Mapping[str, type] = {"name": str, "refusal": str}
_IN_CALLS = ("extra_content", "provider_specific_fields", "thought_signature", "thoughtSignature")
_FLAGS = ("prefix", "partial")


def conversation_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A reply's message as a request may hold it: the fields that requests have, and of those the ones with a value.

    Reasoning stays with it. Calls are in the form that requests take, whatever form they came in.
    """
    names = [name for name in (*_OPENAI, *_REASONING) if name in message]
    kept: dict[str, Any] = {name: message[name] for name in names if _may_stand(name, message[name])}
    if "content" in kept:
        kept["content"] = _content(kept["content"])
    if "audio" in kept:
        kept["audio"] = {"id": kept["audio"]["id"]}
    calls = {"tool_calls": requested(message), "function_call": requested_function(message.get("function_call"))}
    said = {name: value for name, value in kept.items() if name not in calls}
    return _spoken({"role": "assistant", **said, **{name: value for name, value in calls.items() if value}})


def rewritten(message: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on what a reply says otherwise in the conversation than in its body."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    if not all(_is_part(part) or text_of([part]) for part in parts) and _content(content) != content:
        yield "Take the answer's other parts from body: messages has its text alone"
    for number, call in enumerate(called(message)):
        if call.kind != "custom" and (how := how_arguments_came(call.arguments)):
            yield f"choices[0].message.tool_calls[{number}] is in messages as requests take it: its arguments {how}"


def _may_stand(name: str, value: Any) -> bool:
    """Has a field a value, of the type that requests have there? Servers send anything."""
    if name == "audio":
        return isinstance(value, dict) and isinstance(value.get("id"), str)
    return value not in (None, [], {}) and isinstance(value, _FORMS.get(name, object))


def _content(content: Any) -> Any:
    """An answer's content as text, or as a list where it is more than that; JSON text of what is neither."""
    if isinstance(content, list):
        # A list of texts is one text: many servers take no list here.
        is_more = any(part.get("type") != "text" for part in content if isinstance(part, dict))
        return content if is_more and all(_is_part(part) for part in content) else text_of(content)
    return content if isinstance(content, str) else text_of(content) or as_text(content)


def _is_part(part: Any) -> bool:
    kind = part.get("type") if isinstance(part, dict) else None
    return isinstance(kind, str) and (
        kind in ANSWER_PARTS or (kind in ("text", "refusal") and isinstance(part.get(kind), str))
    )


def _spoken(message: dict[str, Any]) -> dict[str, Any]:
    """The message with an empty content, where it would say nothing."""
    says = message.keys() & {"content", "tool_calls", "function_call", "refusal", "audio"}
    return message if says else {**message, "content": ""}


def begun(request: Mapping[str, Any]) -> tuple[str, bool]:
    """The text that a request begins the answer with, its last message, and whether it says so by a flag; else "".

    DeepSeek and Mistral have ``prefix`` for that, Moonshot and DashScope ``partial``, vLLM ``continue_final_message``.
    """
    messages = request.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, Mapping) or last.get("role") != "assistant" or last.get("tool_calls"):
        return "", False
    flags = (request.get("continue_final_message"), *(last.get(name) for name in _FLAGS))
    return text_of(last.get("content")), any(flag is True for flag in flags)


def conversation(request: Mapping[str, Any], message: Mapping[str, Any], base_url: Any = None) -> list[Any]:
    """The request's messages and the reply's: what the next request begins with.

    A reply that goes on where the request's last message ended is one turn with it: most servers refuse or misread two
    turns of the assistant, and a flag on a message that is not the last.
    """
    turn, messages = conversation_message(message), [*request["messages"]]
    prefix, is_flagged = begun(request)
    # OpenAI takes the message for a turn of its own, and answers with another.
    if not prefix or (not is_flagged and isinstance(base_url, str) and server_at(base_url).openai):
        return [*messages, turn]
    first = {name: value for name, value in messages.pop().items() if name not in _FLAGS}
    return [*messages, {**first, **turn, "content": _joined(prefix, turn.get("content"))}]


def _joined(prefix: str, content: Any) -> Any:
    """Mistral repeats the prefix in its answer, DeepSeek does not."""
    if text_of(content).startswith(prefix):
        return content
    return [{"type": "text", "text": prefix}, *content] if isinstance(content, list) else prefix + (content or "")


def asked_again(request: dict[str, Any], turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The request with the turns of an answer that does not fit; it goes on from a text of its own no more."""
    if not begun(request)[0] or not turns:
        return {**request, "messages": [*request["messages"], *turns]}
    plain = {name: value for name, value in request.items() if name != "continue_final_message"}
    if request.get("continue_final_message") and request.get("add_generation_prompt") is False:
        del plain["add_generation_prompt"]
    return {**plain, "messages": [*conversation(request, turns[0]), *turns[1:]]}


def taken(request: Any, base_url: str | None) -> tuple[Any, list[str]]:
    """The request without what its server is known to refuse in messages of the assistant; a warning for what is gone.

    Such fields come from the reply of another server, nearly always: nobody writes reasoning by hand.
    """
    server = server_at(base_url)
    messages = request.get("messages") if isinstance(request, dict) else None
    if server.only_message_fields is None or not isinstance(messages, list):
        return request, []
    gone: dict[str, None] = {}
    fitting = [_fitting(message, server, gone) for message in messages]
    if not gone:
        return request, []
    names = ", ".join(gone)
    return {**request, "messages": fitting}, [
        f"$.messages: {names} of the assistant is not sent: {server.name} refuses it"
    ]


def _fitting(message: Any, server: Server, gone: dict[str, None]) -> Any:
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return message
    refused = [name for name in _REASONING if name in message and name not in (server.only_message_fields or ())]
    fitting = {name: value for name, value in message.items() if name not in refused}
    content = message.get("content")
    kinds = [part.get("type") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    if kinds := [kind for kind in kinds if kind in ANSWER_PARTS and kind not in server.message_parts]:
        refused.extend(kinds)
        text = text_of(content)
        fitting["content"] = text if text or not message.get("tool_calls") else None
    calls = message.get("tool_calls")
    if isinstance(calls, list) and any(isinstance(call, dict) and call.keys() & {*_IN_CALLS} for call in calls):
        refused.extend(name for name in _IN_CALLS if any(isinstance(call, dict) and name in call for call in calls))
        fitting["tool_calls"] = [_without(call, _IN_CALLS) for call in calls]
    gone.update(dict.fromkeys(refused))
    return _spoken(fitting) if refused else message


def _without(call: Any, names: tuple[str, ...]) -> Any:
    return {name: value for name, value in call.items() if name not in names} if isinstance(call, dict) else call
