"""What the pieces of a streamed text mean: what is new with each, or, from some servers, all of the text so far.

Texts are read by what is likely; where two readings are likely, the pieces are joined and the user is told. The
arguments of a tool call are read by what is JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.json_text.reading import LARGE
from airflow_chat_provider.core.json_text.writing import write_json
from airflow_chat_provider.core.types import JSON, JSONObject

_ENOUGH = 6  # characters that were repeated: hardly an answer begins twice with the same ones by chance
_LONG = 16  # characters of a text that came twice: a shorter one may be meant so
_BEGINNING = 20  # characters with which a last piece begins as the whole did: it may be another version of it
_IN_TEXT = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')
_BEFORE_VALUES = (":", ",", "[")
_ENOUGH_OF_OBJECT = 3  # characters of an object's beginning that do not come again within it
_JOINED = 1 << 16  # characters of arguments that are tried together
_LOOKED_AT = 1 << 18  # characters of arguments that are looked at before one decision
_NAMED = frozenset({"content", "reasoning", "reasoning_content", "refusal", "thinking"})


class Means(Enum):
    """What the pieces of a text are."""

    NEW = "pieces"
    SO_FAR = "the text so far with each piece"
    AGAIN = "pieces, and then the whole again"
    UNSURE = "pieces, it seems"
    MAYBE_SO_FAR = "pieces or the text so far: other texts of the stream may tell"


class Reading(NamedTuple):
    """A text as it is read. ``whole``: what it would be if its last piece were the whole text."""

    means: Means
    text: str
    whole: str | None = None


def named(key: str) -> str:
    """A field's name for the user. A name that only this server has is not quoted."""
    return f"`{key}`" if key in _NAMED else "a text field"


def read(pieces: Sequence[str], *, ends: bool = False) -> Reading:
    """How to read the pieces of a text; takes time linear in their length.

    ``ends``: the last piece came with the finish_reason. Servers that repeat a text do it there.
    """
    if len(pieces) < 2:
        return Reading(Means.NEW, "".join(pieces))
    repeated = _repeated(pieces)
    if repeated is None:
        return _read_increments(pieces)
    characters, grew = repeated
    last = pieces[-1]
    if not grew:
        if len(last) >= _LONG and last == last.strip():
            return Reading(Means.AGAIN, last, last)
        doubtful = ends and any(map(str.isalnum, last[:_LONG]))
        return Reading(Means.MAYBE_SO_FAR if doubtful else Means.NEW, "".join(pieces), last)
    if characters >= _ENOUGH:
        return Reading(Means.SO_FAR, last, last)
    return Reading(Means.MAYBE_SO_FAR if characters else Means.NEW, "".join(pieces), last)


def grows(pieces: Sequence[str]) -> bool:
    """Does each piece begin with the whole piece before it?"""
    return _repeated(pieces) is not None


def _repeated(pieces: Sequence[str]) -> tuple[int, bool] | None:
    """How many characters the pieces repeat of the one before, and whether any is longer; None if one repeats nothing.

    A piece that grows by its own beginning ("ha", "haha"; "0", "00") does not count: it may be meant so.
    """
    characters, grew = 0, False
    for before, after in pairwise(pieces):
        if not after.startswith(before):
            return None
        new = after[len(before) :]
        if new and (new.startswith(before) or before.startswith(new)):
            continue
        characters += len(before.strip())
        grew = grew or bool(new)
    return characters, grew


def _read_increments(pieces: Sequence[str]) -> Reading:
    """Read pieces of which one does not repeat the one before. The last may be the whole text once more."""
    last, text = pieces[-1], "".join(pieces)
    before = text[: len(text) - len(last)]
    if len(pieces) > 2 and last.startswith(before):
        if len(set(pieces[:-1])) == 1:  # "ha", "ha", "haha"
            return Reading(Means.UNSURE if before.strip() else Means.NEW, text, last)
        if len(before.strip()) >= _ENOUGH - 1:
            return Reading(Means.AGAIN, last, last)
        return Reading(Means.UNSURE, text, last)
    as_long = len(before) > len(last) // 2 >= _BEGINNING and len(last) > len(before) // 2
    if as_long and before.startswith(last[:_BEGINNING]):
        return Reading(Means.UNSURE, text, last)
    return Reading(Means.NEW, text)


def doubt(key: str, means: Means) -> str | None:
    """What to tell the user of a reading; None if nothing had to be guessed. It quotes nothing."""
    field = named(key)
    if means is Means.SO_FAR:
        return f"Each chunk of the stream repeated the text of {field} so far: the last one was taken"
    if means is Means.AGAIN:
        return f"The last piece of {field} in the stream repeated the whole text: it was taken once"
    if means in (Means.UNSURE, Means.MAYBE_SO_FAR):
        return f"Check the text of {field}: its pieces in the stream repeat each other, and were joined all the same"
    return None


