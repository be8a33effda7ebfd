"""A reply as part of the next request: the fields that a request may hold, and that its server accepts."""

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
from airflow_chat_provider.core.types import JSON, JSONObject

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
_FIELDS = ("content", "name", "refusal", "audio", *_REASONING)
_IN_CALLS = ("extra_content", "provider_specific_fields", "thought_signature", "thoughtSignature")
_FLAGS = ("prefix", "partial")


def conversation_message(message: JSONObject) -> JSONObject:
    """A reply's message in the form of a request: the fields that requests have, if they have a value.

    Reasoning is kept. Tool calls get the form that requests take, whatever form they came in.
    """
    turn: JSONObject = {"role": "assistant"}
    for name in _FIELDS:
        value = message.get(name)
        if value is None or value in ([], {}) or (name in ("name", "refusal") and not isinstance(value, str)):
            continue  # servers send anything
        if name == "audio":
            if isinstance(value, dict) and isinstance(value.get("id"), str):
                turn["audio"] = {"id": value["id"]}
        else:
            turn[name] = _content(value) if name == "content" and not isinstance(value, str) else value
    if message.get("tool_calls") and (calls := requested(message)):
        turn["tool_calls"] = calls
    if function_call := requested_function(message.get("function_call")):
        turn["function_call"] = function_call
    return _spoken(turn)


def rewritten(message: JSONObject) -> Iterator[str]:
    """Warnings about each way in which ``messages`` will differ from the reply's body."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    if not all(_is_part(part) or text_of([part]) for part in parts) and _content(content) != content:
        yield "Read the answer's other parts from body: messages holds only its text"
    for number, call in enumerate(called(message)):
        if call.kind != "custom" and (how := how_arguments_came(call.arguments)):
            call_path = f"choices[0].message.tool_calls[{number}]"
            yield f"messages holds {call_path} in the form that requests take: its arguments {how}"


def _content(content: JSON) -> JSON:
    """An answer's content as text, or as a list if it has other parts, too. Any other value becomes JSON text."""
    if isinstance(content, list):
        # A list of texts is one text: many servers take no list here.
        is_more = any(part.get("type") != "text" for part in content if isinstance(part, dict))
        return content if is_more and all(_is_part(part) for part in content) else text_of(content)
    return content if isinstance(content, str) else text_of(content) or as_text(content)


def _is_part(part: JSON) -> bool:
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    return kind in ANSWER_PARTS or (kind in ("text", "refusal") and isinstance(part.get(kind), str))


def _spoken(message: JSONObject) -> JSONObject:
    """The message, with an empty content if it would say nothing at all."""
    says = message.keys() & {"content", "tool_calls", "function_call", "refusal", "audio"}
    return message if says else {**message, "content": ""}


def begun(request: Mapping[str, JSON]) -> tuple[str, bool]:
    """The text that the answer is to continue (else ""): the last message's; and whether a flag asks for that.

    The flag is ``prefix`` at DeepSeek and Mistral, ``partial`` at Moonshot and DashScope, ``continue_final_message`` at
    vLLM.
    """
    messages = request.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, Mapping) or last.get("role") != "assistant" or last.get("tool_calls"):
        return "", False
    flags = (request.get("continue_final_message"), *(last.get(name) for name in _FLAGS))
    return text_of(last.get("content")), any(flag is True for flag in flags)


def conversation(request: JSONObject, message: JSONObject, base_url: JSON = None) -> list[Any]:
    """The request's messages followed by the reply's: the start of the next request.

    A reply that continues the request's last message becomes one turn with it. Most servers refuse or misread two turns
    of the assistant in a row, and a flag on a message that is not the last.
    """
    turn, messages = conversation_message(message), [*request["messages"]]
    prefix, is_flagged = begun(request)
    # OpenAI takes the message for a turn of its own, and answers with another.
    if not prefix or (not is_flagged and isinstance(base_url, str) and server_at(base_url).openai):
        return [*messages, turn]
    first = {name: value for name, value in messages.pop().items() if name not in _FLAGS}
    return [*messages, {**first, **turn, "content": _joined(prefix, turn.get("content"))}]


def _joined(prefix: str, content: list[Any] | str | None) -> JSON:
    """The two texts as one. Mistral repeats the prefix in its answer; DeepSeek does not."""
    if text_of(content).startswith(prefix):
        return content
    return [{"type": "text", "text": prefix}, *content] if isinstance(content, list) else prefix + (content or "")


def asked_again(request: JSONObject, turns: list[JSONObject]) -> JSONObject:
    """The request with the turns of an answer that does not fit. It no longer asks to continue a text."""
    if not begun(request)[0] or not turns:
        return {**request, "messages": [*request["messages"], *turns]}
    plain = {name: value for name, value in request.items() if name != "continue_final_message"}
    if request.get("continue_final_message") and request.get("add_generation_prompt") is False:
        del plain["add_generation_prompt"]
    return {**plain, "messages": [*conversation(request, turns[0]), *turns[1:]]}


def fitted_to_server(request: JSON, base_url: str | None) -> tuple[Any, list[str]]:
    """The request without the fields of assistant messages that its server is known to refuse; a warning names them.

    Nearly always such a field comes from another server's reply: nobody writes reasoning by hand.
    """
    server = server_at(base_url)
    messages = request.get("messages") if isinstance(request, dict) else None
    if server.only_message_fields is None or not isinstance(request, dict) or not isinstance(messages, list):
        return request, []
    gone: dict[str, None] = {}
    fitting = [_fitted(message, server, gone) for message in messages]
    if not gone:
        return request, []
    names = ", ".join(gone)
    warning = f"$.messages: {names} of the assistant is not sent, because {server.name} refuses it"
    return {**request, "messages": fitting}, [warning]


def _fitted(message: JSON, server: Server, gone: dict[str, None]) -> JSON:
    """A message without what the server refuses. The names of what is left out are added to ``gone``."""
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return message
    refused = [name for name in _REASONING if name in message and name not in (server.only_message_fields or ())]
    fitting = {name: value for name, value in message.items() if name not in refused}
    content, calls = message.get("content"), message.get("tool_calls")
    if isinstance(content, list):
        kinds = [part["type"] for part in content if isinstance(part, dict) and part.get("type") in ANSWER_PARTS]
        if kinds := [kind for kind in kinds if kind not in server.message_parts]:
            refused += kinds
            text = text_of(content)
            fitting["content"] = text if text or not calls else None
    if isinstance(calls, list):
        objects = [call for call in calls if isinstance(call, dict)]
        if extras := [name for name in _IN_CALLS if any(name in call for call in objects)]:
            refused += extras
            fitting["tool_calls"] = [_without(call, _IN_CALLS) for call in calls]
    gone.update(dict.fromkeys(refused))
    return _spoken(fitting) if refused else message


def _without(call: JSON, names: tuple[str, ...]) -> JSON:
    return {name: value for name, value in call.items() if name not in names} if isinstance(call, dict) else call


def with_instruction(messages: list[JSONObject], text: str) -> list[JSONObject]:
    """The messages with ``text`` added to the leading system message, or before them as a system message of its own."""
    first = messages[0] if messages else {}
    if first.get("role") in ("system", "developer") and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]
