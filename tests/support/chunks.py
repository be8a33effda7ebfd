"""Chunks for tests, and what they come to."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.call.chunks.assembly import Assembly

FIRST = {"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m"}


def body(*chunks: dict[str, Any]) -> dict[str, Any]:
    assembly = Assembly()
    for chunk in chunks:
        assembly.add(chunk)
    return assembly.body()


def choice(delta: Any, index: int = 0, **more: Any) -> dict[str, Any]:
    return {**FIRST, "choices": [{"index": index, "delta": delta, **more}]}


def message(*deltas: Any) -> dict[str, Any]:
    """The message of one choice's deltas."""
    made: dict[str, Any] = body(*[choice(delta) for delta in deltas])["choices"][0]["message"]
    return made


def calls(*fragments: dict[str, Any]) -> Any:
    """The tool calls that fragments come to, each in a chunk of its own."""
    return message(*[{"tool_calls": [fragment]} for fragment in fragments])["tool_calls"]


def fragment(arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    return {**more, "function": function}


def call(identity: str | None, name: str, arguments: str) -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}
