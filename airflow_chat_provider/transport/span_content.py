"""Prompts and answers as OpenTelemetry's conventions write them, for whoever has switched that on.

A list of messages, each with a role and parts; as JSON text, because attributes of spans are plain values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from airflow_chat_provider.core.messages import text_of

_MOST = 1 << 16  # characters of one attribute, about: collectors refuse spans of megabytes
_OVERHEAD = 64  # characters that a part takes beside its text
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


class _Budget:
    """How much may still be told."""

    def __init__(self) -> None:
        self._left = _MOST

    def cut(self, value: Any) -> str:
        """As much of a text as may still be told; nothing of what is not a text."""
        text = value if isinstance(value, str) else ""
        kept = text if len(text) <= self._left else text[: max(0, self._left)] + " [...]"
        self._left -= len(kept) + _OVERHEAD
        return kept

    @property
    def spent(self) -> bool:
        return self._left <= 0


def input_messages(request: Any) -> str:
    """``gen_ai.input.messages``: the last messages of a request, as many as there is room for."""
    budget, found = _Budget(), list[dict[str, Any]]()
    messages = request.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if budget.spent:
            break
        if isinstance(message, dict):
            found.append({"role": budget.cut(message.get("role")), "parts": list(_parts(message, budget))})
    return json.dumps(found[::-1])


def output_messages(body: Any) -> str:
    """``gen_ai.output.messages``: a message for each choice of an answer."""
    budget, found = _Budget(), list[dict[str, Any]]()
    choices = body.get("choices") if isinstance(body, dict) else None
    for choice in choices if isinstance(choices, list) else []:
        if budget.spent:
            break
        message = choice.get("message") if isinstance(choice, dict) else None
        if isinstance(message, dict):
            reason = budget.cut(choice.get("finish_reason"))
            found.append({"role": "assistant", "parts": list(_parts(message, budget)), "finish_reason": reason})
    return json.dumps(found)


def _parts(message: dict[str, Any], budget: _Budget) -> Iterator[dict[str, Any]]:
    if message.get("role") == "tool":
        answer = budget.cut(text_of(message.get("content")))
        yield {"type": "tool_call_response", "id": budget.cut(message.get("tool_call_id")), "response": answer}
        return
    for name in _THOUGHTS:
        if isinstance(thought := message.get(name), str) and thought:
            yield {"type": "reasoning", "content": budget.cut(thought)}
            break
    content = message.get("content")
    for part in content if isinstance(content, list) else [content]:
        if budget.spent:
            return
        yield from _content(part, budget)
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        yield {"type": "text", "content": budget.cut(refusal)}
    yield from _calls(message, budget)


def _content(part: Any, budget: _Budget) -> Iterator[dict[str, Any]]:
    if isinstance(part, str):
        if part:
            yield {"type": "text", "content": budget.cut(part)}
    elif isinstance(part, dict):
        if isinstance(text := part.get("text"), str):
            yield {"type": "text", "content": budget.cut(text)}
        else:  # a picture or a file: what it is, and not its bytes
            yield {"type": budget.cut(part.get("type"))}


def _calls(message: dict[str, Any], budget: _Budget) -> Iterator[dict[str, Any]]:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        if budget.spent:
            return
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            yield {
                "type": "tool_call",
                "id": budget.cut(call.get("id")),
                "name": budget.cut(function.get("name")),
                "arguments": budget.cut(function.get("arguments")),
            }
