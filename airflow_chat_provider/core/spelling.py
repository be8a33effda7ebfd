"""Words for errors: what a name or a value may be a misspelling of, and what stands before a name.

``close_to`` only suggests, so it may be generous. ``misspelling`` decides: a request with a misspelt top-level name is
refused, so it must not catch a parameter that a server really has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

# Names come from the data too, where they may be of any length and number.
_LONGEST_NAME = 200
_MOST_NAMES = 1000
_WORD = re.compile(r"[^\W_]+")
_FAR = 3  # stands for every distance that is too large for a slip


def close_to(name: str, names: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """The one of ``names`` that looks most like ``name``; an empty list if none does."""
    from difflib import get_close_matches  # only on the way to an error

    if len(name) > _LONGEST_NAME:
        return []
    return get_close_matches(name, list(islice(names, _MOST_NAMES)), 1, cutoff)


def misspelling(text: str, allowed: Iterable[object]) -> str | None:
    """The one of ``allowed`` that differs from ``text`` by a letter or two; None if ``text`` is a word of its own.

    Names are compared word by word: ``min_tokens`` is not a misspelling of ``max_tokens``, nor ``builtin_function`` of
    ``function``. Case and separators do not count (``maxTokens``, ``max-tokens``).
    """
    if len(text) > _LONGEST_NAME:
        return None
    best, least = None, _FAR
    for name in islice(allowed, _MOST_NAMES):
        if isinstance(name, str) and (slips := _slips(text, name)) < least:
            best, least = name, slips
    return best


def _slips(text: str, name: str) -> int:
    """The number of slips in the worst word; ``_FAR`` if there are too many, or if whole words differ."""
    words, others = _WORD.findall(text.lower()), _WORD.findall(name.lower())
    joined, other = "".join(words), "".join(others)
    if joined == other:
        return 0
    if len(words) == len(others):
        return max(_slips_in_word(word, meant) for word, meant in zip(words, others, strict=True))
    if set(words) < set(others) or set(words) > set(others):
        return _FAR
    return _slips_in_word(joined, other)


def _slips_in_word(word: str, meant: str) -> int:
    if len(meant) < 4 and sorted(word) != sorted(meant):  # any other letter is a third of the word
        return _FAR
    found = _distance(word, meant)
    return found if found <= (2 if len(meant) > 6 else 1) else _FAR


def _distance(a: str, b: str) -> int:
    """How many letters to add, drop, change or swap with the next one; ``_FAR`` for any larger number."""
    if abs(len(a) - len(b)) > 2 or len(set(a) ^ set(b)) > 4:  # quick to tell, of many names
        return _FAR
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, last, row = row, before, [i] + [_FAR] * len(b)
        for j in range(max(1, i - 2), min(len(b), i + 2) + 1):  # farther off it is _FAR already
            y = b[j - 1]
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                row[j] = min(row[j], last[j - 2] + 1)
    return min(row[-1], _FAR)


def plural(count: int, noun: str) -> str:
    """``1 row``, ``12,345 rows``: a count and what it counts, for nouns whose plural ends in s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def with_article(name: str) -> str:
    """``a str``, ``an int``: the name of a class, for the author of the value."""
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
