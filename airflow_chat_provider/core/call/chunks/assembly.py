"""A stream's chunks put together into the body that the same call returns unstreamed."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.call.chunks.choice import Choice
from airflow_chat_provider.core.call.chunks.fragment import number_of
from airflow_chat_provider.core.call.chunks.pieces import Merger, Overfull, Scale, is_empty
from airflow_chat_provider.core.json_text.reading import DEFAULT_LIMIT

__all__ = ["Assembly", "Overfull"]

_DROPPED = frozenset({"choices", "object", "obfuscation", "error"})
_FIRST = frozenset({"id", "created", "model"})  # of the first chunk that has one; of all else the last counts
_CHOICES = 128  # of an answer to a request that asks for fewer; the API has no request for more
_NONE = object()


class Assembly:
    """``add`` each chunk; ``finished`` when every choice has its finish_reason, ``body`` is the completion so far.

    Fields that are unknown here are kept: text is joined, lists are chained, objects are merged. ``choices``: how many
    the request asks for; ``limit``: see ``reading.allowance``. ``doubts``: what the last ``body`` had to decide without
    being sure, in sentences that quote nothing.
    """

    def __init__(self, choices: int = 1, limit: int = DEFAULT_LIMIT) -> None:
        self._top: dict[str, Any] = {}
        self._choices: dict[int, Choice] = {}
        self._most_choices = max(choices, _CHOICES)
        self._scale = Scale(limit)
        self._merger = Merger(self._scale)
        self.doubts: tuple[str, ...] = ()

    def add(self, chunk: dict[str, Any], size: int = 1 << 10) -> None:
        """Take one parsed chunk in, of ``size`` bytes; raises Overfull."""
        self._scale.size += size
        top = self._top
        for key, value in chunk.items():
            if key not in _DROPPED and top.get(key, _NONE) != value:
                self._add_top(key, value)
        choices = chunk.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                index = choice.get("index")
                kept = self._choices.get(index) if type(index) is int else None
                (kept or self._choice(index, position)).add(choice)

    @property
    def empty(self) -> bool:
        return not self._top and not self._choices

    @property
    def begun(self) -> int:
        """The choices of which something came."""
        return len(self._choices)

    @property
    def finished(self) -> bool:
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    def body(self) -> dict[str, Any]:
        doubts: list[str] = []
        choices = [choice.made(index, doubts) for index, choice in sorted(self._choices.items())]
        top = dict(self._top)
        usage = top.get("usage") or _usage_elsewhere(top, choices)
        top.pop("usage", None)
        self.doubts = tuple(dict.fromkeys(doubts))
        return {**top, **({"usage": usage} if usage else {}), "object": "chat.completion", "choices": choices}

    def _add_top(self, key: str, value: Any) -> None:
        old = self._top.get(key)
        if key in self._top and ((old and key in _FIRST) or is_empty(value)):
            return
        self._scale.put(self._top, key, value)

    def _choice(self, said: Any, position: int) -> Choice:
        """The choice of the index that a chunk says, else of the place that it has there."""
        number = number_of(said)
        index = position if number is None else number
        if index not in self._choices:
            if len(self._choices) >= self._most_choices:
                raise Overfull(f"the stream holds more than {self._most_choices} choices")
            self._choices[index] = Choice(self._merger)
        return self._choices[index]


def _usage_elsewhere(top: dict[str, Any], choices: list[dict[str, Any]]) -> Any:
    """Groq has it in ``x_groq``; Moonshot in the choice, where an unstreamed body has none."""
    groq = top.get("x_groq")
    if isinstance(groq, dict) and groq.get("usage"):
        return groq["usage"]
    found = [choice["usage"] for choice in choices if choice.get("usage")]
    if not found or any(usage != found[0] for usage in found):
        return None
    for choice in choices:
        choice.pop("usage", None)
    return found[0]
