"""The official SDK as a judge: what do its types take, and what does its accumulator make of a stream?"""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.call.chunks.assembly import Assembly


def refused(body: Any) -> list[str]:
    """The places where the SDK's type of a reply does not take a body."""
    from openai.types.chat import ChatCompletion
    from pydantic import ValidationError

    try:
        ChatCompletion.model_validate(body)
    except ValidationError as error:
        return sorted({".".join(str(part) for part in one["loc"]) for one in error.errors()})
    return []


def refused_request(body: Any) -> list[str]:
    """The places where the SDK's type of a request does not take a body."""
    from openai.types.chat.completion_create_params import CompletionCreateParams
    from pydantic import TypeAdapter, ValidationError

    adapter: Any = TypeAdapter(CompletionCreateParams)  # what it has made reads on in it
    try:
        _exhaust(adapter.validate_python(body))
    except ValidationError as error:
        return sorted({".".join(str(part) for part in one["loc"]) for one in error.errors()})
    return []


def _exhaust(value: Any) -> None:
    """Pydantic looks into an Iterable only while it is read."""
    if isinstance(value, dict):
        for item in value.values():
            _exhaust(item)
    elif not isinstance(value, str | bytes) and hasattr(value, "__iter__"):
        for item in value:
            _exhaust(item)


def accumulated(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The body that the SDK puts together."""
    from openai.lib.streaming.chat import ChatCompletionStreamState
    from openai.types.chat import ChatCompletionChunk

    state: Any = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.construct(**chunk))
    made: dict[str, Any] = state.current_completion_snapshot.to_dict()
    return made


def assembled(chunks: list[dict[str, Any]], choices: int = 1) -> dict[str, Any]:
    """The body that ours puts together."""
    assembly = Assembly(choices)
    for chunk in chunks:
        assembly.add(chunk)
    return assembly.body()


def essence(body: dict[str, Any]) -> dict[str, Any]:
    """What both have to agree on: what a reader of a reply reads."""
    return {
        **{key: body.get(key) for key in ("id", "created", "model", "usage")},
        "choices": sorted((_choice(choice) for choice in body["choices"]), key=lambda choice: choice["index"]),
    }


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice["message"]
    calls = [
        {"id": call.get("id"), **{key: call["function"].get(key) for key in ("name", "arguments")}}
        for call in message.get("tool_calls") or ()
    ]
    logprobs = choice.get("logprobs") or {}
    return {
        "index": choice["index"],
        "finish_reason": choice.get("finish_reason"),
        **{key: message.get(key) or None for key in ("role", "content", "refusal")},
        "calls": calls,
        "tokens": [entry["token"] for entry in logprobs.get("content") or ()],
    }
