"""A part of the input: every nth row, or a range of rows."""

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
    def parse(cls, text: object) -> Shard:
        """``"2/8"`` is the second of eight parts; ``"1000:2000"`` is rows 1000 to 1999, counted from 0; None is all.

        Raises InvalidRequest for anything else.
        """
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
        """The indices of the rows in this part, where the input has ``total`` rows."""
        return range(total)[self.start : self.stop : self.step]

    def __str__(self) -> str:
        return f"{self.start + 1}-of-{self.step}" if self.step > 1 else f"{self.start}-{self.stop or 'end'}"


def _bad(text: object) -> InvalidRequest:
    return InvalidRequest(
        "shard must be like '2/8', the second of eight parts, or '1000:2000', the rows 1000 to 1999; it is "
        f"{str(text)[:64]!r}",
        path="shard",
        keyword="enum",
    )
