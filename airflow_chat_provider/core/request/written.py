"""What the author of a DAG wrote for a request, before any template is rendered: a null that stands there is meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Path = tuple[str | int, ...]
Meant = Callable[[Path], bool]


class Written(NamedTuple):
    """The arguments ``request`` (parsed, if it is a text or a file) and ``messages``; None for one that is data."""

    request: Any = None
    messages: Any = None

    def nulls(self, folded: object, arguments: Mapping[str, Any]) -> Meant:
        """A test for paths of ``folded``, the request made of these arguments: did the author write a null there?"""
        own = self.messages
        if arguments.get("messages") is None and isinstance(self.request, Mapping):
            own = self.request.get("messages")
        there = folded.get("messages") if isinstance(folded, Mapping) else None
        appended = 1 if arguments.get("prompt") is not None else 0
        # A system prompt may stand before them all.
        before = len(there) - len(own) - appended if isinstance(there, list) and isinstance(own, list | tuple) else -1

        def meant(path: Path) -> bool:
            if path[0] != "messages":
                return _is_null(self.request, path)
            index = path[1] if len(path) > 1 else None
            if not isinstance(index, int) or index < before or before < 0:
                return False
            return _is_null(own, (index - before, *path[2:]))

        return meant


def _is_null(value: object, path: Path) -> bool:
    for key in path:
        if not isinstance(value, Mapping | list | tuple):
            return False
        holder: Any = value
        try:
            value = holder[key]
        except (LookupError, TypeError):
            return False
    return value is None
