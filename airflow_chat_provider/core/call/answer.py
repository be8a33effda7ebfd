"""The body of a 2xx: collected, or read as a stream as soon as its first bytes are those of one."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.call.body import Body
from airflow_chat_provider.core.call.opening import Kind, Opening
from airflow_chat_provider.core.call.stream import StreamReader

_STEP = 1 << 14  # bytes that are looked at in one step: a thousand events, if they are small


class Answer(Body):
    """``stream`` reads it, where it is one. ``declared``: the Content-Type says so; ``choices``: what was asked for."""

    def __init__(self, limit: int, encoding: str = "", choices: int = 1, *, declared: bool = False) -> None:
        super().__init__(limit, encoding, _STEP)
        self._choices = choices
        self._opening: Opening | None = Opening(declared=declared)
        self.stream: StreamReader | None = None
        self.blank = False
        """Was there nothing in it but blank lines and comments?"""

    @property
    def streaming(self) -> bool:
        """Do chunks come, or may they?"""
        return self.stream is not None or (self._opening is not None and self._opening.declared)

    def _take(self, piece: bytes) -> list[dict[str, Any]]:
        if self.stream is not None:
            return self.stream.feed(piece)
        super()._take(piece)
        return self._look()

    def _look(self, *, over: bool = False) -> list[dict[str, Any]]:
        opening = self._opening
        kind = opening.look(self._data, over=over) if opening is not None else None
        if opening is None or kind is None:
            return []
        self._opening = None
        if kind is Kind.STREAM:
            self.stream = StreamReader(self._limit, self._choices)
            begun, self._data = bytes(self._data[opening.at :]), bytearray()
            return self.stream.feed(begun)
        if opening.comments:
            del self._data[: opening.at]
        return []

    def finish(self) -> list[dict[str, Any]]:
        """No more comes."""
        chunks = self._look(over=True)
        if self._opening is not None:
            self.blank = self._opening.declared or bool(self._data)
        return chunks if self.stream is None else chunks + self.stream.end()
