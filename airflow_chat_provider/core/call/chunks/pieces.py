"""What comes in pieces, put together: text is joined, lists are chained, objects are merged."""

from __future__ import annotations

from operator import eq
from typing import Any

from airflow_chat_provider.core.json_text.reading import DEFAULT_LIMIT, SCALAR, allowance, weight

# Sent whole, by some servers with every chunk again; all other text comes in pieces.
_WHOLE = frozenset({"id", "type", "role", "name", "format", "mime_type", "url"})
_SIGNATURES = frozenset({"signature", "thought_signature"})
# Parts of these types come in pieces also where no index says which they belong to.
_GROWING = frozenset({"text", "thinking", "reasoning.text", "reasoning.summary", "output_text", "summary_text"})
# Lists of whole things, which some servers send again, and longer, with every chunk.
_SENT_AGAIN = frozenset({"annotations", "citations", "search_results", "images"})


class Overfull(Exception):
    """The chunk holds more than an answer can; its text says what. All that came before it is kept."""


class Scale:
    """Weighs what is kept against the bytes that came; ``limit``: see ``reading.allowance``."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._allowed = 0  # when it was last looked up: what bytes allow for only grows
        self.weight = 0
        self.size = 0

    @classmethod
    def free(cls) -> Scale:
        """For what was weighed before."""
        scale = cls(1 << 62)
        scale.size = 1 << 62
        return scale

    def weigh(self, units: int) -> None:
        self.weight += units
        if self.weight > self._allowed:
            self._allowed = allowance(self.size, self._limit)
        if self.weight > self._allowed:
            raise Overfull("the stream holds more values than max_response_bytes allows for")

    def put(self, kept: dict[str, Any], key: str, value: Any) -> None:
        """Set a field, whose old value is not kept."""
        old = kept.get(key)
        if isinstance(value, dict | list) or isinstance(old, dict | list):
            self.weigh(weight(value) - (weight(old) if key in kept else 0))
        elif key not in kept:
            self.weigh(SCALAR)
        kept[key] = value


class Text(list[str]):
    """Text in pieces: joined at the end, or 20,000 pieces would be copied 20,000 times."""


class Parts(list[Any]):
    """A list, and those of its items that have an ``index``: not searched for, or the time would be a square."""

    def __init__(self, items: Any = ()) -> None:
        super().__init__(items)
        self.by_index: dict[Any, dict[str, Any]] = {}

    def find(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """The item that this one continues: the one of its index and type, or the last where that has its type.

        Two items of one index and different types are two: OpenRouter numbers Gemini's text and signatures so.
        """
        index, kind = item.get("index"), item.get("type")
        if isinstance(index, int):
            return self.by_index.get((index, kind) if isinstance(kind, str) else index)
        last = self[-1] if self else None
        grows = isinstance(kind, str) and kind in _GROWING
        return last if grows and isinstance(last, dict) and last.get("type") == kind else None

    def note(self, item: dict[str, Any], target: dict[str, Any]) -> None:
        """An item went into ``target``: what that can be found by from now on."""
        index, kind = item.get("index"), item.get("type")
        if isinstance(index, int):
            self.by_index[index] = target
            if isinstance(kind, str):
                self.by_index[index, kind] = target


class Merger:
    """Puts objects, fields and lists together; ``scale`` weighs what is kept."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale

    def merge(self, kept: dict[str, Any], delta: dict[str, Any]) -> None:
        for key, value in delta.items():
            self.merge_field(kept, key, value)

    def merge_field(self, kept: dict[str, Any], key: str, value: Any) -> None:
        old = kept.get(key)
        if value is None:
            if key not in kept:
                self.scale.put(kept, key, None)
        elif isinstance(value, str) and key not in _WHOLE:
            self._add_text(kept, key, value)
        elif isinstance(value, dict):
            if not isinstance(old, dict):
                self.scale.put(kept, key, {})
            self.merge(kept[key], value)
        elif isinstance(value, list):
            self._add_list(kept, key, value)
        elif not old or not (isinstance(value, str) or isinstance(old, list | dict)):
            self.scale.put(kept, key, value)

    def add_text(self, kept: Text, key: str, value: str) -> None:
        """More of a text; a signature may come again with each piece."""
        if value and not (key in _SIGNATURES and kept == [value]):
            self.scale.weigh(SCALAR)
            kept.append(value)

    def _add_text(self, kept: dict[str, Any], key: str, value: str) -> None:
        old = kept.get(key)
        if isinstance(old, Text):
            self.add_text(old, key, value)
        elif isinstance(old, Parts):  # content that began as a list of parts
            if value:
                self._append_part(old, {"type": "text", "text": value})
        else:
            self.scale.put(kept, key, Text([value]))

    def _add_list(self, kept: dict[str, Any], key: str, value: list[Any]) -> None:
        old = kept.get(key)
        items = kept[key] = old if isinstance(old, Parts) else _as_parts(old)
        if key in _SENT_AGAIN:
            if len(value) >= len(items) and all(map(eq, items, value)):  # all that came before once more
                value = value[len(items) :]
            self.scale.weigh(weight(value))
            items += value
            return
        for item in value:
            self._append_part(items, item)

    def chain(self, kept: dict[str, Any], key: str, value: list[Any]) -> None:
        """A list whose items are whole."""
        items = kept.get(key)
        if not isinstance(items, Parts):
            items = kept[key] = Parts()
        self.scale.weigh(weight(value))
        items += value

    def _append_part(self, items: Parts, item: Any) -> None:
        """Chain a list's next item; or put it into the one that it continues."""
        if not isinstance(item, dict):
            self.scale.weigh(weight(item))
            items.append(item)
            return
        target = items.find(item)
        if target is None:
            target = {}
            self.scale.weigh(weight(target))
            items.append(target)
        self.merge(target, item)
        items.note(item, target)


def _as_parts(old: Any) -> Parts:
    if isinstance(old, Text):
        text = "".join(old)
        return Parts([{"type": "text", "text": Text([text])}] if text else [])
    return Parts(old if isinstance(old, list) else [])


def is_empty(value: Any) -> bool:
    """Does a field say nothing?"""
    return value is None or (not value and isinstance(value, str | list | dict))


def joined(value: Any) -> Any:
    """A value that came in pieces, as plain JSON."""
    if isinstance(value, Text):
        return "".join(value)
    if isinstance(value, dict):
        return {key: joined(item) for key, item in value.items()}
    return [joined(item) for item in value] if isinstance(value, list) else value
