"""What comes in pieces, put together: text is joined, lists are chained, objects are merged."""

from __future__ import annotations

from collections.abc import Iterable
from operator import eq
from typing import Any

from airflow_chat_provider.core.json_text.reading import DEFAULT_LIMIT, SCALAR, allowance, weight
from airflow_chat_provider.core.types import JSON, JSONObject

# Fields that are sent whole, by some servers with every chunk; all other text comes in pieces.
_WHOLE = frozenset({"id", "type", "role", "name", "format", "mime_type", "url"})
_SIGNATURES = frozenset({"signature", "thought_signature"})
# Parts of these types come in pieces, even if no index says which part a piece belongs to.
_GROWING = frozenset({"text", "thinking", "reasoning.text", "reasoning.summary", "output_text", "summary_text"})
# Lists of complete items. Some servers send the list with every chunk, each time with more items.
_SENT_AGAIN = frozenset({"annotations", "citations", "search_results", "images"})


class Overfull(Exception):
    """A chunk has more in it than an answer can. The text says what. All that came before it is kept."""


class Text(list[str]):
    """Text in pieces. They are joined at the end: to join each as it comes would copy all of the text each time."""


class Parts(list[Any]):
    """A list that finds its items by their ``index``: searching would take time that grows with its square."""

    def __init__(self, items: Iterable[JSON] = ()) -> None:
        super().__init__(items)
        self.by_index: dict[Any, JSONObject] = {}

    def find(self, item: JSONObject) -> JSONObject | None:
        """The item that this one continues: the one with its index and type, or the last one if that has its type.

        Items with the same index and different types are not one: OpenRouter numbers Gemini's text and signatures so.
        """
        index, kind = item.get("index"), item.get("type")
        if isinstance(index, int):
            return self.by_index.get((index, kind) if isinstance(kind, str) else index)
        last = self[-1] if self else None
        grows = isinstance(kind, str) and kind in _GROWING
        return last if grows and isinstance(last, dict) and last.get("type") == kind else None

    def note(self, item: JSONObject, target: JSONObject) -> None:
        """An item went into ``target``, which can be found by the item's index from now on."""
        index, kind = item.get("index"), item.get("type")
        if isinstance(index, int):
            self.by_index[index] = target
            if isinstance(kind, str):
                self.by_index[index, kind] = target


class Merger:
    """Puts objects, fields and lists together, and weighs what is kept against the bytes that came.

    ``limit``: see ``reading.allowance``. ``weight`` and ``size`` are those of all that came so far.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._allowed = 0  # as of when it was last looked up: what bytes allow for only grows
        self.weight = 0
        self.size = 0

    @classmethod
    def free(cls) -> Merger:
        """One that allows anything, for what was weighed before."""
        merger = cls(1 << 62)
        merger.size = 1 << 62
        return merger

    def weigh(self, units: int) -> None:
        """Note that something more is kept; raises Overfull."""
        self.weight += units
        if self.weight > self._allowed:
            self._allowed = allowance(self.size, self._limit)
        if self.weight > self._allowed:
            raise Overfull("the stream has more values than max_response_bytes allows for")

    def put(self, kept: JSONObject, key: str, value: JSON) -> None:
        """Set a field, whose old value is not kept."""
        old = kept.get(key)
        if isinstance(value, dict | list) or isinstance(old, dict | list):
            self.weigh(weight(value) - (weight(old) if key in kept else 0))
        elif key not in kept:
            self.weigh(SCALAR)
        kept[key] = value

    def merge_field(self, kept: JSONObject, key: str, value: JSON) -> None:
        """Put more of a field to what is kept of it: what is sent whole is set, and what comes in pieces is joined."""
        old = kept.get(key)
        if value is None:
            if key not in kept:
                self.put(kept, key, None)
        elif isinstance(value, str) and key not in _WHOLE:
            self._add_text(kept, key, value)
        elif isinstance(value, dict):
            if not isinstance(old, dict):
                self.put(kept, key, {})
            for name, item in value.items():
                self.merge_field(kept[key], name, item)
        elif isinstance(value, list):
            self._add_list(kept, key, value)
        elif not old or not (isinstance(value, str) or isinstance(old, list | dict)):
            self.put(kept, key, value)

    def add_text(self, kept: Text, key: str, value: str) -> None:
        """More of a text; a signature may come again with each piece."""
        if value and not (key in _SIGNATURES and kept == [value]):
            self.weigh(SCALAR)
            kept.append(value)

    def _add_text(self, kept: JSONObject, key: str, value: str) -> None:
        old = kept.get(key)
        if isinstance(old, Text):
            self.add_text(old, key, value)
        elif isinstance(old, Parts):  # content that began as a list of parts
            if value:
                self._append_part(old, {"type": "text", "text": value})
        else:
            self.put(kept, key, Text([value]))

    def _add_list(self, kept: JSONObject, key: str, value: list[Any]) -> None:
        items = kept.get(key)
        if not isinstance(items, Parts):
            items = kept[key] = _as_parts(items)
        if key in _SENT_AGAIN:
            if len(value) >= len(items) and all(map(eq, items, value)):  # all that came before once more
                value = value[len(items) :]
            self.weigh(weight(value))
            items += value
            return
        for item in value:
            self._append_part(items, item)

    def chain(self, kept: JSONObject, key: str, value: list[Any]) -> None:
        """Append all items of a list. Each is complete, so none continues another."""
        items = kept.get(key)
        if not isinstance(items, Parts):
            items = kept[key] = Parts()
        self.weigh(weight(value))
        items += value

    def _append_part(self, items: Parts, item: JSON) -> None:
        """Append a list's next item, or put it into the one that it continues."""
        if not isinstance(item, dict):
            self.weigh(weight(item))
            items.append(item)
            return
        target = items.find(item)
        if target is None:
            target = {}
            self.weigh(weight(target))
            items.append(target)
        for key, value in item.items():
            self.merge_field(target, key, value)
        items.note(item, target)


def _as_parts(old: object) -> Parts:
    """What was kept of a field that turns out to be a list."""
    if isinstance(old, Text):
        text = "".join(old)
        return Parts([{"type": "text", "text": Text([text])}] if text else [])
    return Parts(old if isinstance(old, list) else [])


def is_empty(value: object) -> bool:
    """Is it null, or an empty text, list or object?"""
    return value is None or (not value and isinstance(value, str | list | dict))


def joined(value: object) -> Any:
    """A value that came in pieces, as plain JSON."""
    if isinstance(value, Text):
        return "".join(value)
    if isinstance(value, dict):
        return {key: joined(item) for key, item in value.items()}
    return [joined(item) for item in value] if isinstance(value, list) else value
