"""Tool calls written as a stream's fragments, in the ways that servers write them."""

from __future__ import annotations

import json
import random
from itertools import accumulate, pairwise, product
from typing import Any, NamedTuple

Call = tuple[str, dict[str, Any]]


class Dialect(NamedTuple):
    """How a server writes its calls; the first value of each is OpenAI's."""

    numbers: str = "own"
    ids: str = "head"
    names: str = "head"
    types: str = "head"
    arguments: str = "pieces"


NUMBERS = ("own", "zero", "none", "null", "text")
IDS = ("head", "every", "new", "other", "empty", "null", "absent")
NAMES = ("head", "every", "pieces", "so far")
TYPES = ("head", "every", "empty", "null", "absent")
ARGUMENTS = ("pieces", "whole", "after", "object", "so far", "again", "braces first")
ANY = [Dialect(*values) for values in product(NUMBERS, IDS, NAMES, TYPES, ARGUMENTS)]


def cut(text: str, chance: random.Random) -> list[str]:
    """A text in one or more pieces, none of them empty, the first of three characters or more."""
    if len(text) <= 3:
        return [text]
    places = sorted({chance.randint(3, len(text) - 1) for _ in range(chance.randint(0, 3))})
    return [text[start:end] for start, end in pairwise([0, *places, len(text)])]


def arguments_in(dialect: Dialect, arguments: dict[str, Any], chance: random.Random) -> list[Any]:
    text = json.dumps(arguments)
    pieces = cut(text, chance)
    ways: dict[str, list[Any]] = {
        "pieces": pieces,
        "whole": [text],
        "after": ["", text],
        "object": [arguments],
        "so far": list(accumulate(pieces)),
        "again": [*pieces, text],
        "braces first": ["{}", *pieces],
    }
    return ways[dialect.arguments]


def names_in(dialect: Dialect, name: str, chance: random.Random) -> list[str]:
    at = chance.randint(1, len(name) - 1)
    ways = {"pieces": [name[:at], name[at:]], "so far": [name[:at], name]}
    return ways.get(dialect.names, [name])


def fragments_of(at: int, call: Call, dialect: Dialect, chance: random.Random) -> list[dict[str, Any]]:
    """The fragments of one call, the ``at``th."""
    *begun, name = names_in(dialect, call[0], chance)
    first, *rest = arguments_in(dialect, call[1], chance)
    said: list[tuple[str | None, Any]] = [*((part, "") for part in begun), (name, first)]
    said += [(name if dialect.names == "every" else None, piece) for piece in rest]
    fragments = []
    for number, (part, piece) in enumerate(said):
        function = {**({"name": part} if part is not None else {}), "arguments": piece}
        fragments.append({**numbered(at, number, dialect), "function": function})
    return fragments


def numbered(at: int, number: int, dialect: Dialect) -> dict[str, Any]:
    """What a fragment says beside its function."""
    index: dict[str, dict[str, Any]] = {
        "own": {"index": at},
        "zero": {"index": 0},
        "null": {"index": None},
        "text": {"index": str(at)},
    }
    ids: dict[str, dict[str, Any]] = {
        "head": {"id": f"c{at}"} if number == 0 else {},
        "every": {"id": f"c{at}"},
        "new": {"id": f"c{at}.{number}"},
        "other": {"id": f"c{at}.{min(number, 1)}"},
        "empty": {"id": ""},
        "null": {"id": None},
    }
    kinds: dict[str, dict[str, Any]] = {
        "head": {"type": "function"} if number == 0 else {},
        "every": {"type": "function"},
        "empty": {"type": ""},
        "null": {"type": None},
    }
    return {**index.get(dialect.numbers, {}), **ids.get(dialect.ids, {}), **kinds.get(dialect.types, {})}


def written(calls: list[Call], dialect: Dialect, chance: random.Random) -> list[dict[str, Any]]:
    """Calls as the fragments of a stream, one call after the other."""
    return [part for at, call in enumerate(calls) for part in fragments_of(at, call, dialect, chance)]


def read(made: Any) -> list[Call]:
    """Assembled calls as they were before they were written; raises where they are not what a message holds."""
    for call in made:
        assert call["type"] == "function"
    return [(call["function"]["name"], json.loads(call["function"]["arguments"] or "{}")) for call in made]
