"""What a server says of an error, without the key and the prompt that it may quote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SHOWN = 300
_RUN = 16  # characters in a row that no server says by chance as the prompt says them


class Scrubber:
    """Callable that shortens a server's text and blanks each run of it that stands in the request or is a secret."""

    def __init__(self, request: Any = None, secrets: tuple[str, ...] = ()) -> None:
        self._request = request
        self._secrets = tuple(secret for secret in secrets if secret)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        cut = len(text) > 2 * _SHOWN
        text = printable(text[: 2 * _SHOWN])
        for prompt in _texts(self._request):
            text = _blank(text, prompt)
        if cut:  # what is left of a quotation at the end may be too short to be known as one
            before, blank, tail = text.rpartition("***")
            text = before + blank + tail[:-_RUN]
        text = " ".join(text.split())
        return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def printable(text: str) -> str:
    """``text`` with spaces for what cannot be shown; half a surrogate pair in an error's text ends Airflow's worker."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def _texts(request: Any) -> Iterator[str]:
    """Each text that the request holds and a server might quote: contents and arguments, not names and models."""
    messages = request.get("messages") if isinstance(request, Mapping) else None
    stack = list(messages) if isinstance(messages, list) else []
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str) and len(item) >= 4:
            yield item


def _blank(text: str, prompt: str) -> str:
    """``text`` with every run of it that stands in ``prompt`` (and is long enough to say something) as ``***``."""
    flat = printable(prompt)
    if len(flat) < _RUN:
        return text.replace(flat, "***") if " " in flat else text
    out, start = [], 0
    while start < len(text):
        end = start + _RUN
        if end > len(text) or text[start:end] not in flat:
            out.append(text[start])
            start += 1
            continue
        while end < len(text) and text[start : end + 1] in flat:
            end += 1
        out.append("***")
        start = end
    return "".join(out)
