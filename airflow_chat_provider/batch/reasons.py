"""Why rows failed: what the error of a batch with too many failed rows says of them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest

_MOST_KINDS = 100  # a server may have a code for each row
_TRY_AGAIN = "Another try asks only for the rows that failed or are missing"


@dataclass(eq=False, slots=True)
class _Reason:
    """A kind of error, by its first: the others differ at most in the row and in what the server said."""

    message: str
    place: str
    count: int = 0


@dataclass(eq=False, repr=False)
class Reasons:
    """``final`` counts the rows that would fail again in the same way."""

    final: int = 0
    _kinds: dict[tuple[object, ...], _Reason] = field(default_factory=dict)

    def note(self, error: ChatCompletionError, place: str) -> None:
        self.final += error.final
        code = error.keyword if isinstance(error, InvalidRequest) else error.code
        kind: tuple[object, ...] = (type(error).__name__, error.status, code)
        if len(self._kinds) >= _MOST_KINDS and kind not in self._kinds:
            kind = kind[:2]
        reason = self._kinds.get(kind)
        if reason is None:
            reason = self._kinds[kind] = _Reason(error.message.removeprefix(f"{place}: ").rstrip("."), place)
        reason.count += 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for ``restore`` in another process."""
        kinds = [[*kind[:3], one.message, one.place, one.count] for kind, one in self._kinds.items()]
        return {"final": self.final, "kinds": kinds}

    def restore(self, values: Any) -> None:
        """Take back what ``to_dict`` gave; anything else is passed over."""
        with contextlib.suppress(TypeError, ValueError, KeyError):
            self.final = int(values["final"])
            for *kind, message, place, count in values["kinds"]:
                self._kinds[tuple(kind)] = _Reason(str(message), str(place), int(count))

    def error(self, found: str, where: str, most: float) -> ChatCompletionError:
        """The error of the batch. ``found`` says how many rows failed, of which ``most`` were allowed to.

        Its first words are those of the most frequent reason: the UI shows no more of it.
        """
        reason = max(self._kinds.values(), key=lambda one: one.count)
        rows = [] if reason.place in reason.message else [reason.place]
        if reason.count > 1:
            rows.append(f"and {reason.count - 1:,} more like it")
        first = f" ({' '.join(rows)})" if rows else ""
        again = self.final <= most  # or as many would fail again
        error = ChatCompletionError(
            ". ".join((f"{reason.message}{first}", found, where, *([_TRY_AGAIN] if again else [])))
        )
        error.final = not again
        return error
