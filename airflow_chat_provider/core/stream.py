"""A streamed reply: bytes in, chunks out, and at the end the body that the unstreamed call would have had."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_chat_provider.core.assembly import Assembly, Overfull
from airflow_chat_provider.core.body import TOO_MUCH, BadEncoding, Inflater
from airflow_chat_provider.core.nesting import LEVELS, TooDeep
from airflow_chat_provider.core.reading import TooMuch, read_json, read_text
from airflow_chat_provider.core.sse import LineTooLong, SSEDecoder

_LONGEST_LINE = 16 << 20  # an image or audio in one chunk; more is no chat
_STEP = 1 << 14  # bytes that are looked at in one step: a thousand events, if they are small
_TOO_DEEP = f"an event of the stream is nested too deep ({LEVELS})"


class StreamReader:
    """``feed`` bytes and get the chunks that they complete. ``over``: the rest is not wanted. ``problem``: why.

    ``choices``: how many the request asks for.
    """

    def __init__(self, limit: int, encoding: str = "", choices: int = 1) -> None:
        self._limit = limit
        self._inflater = Inflater(encoding, _STEP)
        self._decoder = SSEDecoder(min(limit, _LONGEST_LINE))
        self._assembly = Assembly(choices, limit)
        self._error: Any = None
        self.size = 0
        self.over = False
        self.problem: str | None = None

    @property
    def pending(self) -> int:
        """The bytes of an event that the next piece may complete."""
        return self._decoder.pending

    def feed(self, raw: bytes) -> list[dict[str, Any]]:
        return [chunk for chunks in self.pieces(raw) for chunk in chunks]

    def pieces(self, raw: bytes) -> Iterator[list[dict[str, Any]]]:
        """``feed``, one step after the other."""
        pieces = self._inflater.pieces(raw)
        while not self.over:
            chunks: list[dict[str, Any]] = []
            try:
                piece = next(pieces, None)
                if piece is None:
                    return
                self._feed(piece, chunks)
            except LineTooLong:
                self._stop("a line of the stream is too long")
            except BadEncoding as error:
                self._stop(f"the stream is not in its Content-Encoding ({error})")
            yield chunks

    def _feed(self, piece: bytes, chunks: list[dict[str, Any]]) -> None:
        self.size += len(piece)
        for event, data in self._decoder.feed(piece):
            self._take(event, data, chunks)
        if self.size > self._limit:
            self._stop(f"the stream is larger than max_response_bytes ({self._limit})")

    def end(self) -> list[dict[str, Any]]:
        """The connection has no more: an event that lacks only its blank line still counts."""
        chunks: list[dict[str, Any]] = []
        if not self.over:
            for event, data in self._decoder.end():
                self._take(event, data, chunks)
        if self.problem is None and not self._assembly.finished:
            self.problem = "the stream ended before every choice had a finish_reason"
        return chunks

    def _take(self, event: str, data: bytes, chunks: list[dict[str, Any]]) -> None:
        if self.over or not data.strip():  # an event without data keeps the connection alive
            return
        if data[:16].strip() == b"[DONE]":
            self.over = True
            return
        try:
            chunk = read_json(data, self._limit)
        except TooMuch:
            self._stop(f"an event of the stream is refused: {TOO_MUCH}")
            return
        except TooDeep:
            self._stop(_TOO_DEEP)
            return
        except ValueError:
            if event == "error":
                self._error = read_text(data)
            self._stop("the stream holds an error" if event == "error" else "an event of the stream is not JSON")
            return
        error = chunk.get("error") if isinstance(chunk, dict) else None
        if error or event == "error":
            self._error = error or chunk
            self._stop("the stream holds an error")
        elif isinstance(chunk, dict):
            self._add(chunk, len(data), chunks)
        else:
            self._stop("an event of the stream is no JSON object")

    def _add(self, chunk: dict[str, Any], size: int, chunks: list[dict[str, Any]]) -> None:
        try:
            self._assembly.add(chunk, size)
        except Overfull as full:
            self._stop(str(full))
        else:
            chunks.append(chunk)

    def _stop(self, problem: str) -> None:
        if not self.over:  # what comes after the end is no problem
            self.over, self.problem = True, problem

    def body(self) -> Any:
        """The completion as far as it came, with the error that ended it; None before anything came."""
        body = None if self._assembly.empty else self._assembly.body()
        return body if self._error is None else {**(body or {}), "error": self._error}

    @property
    def doubts(self) -> tuple[str, ...]:
        """What makes the body doubtful; ask after ``body``."""
        return self._assembly.doubts