def read_together(texts: Mapping[str, tuple[Sequence[str], bool]]) -> dict[str, Reading]:
    """The readings of all texts of a message, which are ``(pieces, ends)`` by their names.

    A server has one way of sending. So what one text shows clearly decides about another that is too short to show it.
    """
    readings = {key: read(pieces, ends=ends) for key, (pieces, ends) in texts.items()}
    so_far = any(reading.means is Means.SO_FAR for reading in readings.values())
    new = any(not grows(pieces) for pieces, _ in texts.values())
    for key, reading in readings.items():
        if reading.means is Means.MAYBE_SO_FAR and so_far:
            readings[key] = Reading(Means.SO_FAR, texts[key][0][-1], texts[key][0][-1])
        elif reading.means is Means.MAYBE_SO_FAR and new:
            readings[key] = reading._replace(means=Means.NEW)
    return readings


class Progress:
    """How far JSON that comes in pieces is. ``look`` at the pieces when it matters; each is looked at once."""

    def __init__(self) -> None:
        self._at = 0  # how many pieces were looked at
        self._depth = 0
        self._in_text = False
        self._escaped = False
        self._last = ""  # the last character that stands in no text
        self._guessed = False

    def look(self, pieces: Sequence[str]) -> None:
        """Take in the pieces that came since the last time."""
        new = pieces[self._at :]
        self._at = len(pieces)
        if self._guessed or sum(map(len, new)) > _LOOKED_AT:
            # No step may be long: from now on the last character has to do.
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
        return again and (len(before) >= _ENOUGH_OF_OBJECT or not (self._in_text or self._last in _BEFORE_VALUES))

    @property
    def begun(self) -> bool:
        """Has anything come but white space?"""
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


def _parsed(text: str) -> JSONObject | None:
    """The JSON object that a text is, or that stands in a JSON string again, as some servers send it; else None."""
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
    """Are these complete arguments? A text that is too long to be parsed in one step counts as such."""
    return not text.strip() or len(text) > LARGE or _parsed(text) is not None


def come_together(pieces: Sequence[str], objects: Sequence[JSON]) -> bool:
    """Do these make up the arguments of one call?"""
    if sum(map(len, pieces)) > _JOINED:
        return False
    text, sure = arguments_text(pieces, objects)
    return sure and _parsed(text) is not None


def same_arguments(one: JSON, other: JSON) -> bool:
    """Do two texts hold the same arguments?"""
    if one == other:
        return True
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    mine = _parsed(one)
    return mine is not None and mine == _parsed(other)


def arguments_text(pieces: Sequence[str], objects: Sequence[JSON]) -> tuple[str, bool]:
    """The arguments as JSON text, and whether that is beyond doubt. ``objects``: those that came as JSON, not as text.

    Some servers send the whole once more at the end, or all of it so far with each piece, or ``{}`` before it begins.
    Such a reading counts if it is JSON and the joined pieces are not.
    """
    text = "".join(pieces)
    if objects:
        return _of_objects(text, objects)
    if len(pieces) < 2:
        return text, True
    last, before = pieces[-1], text[: len(text) - len(pieces[-1])]
    if grows(pieces) and _parsed(text) is None and _parsed(last) is not None:
        return last, True
    may_repeat = pieces[0].strip() == "{}" or last.lstrip()[:1] in ("{", '"')
    if len(text) > LARGE or not may_repeat or _parsed(text) is not None:
        return text, True
    whole, whole_before = _parsed(last), _parsed(before)
    if whole is not None and text == last * (len(text) // len(last)):  # each piece was the whole
        return last, True
    if whole_before is not None and (whole == whole_before or last.strip() == "{}"):
        return before, True
    rest = text[len(pieces[0]) :]
    if pieces[0].strip() == "{}" and _parsed(rest) is not None:
        return rest, True
    return text, False


def _of_objects(text: str, objects: Sequence[JSON]) -> tuple[str, bool]:
    """Arguments that came as JSON instead of as a text that holds it; ``text`` came beside them."""
    value, sure = objects[-1], len(objects) == 1
    parts = [item for item in objects if isinstance(item, dict)]
    if len(parts) == len(objects):  # each brings more fields, or longer texts of those that came before
        merged: JSONObject = {}
        sure = True
        for part in parts:
            for key, new in part.items():
                old = merged.get(key, new)
                goes_on = isinstance(old, str) and isinstance(new, str) and new.startswith(old)
                sure = sure and bool(old == new or goes_on)
            merged |= part
        value = merged
    if text.strip() and not value:
        return text, True
    return write_json(value, ascii_only=False), sure and (not text.strip() or _parsed(text) in (value, {}))
