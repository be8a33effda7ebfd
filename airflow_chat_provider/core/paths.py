"""JSON paths in errors (``$.messages[0].content``, ``$.logit_bias['50256']``), and the sentence around one."""

from __future__ import annotations

from collections.abc import Container, Iterable

_LONGEST = 64
_UNNAMED = "a key that the schema does not name"


def step(key: object) -> str:
    """One step of a path: an index, an identifier, or a quoted key."""
    if isinstance(key, int):
        return f"[{key}]"
    text = str(key)
    if not text.isprintable():  # half a surrogate pair would break the log that shows the path
        text = text.encode("unicode_escape").decode()
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return f".{text}" if text.isidentifier() and text.isascii() else "['" + text.replace("'", "\\'") + "']"


def join(keys: Iterable[object], root: str = "$") -> str:
    """The path that leads through ``keys``."""
    return root + "".join(map(step, keys))


def join_known(keys: Iterable[object], names: Container[object]) -> str:
    """The path for a reader who must not see the data: ``$.people[2].<a key that the schema does not name>``."""
    return "$" + "".join(step(key) if isinstance(key, int) or key in names else f".<{_UNNAMED}>" for key in keys)


def error_text(path: str, problem: str, remedy: str) -> str:
    """The remedy first: a pager or a log viewer may show no more than that."""
    return f"{remedy[:1].upper()}{remedy[1:]}: {path} {problem}."


def warning_text(path: str, problem: str, remedy: str, places: int) -> str:
    """A warning about one of so many places."""
    first_of = f" (the first of {places} such places)" if places > 1 else ""
    return f"{path} {problem}{first_of}; {remedy}."
