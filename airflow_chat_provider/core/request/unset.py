"""What a template gave for a field that was left empty: None or an empty text, where neither can be meant."""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow_chat_provider.core.paths import join
from airflow_chat_provider.core.request.coerce import Node
from airflow_chat_provider.core.request.written import Meant, Path

_TEXTS = ("model", "stop")  # of the request; an empty one is refused by every server, whatever the schema


class _Walk(NamedTuple):
    """``found``: the paths of empty texts that are left out."""

    found: list[Path]
    is_meant: Meant


def _nothing(path: Path) -> bool:  # noqa: ARG001 - of any path
    return False


def without_unset(request: Any, node: Node | None, is_meant: Meant = _nothing) -> tuple[Any, list[str]]:
    """A request in its types without optional properties that are not set, and the paths of those with an empty text.

    Not set is None where the schema has no null, and an empty text where no text may stand, or no empty one.
    ``is_meant``: the paths of nulls that stay all the same.
    """
    empty = [key for key in _TEXTS if isinstance(request, dict) and _is_empty(request.get(key), blank=key == "model")]
    if empty:
        request = {key: item for key, item in request.items() if key not in empty}
    found: list[Path] = [(key,) for key in empty]
    return _without(request, node, (), _Walk(found, is_meant)), [join(path) for path in found]


def is_blank(value: Any) -> bool:
    """Is it a text with nothing in it?"""
    return isinstance(value, str) and not value.strip()


def _is_empty(value: Any, *, blank: bool) -> bool:
    return is_blank(value) if blank else value == "" and isinstance(value, str)


def _without(value: Any, node: Node | None, path: Path, walk: _Walk) -> Any:
    if node is None or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        child = node.child(0)
        items = [_without(item, child, (*path, index), walk) for index, item in enumerate(value)]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    node = node.branch(value) if node.by else node
    kept = {}
    for key, item in value.items():
        child = node.child(key)
        if child is None or not _is_unset(item, child) or node.requires(key):
            kept[key] = _without(item, child, (*path, key), walk) if isinstance(item, dict | list) else item
        elif item is not None:
            walk.found.append((*path, key))
        elif walk.is_meant((*path, key)):
            kept[key] = None
    return kept if len(kept) < len(value) or any(kept[key] is not item for key, item in value.items()) else value


def _is_unset(value: Any, node: Node) -> bool:
    if node.types is None:
        return False
    if value is None:
        return "null" not in node.types
    if not is_blank(value):
        return False
    return "string" not in node.types or (not value and not node.takes_empty_text)
