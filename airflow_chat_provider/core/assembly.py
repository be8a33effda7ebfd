"""A stream's chunks put together into the body that the same call returns unstreamed."""

from __future__ import annotations

from typing import Any

_DROPPED = frozenset({"choices", "object", "obfuscation", "error"})
# Sent whole, by some servers with every chunk again; all other text comes in pieces.
_WHOLE = frozenset({"id", "type", "role", "name", "format"})


class Assembly:
    """``add`` each chunk; ``finished`` when every choice has its finish_reason, ``body`` is the completion so far.

    Fields that are unknown here are kept: text is joined, lists are chained, objects are merged.
    """

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, chunk: dict[str, Any]) -> None:
        """Take one parsed chunk in."""
        for key, value in chunk.items():
            if key not in _DROPPED and (value not in (None, "") or key not in self._top):
                self._top[key] = value
        choices = chunk.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                index = choice.get("index")
                index = index if isinstance(index, int) else position
                _add_choice(self._choices.setdefault(index, {"message": {}}), choice)

    @property
    def empty(self) -> bool:
        return not self._top and not self._choices

    @property
    def finished(self) -> bool:
        return bool(self._choices) and all(choice.get("finish_reason") for choice in self._choices.values())

    def body(self) -> dict[str, Any]:
        top = dict(self._top)
        if not top.get("usage"):
            groq = top.get("x_groq")
            top["usage"] = groq.get("usage") if isinstance(groq, dict) else None
            if top["usage"] is None:
                del top["usage"]
        choices = [_choice(index, choice) for index, choice in sorted(self._choices.items())]
        return {**top, "object": "chat.completion", "choices": choices}


class _Text(list[str]):
    """Text in pieces: joined at the end, or 20,000 pieces would be copied 20,000 times."""


def _add_choice(kept: dict[str, Any], choice: dict[str, Any]) -> None:
    for key, value in choice.items():
        if key in ("delta", "message"):
            _merge(kept["message"], value if isinstance(value, dict) else {})
        elif key == "logprobs":
            _merge_field(kept, key, value)
        elif key != "index" and (value not in (None, "") or key not in kept):
            old = kept.get(key)  # Azure's last content_filter_results is empty
            kept[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value


def _choice(index: int, kept: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, **_joined(kept["message"])}
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        call.pop("index", None)
    return {"finish_reason": None, **_joined(kept), "index": index, "message": message}


def _joined(value: Any) -> Any:
    if isinstance(value, _Text):
        return "".join(value)
    if isinstance(value, dict):
        return {key: _joined(item) for key, item in value.items()}
    return [_joined(item) for item in value] if isinstance(value, list) else value


def _merge(kept: dict[str, Any], delta: dict[str, Any]) -> None:
    for key, value in delta.items():
        if key == "tool_calls" and isinstance(value, list):
            _merge_calls(kept, value)
        else:
            _merge_field(kept, key, value)


def _merge_field(kept: dict[str, Any], key: str, value: Any) -> None:
    old = kept.get(key)
    if value is None:
        kept.setdefault(key, None)
    elif isinstance(value, str) and key not in _WHOLE:
        if isinstance(old, _Text):
            old.append(value)
        elif isinstance(old, list):  # content that began as a list of parts
            if value:
                _append_part(old, {"type": "text", "text": value})
        else:
            kept[key] = _Text([value])
    elif isinstance(value, dict):
        kept[key] = old if isinstance(old, dict) else {}
        _merge(kept[key], value)
    elif isinstance(value, list):
        kept[key] = _as_list(old)
        for item in value:
            _append_part(kept[key], item)
    elif not old or not isinstance(value, str):
        kept[key] = value


def _as_list(old: Any) -> list[Any]:
    if isinstance(old, _Text):
        text = "".join(old)
        return [{"type": "text", "text": _Text([text])}] if text else []
    return old if isinstance(old, list) else []


def _append_part(items: list[Any], item: Any) -> None:
    """Chain a list's next item; one with the index, or the type, of an item that is still growing goes into that."""
    if isinstance(item, dict):
        index = item.get("index")
        target = next((old for old in items if isinstance(old, dict) and old.get("index") == index), None)
        if not isinstance(index, int):
            grows = "type" in item and items and isinstance(items[-1], dict) and items[-1].get("type") == item["type"]
            target = items[-1] if grows and item["type"] in ("text", "thinking") else None
        if target is not None:
            _merge(target, item)
            return
        fresh: dict[str, Any] = {}
        _merge(fresh, item)
        item = fresh
    items.append(item)


def _merge_calls(kept: dict[str, Any], calls: list[Any]) -> None:
    known = kept.get("tool_calls")
    if type(known) is not list:
        known = kept["tool_calls"] = []
    for call in calls:
        if isinstance(call, dict):
            target = _call(known, call)
            if target is None:
                known.append(target := {})
            _merge(target, call)


def _call(known: list[dict[str, Any]], call: dict[str, Any]) -> dict[str, Any] | None:
    """The call that a fragment continues; None for a new one.

    By ``index``. Gemini sends none, and whole calls; others send 0 with every call, and tell them apart by ``id``.
    """
    index, name = call.get("index"), call.get("id")
    named = next((old for old in known if name and old.get("id") == name), None)
    if named is not None:
        return named
    if isinstance(index, int):
        last = next((old for old in reversed(known) if old.get("index") == index), None)
        return None if last is not None and name and last.get("id") else last
    function = call.get("function")
    begins = name or (isinstance(function, dict) and function.get("name"))
    return None if begins or not known else known[-1]
