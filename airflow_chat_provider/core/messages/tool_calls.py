"""Tool calls, as servers write them and as requests take them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from zlib import crc32

from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.json_text.sanitize import sanitize
from airflow_chat_provider.core.types import JSON, JSONObject

# What belongs to a call beside its function, and has to be sent back with it: Gemini refuses a call whose thought
# signature is missing, and LiteLLM keeps the signature in fields of its own.
_KEPT = ("extra_content", "provider_specific_fields", "thought_signature", "thoughtSignature")
# How models write calls. Where such a mark is in the text, the server did not read the call.
_MARKS = (
    "<tool_call>",  # Qwen, Hermes
    "<function=",  # Llama 3, Qwen3-Coder
    "<function_call>",  # GLM's and others' habit
    "[TOOL_CALLS]",  # Mistral
    "<|python_tag|>",  # Llama 3
    "<|tool_call",  # Kimi K2, Granite, Gemma
    "<\uff5ctool\u2581call",  # DeepSeek
    "<minimax:tool_call>",  # MiniMax
)
_OWN_KINDS = ("builtin_function",)  # Moonshot's $web_search, whose function stands under "function" all the same


class Called(NamedTuple):
    """A tool call by its parts, as they came. ``doubt`` says so if the ``id`` was made up here."""

    id: str
    kind: str
    function: JSONObject
    raw: JSONObject
    doubt: str | None = None

    @property
    def name(self) -> str:
        name = self.function.get("name")
        return name.strip() if isinstance(name, str) else ""

    @property
    def arguments(self) -> JSON:
        """A custom tool's ``input`` is text of any form."""
        return self.function.get("arguments", self.function.get("input"))


def called(message: Mapping[str, JSON]) -> Iterator[Called]:
    """The calls in a message's ``tool_calls``, each with a unique id.

    A missing or repeated id is replaced by one that is computed from the call, so that the same message always gets the
    same ids. It has nine letters and digits, because Mistral takes no other ids.
    """
    calls = message.get("tool_calls")
    raws = [raw for raw in calls if isinstance(raw, dict)] if isinstance(calls, list | tuple) else []
    given = {identity for raw in raws if (identity := _id(raw))}
    used: set[str] = set()
    for number, raw in enumerate(raws):
        kind, function = _function(raw)
        name = own = _id(raw)
        while not name or name in used or (name != own and name in given):
            seed = f"{number} {name} {function.get('name')} {as_text(function.get('arguments'))}"
            name = f"c{crc32(seed.encode('utf-8', 'replace')):08x}"
        used.add(name)
        why = f"has {'no id of its own' if own else 'no id'}: it is called {name} here and in messages"
        yield Called(name, kind, function, raw, why if name != own else None)


def is_unread(text: str) -> bool:
    """Does the text hold a tool call that the server did not recognise?"""
    return any(mark in text for mark in _MARKS)


def requested(message: Mapping[str, JSON]) -> list[JSONObject]:
    """A message's tool calls in the form of a request. A call without a name and without arguments is left out."""
    return [_requested(call) for call in called(message) if call.name or call.arguments]


def requested_function(function: JSON) -> JSONObject | None:
    """The deprecated ``function_call`` in the form of a request; None if it calls nothing."""
    if not isinstance(function, dict) or not (function.get("name") or function.get("arguments")):
        return None
    name = function.get("name")
    return {"name": name if isinstance(name, str) else "", "arguments": as_text(function.get("arguments"))}


def read_arguments(arguments: JSON) -> tuple[Any, str | None]:
    """A function's arguments, and their form if it was not JSON text. Raises ValueError and TypeError.

    Null, an empty text and an empty list (some languages cannot tell it from an object) mean no arguments.
    """
    value, doubt = arguments, None
    if isinstance(arguments, str) and arguments.strip():
        value = loads(arguments)
        if isinstance(value, str):
            value, doubt = _twice(value)
    elif isinstance(arguments, dict):
        doubt = "came as an object, not as JSON text"
    elif arguments is not None and not isinstance(arguments, str | list):
        raise TypeError
    return ({} if value in (None, "", []) or (isinstance(value, str) and not value.strip()) else value), doubt


def how_arguments_came(arguments: JSON) -> str | None:
    """The form in which arguments came, if it was not JSON text; None for JSON text and for what cannot be read."""
    try:
        return read_arguments(arguments)[1]
    except (ValueError, TypeError):
        return None


def _twice(text: str) -> tuple[Any, str | None]:
    try:
        value = loads(text) if text.strip() else {}
    except ValueError:
        return text, None
    return (value, "came as JSON text within JSON text") if isinstance(value, dict) else (text, None)


def as_text(arguments: JSON) -> str:
    """Arguments in the form of a request: the JSON text of an object. Text that is not JSON is left as it is."""
    try:
        value, doubt = read_arguments(arguments)
    except (ValueError, TypeError):
        return arguments if isinstance(arguments, str) else _dump(arguments)
    return arguments if isinstance(arguments, str) and doubt is None and value else _dump(value)


def tool_answer(call_id: str | None, name: str, content: str) -> JSONObject:
    """The message that answers a tool call, or a function call of the older kind, which has no id."""
    if call_id is None:
        return {"role": "function", "name": name, "content": content}
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _dump(value: JSON) -> str:
    return json.dumps(sanitize(value)[0], ensure_ascii=False)  # not NaN, nor a number of thousands of digits


def _id(raw: JSONObject) -> str:
    name = raw.get("id")
    return str(name) if isinstance(name, str | int) and not isinstance(name, bool) else ""


def _function(raw: JSONObject) -> tuple[str, JSONObject]:
    """The kind of a call and its function, told by its content: its ``type`` may be null, empty, "null" or missing."""
    kind = raw.get("type")
    for own in (kind if isinstance(kind, str) else "", "function", "custom"):
        function = raw.get(own)
        if isinstance(function, dict):
            return own, function
    return "function", raw if isinstance(raw.get("name"), str) else {}


def _requested(call: Called) -> JSONObject:
    kept = {name: call.raw[name] for name in _KEPT if call.raw.get(name)}
    if call.kind == "custom":
        text = "" if call.arguments is None else call.arguments
        function = {"name": call.name, "input": text if isinstance(text, str) else _dump(text)}
        return {"id": call.id, "type": "custom", "custom": function, **kept}
    inner = {name: call.function[name] for name in _KEPT if call.function is not call.raw and call.function.get(name)}
    kind = call.raw.get("type")
    return {
        "id": call.id,
        "type": kind if kind in _OWN_KINDS else "function",
        "function": {"name": call.name, "arguments": as_text(call.arguments), **inner},
        **kept,
    }
