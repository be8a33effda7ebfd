"""What one fragment of a streamed tool call says."""

from __future__ import annotations

from typing import Any, NamedTuple

OWN = frozenset({"index", "id", "type", "function", "custom"})
INNER = frozenset({"name", "arguments", "input"})


class Fragment(NamedTuple):
    """What one fragment says."""

    raw: dict[str, Any]
    inner: dict[str, Any]
    custom: bool
    id: Any
    number: int | None
    name: str
    arguments: Any

    @property
    def is_head(self) -> bool:
        """Does it say more of a call than its name and arguments?"""
        return bool(self.id or self.raw.get("type"))

    @property
    def blank(self) -> bool:
        """Are there no arguments in it?"""
        return self.arguments is None or (isinstance(self.arguments, str) and not self.arguments.strip())

    @property
    def opens(self) -> bool:
        """Do its arguments begin with a brace?"""
        return isinstance(self.arguments, dict) or (
            isinstance(self.arguments, str) and self.arguments.lstrip()[:1] == "{"
        )


def read_call(raw: dict[str, Any]) -> Fragment:
    """What a call, or a fragment of one, says."""
    function, custom = raw.get("function"), raw.get("custom")
    is_custom = isinstance(custom, dict) and not isinstance(function, dict)
    inner = custom if is_custom else function
    inner = inner if isinstance(inner, dict) else {}
    name, identity = inner.get("name"), raw.get("id")
    usable = isinstance(identity, str | int) and bool(identity)
    return Fragment(
        raw,
        inner,
        is_custom,
        identity if usable else None,
        number_of(raw.get("index")),
        name if isinstance(name, str) else "",
        inner.get("input" if is_custom else "arguments"),
    )


def number_of(index: Any) -> int | None:
    """An index, which some servers write as a text."""
    if isinstance(index, str) and len(index) < 8 and index.strip().isdecimal():
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None
