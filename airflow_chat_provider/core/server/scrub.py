"""A server's words without what they may quote: the key, and the prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from airflow_chat_provider.core.connection.settings import maskable
from airflow_chat_provider.core.types import JSON

_SHOWN = 300
_LOOKED_AT = 2 * _SHOWN  # characters of a server's text
_RUN = 16  # characters in a row that no server says by chance as the prompt says them
_BLOCK = _RUN // 2
_PIECE = 1 << 16  # characters of the prompt that are looked through at a time
_WALKED = 1 << 24  # characters of the prompt that are looked through at all: a fifth of a second
_WORD = 4  # letters of a prompt that is a single word and yet says something
_SLUG = r"[\w.:/+=@-]{1,128}"
_ESCAPED = (("\\n", " "), ("\\r", " "), ("\\t", " "), ('\\"', '"'))
# What stands under these names in a message is not the author's, unless it is long.
_STRUCTURE = frozenset({"role", "type", "id", "tool_call_id", "detail", "format"})


class Scrubber:
    """Call it with a server's text to shorten that, and to blank what it quotes: secrets, and texts of the request.

    Each run of 16 characters that also stands in the request becomes ``***``. So does a whole text of the request that
    is shorter than that: several words wherever they stand, a single word of four letters or more where it stands as a
    word. Shorter words (``a``, ``the``) are left, because they tell nothing of the request. The time that this takes is
    linear in the request's length.
    """

    def __init__(self, request: JSON = None, secrets: tuple[str, ...] = ()) -> None:
        self._request = request
        self._secrets = tuple(filter(maskable, secrets))

    def __call__(self, text: str) -> str:
        cut = len(text) > _LOOKED_AT
        text = _unescaped(printable(self._without_secrets(text)))  # it may be a quotation in JSON
        text = _Blanks(text).without(_texts(self._request))
        if cut:  # a quotation that was cut off may be too short to be known as one
            before, blank, tail = text.rpartition("***")
            text = before + blank + tail[:-_RUN]
        text = " ".join(text.split())
        return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."

    def name(self, text: str) -> str:
        """A server's code or identifier. A single word is not looked for within the request's longer texts."""
        if re.fullmatch(_SLUG, text) is None:
            return self(text)
        blanks = _Blanks(self._without_secrets(text))
        for own in _texts(self._request):
            if len(own) < _RUN:
                blanks.hide_short(own)
        return blanks.shown()

    def _without_secrets(self, text: str) -> str:
        """The text's beginning. A secret may go on where it ends."""
        blanks = _Blanks(text[: _LOOKED_AT + max(map(len, self._secrets), default=0)])
        for secret in self._secrets:
            blanks.hide_all(secret)
        return blanks.shown(_LOOKED_AT)


def printable(text: str) -> str:
    """``text`` with spaces for characters that cannot be shown, or that change the direction of writing.

    Half a surrogate pair is one of them: in an error's text it ends Airflow's worker.
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def _texts(request: JSON) -> Iterator[str]:
    """Each text of the request that a server might quote: contents and arguments, not roles and models."""
    stack: list[Any] = []
    if isinstance(request, dict):
        messages = request.get("messages")
        stack = [*(messages if isinstance(messages, list) else ()), request.get("prediction")]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            tool = "arguments" in item or item.get("role") in ("tool", "function")
            skipped = {*_STRUCTURE, "name"} if tool else _STRUCTURE
            stack.extend(
                value
                for key, value in item.items()
                if not (isinstance(value, str) and len(value) < _RUN and key in skipped)
            )
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str):
            yield item
        elif isinstance(item, bytes):  # of an attachment: base64, or text with JSON's escapes
            yield _unescaped(item.decode())


def _unescaped(text: str) -> str:
    for escape, plain in _ESCAPED:
        text = text.replace(escape, plain)
    return text


class _Blanks:
    """A server's text, and which of its characters must not be shown."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._hidden = bytearray(len(text))

    def shown(self, length: int | None = None) -> str:
        """The text, or its beginning, with ``***`` for each run that is hidden."""
        pieces = re.split(b"(\x01+)", self._hidden[:length])
        out, at = [], 0
        for piece in pieces:
            out.append("***" if piece[:1] == b"\x01" else self._text[at : at + len(piece)])
            at += len(piece)
        return "".join(out)

    def hide_all(self, part: str) -> None:
        """Hide a text wherever it stands."""
        at = self._text.find(part)
        while at >= 0:
            self._hide(at, len(part))
            at = self._text.find(part, at + 1)

    def hide_short(self, own: str) -> None:
        """Hide a whole text of the request that is shorter than a run."""
        own = printable(own).strip()
        if " " in own:
            if len(own) >= _WORD:
                self.hide_all(own)
        elif len(own) >= (_WORD if own.isascii() else 2) and own in self._text:
            # Where an edge is not ASCII, no space is due beside it: not every language has them.
            before = r"(?<![A-Za-z0-9_])" if own[0].isascii() and own[0].isalnum() else ""
            after = r"(?![A-Za-z0-9_])" if own[-1].isascii() and own[-1].isalnum() else ""
            for found in re.finditer(before + re.escape(own) + after, self._text):
                self._hide(found.start(), len(own))

    def without(self, texts: Iterator[str]) -> str:
        """The text without its quotations of others."""
        runs: dict[str, list[int]] = {}
        for at in range(len(self._text) - _RUN + 1):
            runs.setdefault(self._text[at : at + _RUN], []).append(at)
        walked = 0
        for own in texts:
            if len(own) < _RUN:
                self.hide_short(own)
                continue
            walked += len(own)
            for start in range(0, len(own), _PIECE):
                if not runs:
                    break
                if walked > _WALKED:
                    return "(not shown: the request is too long to check whether this quotes it)"
                self._hide_runs(own, start, runs)
        return self.shown()

    def _hide_runs(self, own: str, start: int, runs: dict[str, list[int]]) -> None:
        """Hide each run that stands in a piece of ``own``, and take it from ``runs``.

        Of 16 characters in a row, 8 are a block that begins at a multiple of 8: only these are looked up, and what is
        around one is looked at where it was found.
        """
        blocks = {run[at : at + _BLOCK] for run in runs for at in range(_BLOCK + 1)}
        first = min(start, _BLOCK)
        piece = own[start - first : start + _PIECE + _BLOCK]
        for char in "\n\r\t":
            piece = piece.replace(char, " ")
        found = [at for at in range(first, first + _PIECE, _BLOCK) if piece[at : at + _BLOCK] in blocks]
        for around in {piece[max(0, at - _BLOCK) : at + _RUN] for at in found}:
            for begin in range(_BLOCK + 1):
                for place in runs.pop(around[begin : begin + _RUN], ()):
                    self._hide(place, _RUN)

    def _hide(self, at: int, length: int) -> None:
        self._hidden[at : at + length] = b"\x01" * length
