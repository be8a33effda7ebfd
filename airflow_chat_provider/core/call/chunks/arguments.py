"""The arguments of a streamed tool call: where they end, and what their pieces come to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from airflow_chat_provider.core.call.chunks.text import grows
from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.json_text.reading import LARGE
from airflow_chat_provider.core.json_text.writing import write_json

_IN_TEXT = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')
_BEFORE_VALUES = (":", ",", "[")
_ENOUGH = 3  # characters of an object's beginning that no object has within
_JOINED = 1 << 16  # characters that are tried together
_LOOKED_AT = 1 << 18  # characters that are looked at before one decision


class Progress:
    """How far JSON in pieces has come. Pieces are looked at only when it is asked, each once."""

    __slots__ = ("_at", "_depth", "_escaped", "_guessed", "_in_text", "_last")

    def __init__(self) -> None:
        self._at = 0  # of the pieces
        self._depth = 0
        self._in_text = False
        self._escaped = False
        self._last = ""  # the last character that stands in no text
        self._guessed = False

    def look(self, pieces: Sequence[str]) -> None:
        """Take in the pieces that came since the last time."""
        new = pieces[self._at :]
        self._at = len(pieces)
        if self._guessed or sum(map(len, new)) > _LOOKED_AT:  # no step may be long: by its last character, from now on
            self._guessed = True
            self._last = next((last for piece in reversed(new) if (last := piece.rstrip()[-1:])), self._last)
            return
        for at, piece in enumerate(new, self._at - len(new)):
            if at and piece.startswith(pieces[0]) and self._is_so_far(pieces[at - 1], piece):
                self._depth, self._in_text, self._escaped = 0, False, False
            self._scan(piece)

    def _is_so_far(self, before: str, piece: str) -> bool:
        """Does a piece hold all that came before it? No object begins right after a brace, or within itself."""
        again = before[:1] == "{" and piece.startswith(before)
        return again and (len(before) >= _ENOUGH or not (self._in_text or self._last in _BEFORE_VALUES))

    @property
    def begun(self) -> bool:
        return self._in_text or self._last != ""

    @property
    def whole(self) -> bool:
        """Is every bracket and text closed?"""
        if self._guessed:
            return self._last == "}"
        return self._last != "" and not self._in_text and self._depth <= 0

    @property
    def takes_object(self) -> bool:
        """May a brace stand next?"""
        return self._guessed or self._in_text or self._last in _BEFORE_VALUES

    def _scan(self, piece: str) -> None:
        at, end = 0, len(piece)
        while at < end:
            if self._escaped:
                self._escaped, at = False, at + 1
                continue
            found = (_IN_TEXT if self._in_text else _OUTSIDE).search(piece, at)
            if not self._in_text:
                outside = piece[at : found.start() if found else end].rstrip()
                self._last = outside[-1:] or self._last
            if found is None:
                return
            self._mark(found[0])
            at = found.end()

    def _mark(self, mark: str) -> None:
        if mark == "\\":
            self._escaped = True
        elif mark == '"':
            self._in_text, self._last = not self._in_text, mark
        else:
            self._depth += 1 if mark in "{[" else -1
            self._last = mark


def _parsed(text: str) -> Any:
    """A JSON object, or a text that holds one; None for anything else."""
    if len(text) > LARGE:
        return None
    try:
        value = loads(text)
        if isinstance(value, str):
            value = loads(value)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def parses(text: str) -> bool:
    """Are these whole arguments, as far as can be told at once?"""
    return not text.strip() or len(text) > LARGE or _parsed(text) is not None


def come_together(pieces: Sequence[str], objects: Sequence[Any]) -> bool:
    """Are these the pieces of one call's arguments?"""
    if sum(map(len, pieces)) > _JOINED:
        return False
    text, sure = arguments_text(pieces, objects)
    return sure and _parsed(text) is not None


def same_arguments(one: Any, other: Any) -> bool:
    """Do two texts hold the same arguments?"""
    if one == other:
        return True
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    mine = _parsed(one)
    return mine is not None and mine == _parsed(other)


def arguments_text(pieces: Sequence[str], objects: Sequence[Any]) -> tuple[str, bool]:
    """The arguments as JSON text, and whether that is beyond doubt.

    Some servers send the whole once more at the end, or so far with each piece, or ``{}`` before they begin: such a
    reading counts where it is JSON and the pieces together are not.
    """
    text = "".join(pieces)
    if objects:
        return _of_objects(text, objects)
    if len(pieces) < 2:
        return text, True
    last, before = pieces[-1], text[: len(text) - len(pieces[-1])]
    if grows(pieces) and _parsed(text) is None and _parsed(last) is not None:
        return last, True
    if len(text) > LARGE or not _repeats(pieces) or _parsed(text) is not None:
        return text, True
    whole, whole_before = _parsed(last), _parsed(before)
    if whole is not None and _is_times(text, last):
        return last, True
    if whole_before is not None and (whole == whole_before or last.strip() == "{}"):
        return before, True
    rest = text[len(pieces[0]) :]
    if pieces[0].strip() == "{}" and _parsed(rest) is not None:
        return rest, True
    return text, False


def _repeats(pieces: Sequence[str]) -> bool:
    """May one of them be more than the next piece?"""
    return pieces[0].strip() == "{}" or pieces[-1].lstrip()[:1] in ("{", '"')


def _is_times(text: str, unit: str) -> bool:
    times, rest = divmod(len(text), len(unit)) if unit else (0, 1)
    return not rest and text == unit * times


def _of_objects(text: str, objects: Sequence[Any]) -> tuple[str, bool]:
    """Arguments that came as JSON instead of as a text that holds it."""
    value, sure = objects[0], True
    if len(objects) > 1 and all(isinstance(item, dict) for item in objects):
        value = {}
        for item in objects:
            sure = sure and all(_goes_on(value[key], new) for key, new in item.items() if key in value)
            value.update(item)
    elif len(objects) > 1:
        value, sure = objects[-1], False
    beside = _parsed(text)
    if text.strip() and not value:
        return text, True
    return write_json(value, ascii_only=False), sure and (not text.strip() or beside in (value, {}))


def _goes_on(old: Any, new: Any) -> bool:
    return bool(old == new or (isinstance(old, str) and isinstance(new, str) and new.startswith(old)))
