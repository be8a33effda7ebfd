"""What a template gave for a field that was left empty: None or an empty text, where neither can be meant."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.paths import step
from airflow_chat_provider.core.typed import Node

_TEXTS = ("model", "stop")  # of the request; an empty one is refused by every server, whatever the schema


def without_unset(request: Any, node: Node | None) -> tuple[Any, list[str]]:
    """A request in its types without optional properties that are not set, and the paths of those with an empty text.

    Not set is None where the schema has no null, and an empty text where no text may stand, or no empty one.
    """
    found: list[str] = []
    if isinstance(request, dict):
        empty = [key for key in _TEXTS if _is_empty(request.get(key), blank=key == "model")]
        found = ["$" + step(key) for key in empty]
        request = {key: item for key, item in request.items() if key not in empty} if empty else request
    return _without(request, node, "$", found), found


def is_blank(value: Any) -> bool:
    """Is it a text with nothing in it?"""
    return isinstance(value, str) and not value.strip()


def _is_empty(value: Any, *, blank: bool) -> bool:
    return is_blank(value) if blank else value == "" and isinstance(value, str)


def _without(value: Any, node: Node | None, path: str, found: list[str]) -> Any:
    if node is None:
        return value
    if isinstance(value, list):
        items = [_without(item, node.child(0), f"{path}[{index}]", found) for index, item in enumerate(value)]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    if not isinstance(value, dict):
        return value
    node = node.branch(value) if node.by else node
    kept = {}
    for key, item in value.items():
        child = node.child(key)
        if child is None or node.requires(key) or not _is_unset(item, child):
            kept[key] = _without(item, child, path + step(key), found)
        elif item is not None:
            found.append(path + step(key))
    return kept if len(kept) < len(value) or any(kept[key] is not item for key, item in value.items()) else value


def _is_unset(value: Any, node: Node) -> bool:
    if node.types is None:
        return False
    if value is None:
        return "null" not in node.types
    if not is_blank(value):
        return False
    return "string" not in node.types or (not value and not node.takes_empty_text)
