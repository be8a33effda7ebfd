"""JSON paths as errors show them: ``$.messages[0].content``, ``$.logit_bias['50256']``."""

from __future__ import annotations

from collections.abc import Iterable


def step(key: object) -> str:
    """One step of a path: an index, an identifier, or a quoted key."""
    if isinstance(key, int):
        return f"[{key}]"
    text = str(key)
    if not text.isprintable():  # half a surrogate pair would break the log that shows the path
        text = text.encode("unicode_escape").decode()
    if text.isidentifier() and text.isascii():
        return f".{text}"
    return "['" + (text if len(text) <= 64 else text[:61] + "...").replace("'", "\\'") + "']"


def join(keys: Iterable[object], root: str = "$") -> str:
    """The path that leads through ``keys``."""
    return root + "".join(map(step, keys))
