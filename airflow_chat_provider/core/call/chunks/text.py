"""What the pieces of a streamed text mean: what is new with each, or, as some servers have it, the text so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

_ENOUGH = 6  # characters that were said again: no answer that is not meant so begins twice with the same ones
_LONG = 16  # of a text that came twice and did not grow: a short one may be meant so
_BEGINNING = 20  # characters by which a last piece shows itself to be another version of the whole
_NAMED = frozenset({"content", "reasoning", "reasoning_content", "refusal", "thinking"})


class Means(Enum):
    """What the pieces of a text are."""

    NEW = "pieces"
    SO_FAR = "the text so far with each piece"
    AGAIN = "pieces, and then the whole again"
    UNSURE = "pieces, it seems"
    MAYBE_SO_FAR = "pieces or the text so far: other texts of the stream may tell"


class Reading(NamedTuple):
    """A text as it is read, and what it would be if its last piece were the whole."""

    means: Means
    text: str
    whole: str | None = None


def named(key: str) -> str:
    """A field in words; a name that the server made up is not quoted."""
    return f"`{key}`" if key in _NAMED else "a text field"


def read(pieces: Sequence[str], *, ends: bool = False) -> Reading:
    """What pieces come to, in time linear in their length. ``ends``: the last of them came with the finish_reason."""
    if len(pieces) < 2:
        return Reading(Means.NEW, "".join(pieces))
    said_again = _said_again(pieces)
    if said_again is None:
        return _read_increments(pieces)
    characters, grew = said_again
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
    """Does each piece begin with all of the one before?"""
    return _said_again(pieces) is not None


def _said_again(pieces: Sequence[str]) -> tuple[int, bool] | None:
    """How many characters the pieces repeat of those before them, and whether they grow; None where one does not.

    What grows by its own beginning ("ha", "haha"; "0", "00") says nothing.
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
    """Pieces of which one does not go on from the one before: the last may be the whole once more."""
    last, text = pieces[-1], "".join(pieces)
    before = text[: len(text) - len(last)]
    if len(pieces) > 2 and last.startswith(before):
        if len(set(pieces[:-1])) == 1:  # "ha", "ha", "haha"
            return Reading(Means.UNSURE if before.strip() else Means.NEW, text, last)
        return Reading(Means.AGAIN, last, last) if len(before.strip()) >= _ENOUGH - 1 else _unsure(text, last)
    as_long = len(before) > len(last) // 2 >= _BEGINNING and len(last) > len(before) // 2
    if as_long and before.startswith(last[:_BEGINNING]):
        return _unsure(text, last)
    return Reading(Means.NEW, text)


def _unsure(text: str, last: str) -> Reading:
    return Reading(Means.UNSURE, text, last)


def doubt(key: str, means: Means) -> str | None:
    """The doubt that a reading leaves, in words for a log."""
    field = named(key)
    if means is Means.SO_FAR:
        return f"Each chunk of the stream repeated the text of {field} that had come before: the last one was taken"
    if means is Means.AGAIN:
        return f"The last piece of {field} in the stream was the whole text again: it was taken once"
    if means in (Means.UNSURE, Means.MAYBE_SO_FAR):
        return (
            f"Check the text of {field}: the stream's pieces of it were joined, but they repeat each other, and the "
            "last may have been the whole"
        )
    return None


def read_together(texts: Mapping[str, tuple[Sequence[str], bool]]) -> dict[str, Reading]:
    """The readings of a message's texts, ``(pieces, ends)`` by their names.

    A server has one way: what one text shows clearly decides about another that is too short to show it.
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
