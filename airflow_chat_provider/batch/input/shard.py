"""A part of the input: every n-th row, or a range of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from airflow_chat_provider.core.errors import InvalidRequest

_FORMS = re.compile(r"\s*(?:(?P<part>\d+)\s*/\s*(?P<of>\d+)|(?P<start>\d*)\s*:\s*(?P<stop>\d*))\s*")


class Shard(NamedTuple):
    """The rows whose index is ``range(start, stop, step)``."""

    start: int = 0
    stop: int | None = None
    step: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """``"2/8"``: the second of eight; ``"1000:2000"``: rows 1000 to 1999, counted from 0; None: all."""
        if text is None:
            return cls()
        match = _FORMS.fullmatch(str(text))
        if match is None:
            raise _bad(text)
        if match["of"]:
            part, of = int(match["part"]), int(match["of"])
            if not 1 <= part <= of:
                raise _bad(text)
            return cls(part - 1, None, of)
        start, stop = int(match["start"] or 0), int(match["stop"]) if match["stop"] else None
        if stop is not None and stop <= start:
            raise _bad(text)
        return cls(start, stop)

    def indices(self, total: int) -> range:
        """Of ``total`` rows those that are meant."""
        return range(total)[self.start : self.stop : self.step]

    def __str__(self) -> str:
        return f"{self.start + 1}-of-{self.step}" if self.step > 1 else f"{self.start}-{self.stop or 'end'}"


def _bad(text: object) -> InvalidRequest:
    return InvalidRequest(
        f"shard is {str(text)[:64]!r}; write '2/8' for the second of eight parts, or '1000:2000' for rows 1000 to 1999",
        path="shard",
        keyword="enum",
    )
