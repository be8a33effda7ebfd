"""A streamed answer: bytes in, chunks out, and at the end the body that the unstreamed call would have had."""

from __future__ import annotations

import re
from typing import Any

from airflow_chat_provider.core.call.chunks.assembly import Assembly
from airflow_chat_provider.core.call.chunks.pieces import Overfull
from airflow_chat_provider.core.call.sse import LineTooLong, SSEDecoder
from airflow_chat_provider.core.call.steps import Cut
from airflow_chat_provider.core.json_text.nesting import LEVELS, TooDeep
from airflow_chat_provider.core.json_text.reading import TooMuch, read_json, read_text
from airflow_chat_provider.core.server.error_body import holds_error, is_error
from airflow_chat_provider.core.types import JSON, JSONObject

EMPTY = Cut("an empty body came: it holds nothing but blank lines or comments")
"""The ``problem`` of a 2xx in which the server did no more than keep the connection alive."""
KEPT = 1 << 20
"""How many bytes are kept of what could not be read: enough to see what it was."""
_LONGEST_LINE = 16 << 20  # enough for an image or audio in one chunk
TOO_MUCH = "has more values than max_response_bytes allows for, or a text that is too long"
TOO_DEEP = f"is nested too deep ({LEVELS})"
_HELD_ERROR = Cut("the stream contains an error")
_UNFINISHED = Cut("the stream ended before every choice had a finish_reason")
_IN_AN_EVENT = Cut("the stream ended in the middle of an event")
_DONE = (b"[DONE]", b'"[DONE]"')
_FIELDS_AGAIN = rb"(?:data:[ \t]{0,8}){1,8}"  # a proxy added what was there already
_NOT_FINISHED = "The answer may be incomplete: the stream ended with [DONE], but not every choice has a finish_reason"
_TOO_FEW = "The answer may be incomplete: the stream ended without [DONE], and has fewer choices than n asks for"


class StreamReader:
    """``feed`` bytes and get the chunks that they complete; ``end`` gives the last ones, then ``body`` is complete.

    ``choices``: how many the request asks for. ``over``: the rest is not wanted, because the stream said that it ends,
    or for the reason that ``problem`` gives. ``head``: the first bytes, kept until the first chunk is read.
    """

    def __init__(self, limit: int, choices: int = 1) -> None:
        self._limit = limit
        self._decoder = SSEDecoder(min(limit, _LONGEST_LINE))
        self._wanted = choices
        self._assembly = Assembly(choices, limit)
        self._chunks: list[JSONObject] = []
        self._error: JSON = None
        self._done = False
        self._events = False
        self._ending = False
        self.head = bytearray()
        self.size = 0
        self.over = False
        self.problem: str | None = None

    @property
    def pending(self) -> int:
        """The bytes of an event that the next piece may complete."""
        return self._decoder.pending

    def feed(self, piece: bytes) -> list[JSONObject]:
        if not self.over:
            self._read(piece)
        chunks, self._chunks = self._chunks, []
        return chunks

    def _read(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._assembly.empty and len(self.head) < KEPT:
            self.head += piece[: KEPT - len(self.head)]
        try:
            for event, data in self._decoder.feed(piece):
                self._take(event, data)
                if self.over:
                    break
        except LineTooLong:
            self.stop("a line of the stream is too long")
        if self.size > self._limit:
            self.stop(f"the stream is larger than max_response_bytes ({self._limit})")

    def end(self) -> list[JSONObject]:
        """The connection has no more: an event that lacks only its blank line still counts."""
        self._ending = True
        for event, data in self._decoder.end():
            if not self.over:
                self._take(event, data)
        if self.problem is None and not self._assembly.finished:
            self.problem = self._missing()
        return self._chunks

    def _missing(self) -> str | None:
        """What a stream lacks whose choices did not all finish."""
        if not self._events:
            return None if self._decoder.strange else EMPTY  # a text that is not a stream is judged as a text
        if self._done and self._assembly.begun:
            return None  # an unstreamed body without a finish_reason is accepted, too; ``doubts`` says so
        return _UNFINISHED

    def _take(self, event: str, data: bytes) -> None:
        if data[:1] != b"{" and self._ends(data):
            return
        try:
            chunk = read_json(data, self._limit)
        except TooMuch:
            self.stop(f"the JSON of an event {TOO_MUCH}")
        except TooDeep:
            self.stop(f"the JSON of an event {TOO_DEEP}")
        except ValueError:
            self._take_other(event, data)
        else:
            self._events = True
            if isinstance(chunk, dict) and chunk.get("choices") and not chunk.get("error") and event != "error":
                self._add(chunk, len(data))
            else:
                self._take_odd(event, chunk, len(data))

    def _ends(self, data: bytes) -> bool:
        """Is it not a chunk but the stream's end, or an event without data, which keeps the connection alive?"""
        if data[:16].strip() in _DONE:
            self.over = self._done = self._events = True
            return True
        return not data.strip()

    def _take_other(self, event: str, data: bytes) -> None:
        """Read an event that is not JSON by itself."""
        if self._decoder.goes_on(data):
            return
        self._events = True
        bare = re.match(_FIELDS_AGAIN, data)
        if bare is not None and not data.startswith(b"data:", bare.end()):
            self._take(event, data[bare.end() :])
        elif event == "error":
            self._error = read_text(data)
            self.stop(_HELD_ERROR)
        elif b"\n" in data:  # events without blank lines between them
            self._ending = False  # if something was cut off, it is one of the lines
            for line in data.split(b"\n"):
                if not self.over:
                    self._take(event, line)
        else:
            self.stop(_IN_AN_EVENT if self._ending else "an event of the stream is not JSON")

    def _take_odd(self, event: str, chunk: JSON, size: int) -> None:
        """An error, or a chunk without choices."""
        error = chunk.get("error") if isinstance(chunk, dict) else None
        if is_error(error) or event == "error":
            self._error = error or chunk
            self.stop(_HELD_ERROR)
        elif not isinstance(chunk, dict):
            self.stop("an event of the stream is not a JSON object")
        elif not chunk.get("choices") and not self._assembly.finished and holds_error(chunk):
            self._error = chunk  # vLLM once sent errors without a field "error" around them
            self.stop(_HELD_ERROR)
        elif "ping" not in (event, chunk.get("type")):
            self._add(chunk, size)

    def _add(self, chunk: JSONObject, size: int) -> None:
        try:
            self._assembly.add(chunk, size)
        except Overfull as full:
            self.stop(str(full))
        else:
            self._chunks.append(chunk)

    def stop(self, problem: str) -> None:
        """Read no further, because of ``problem``."""
        if not self.over:  # what comes after the stream's end is not a problem
            self.over, self.problem = True, problem

    def body(self) -> Any:
        """The completion as far as it came, with the error that ended it, if any; None before anything came."""
        body = None if self._assembly.empty else self._assembly.body()
        return body if self._error is None else {**(body or {}), "error": self._error}

    @property
    def doubts(self) -> tuple[str, ...]:
        """Sentences about what makes the body doubtful, once ``body`` was called."""
        doubts = tuple(self._assembly.doubts)
        if self.problem is not None or self._assembly.empty:
            return doubts
        if not self._assembly.finished:
            return (*doubts, _NOT_FINISHED)
        if not self._done and self._assembly.begun < self._wanted:
            return (*doubts, _TOO_FEW)
        return doubts
