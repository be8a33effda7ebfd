"""Server-sent events from bytes, cut wherever the network cuts them.

Not by ``iter_lines``: it splits text at U+2028 and the like, which JSON may hold unescaped.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class LineTooLong(Exception):
    """A line, or an event of many lines, passes the limit before it ends."""


class SSEDecoder:
    """``feed`` bytes and get the ``(event, data)`` pairs that they complete; ``end`` gives one that lacks its end.

    Lines end in CR, LF or CRLF. Comments, ``id`` and ``retry`` are dropped. The specification drops an event that no
    blank line ends; servers forget that line, so it is given out by ``end``.
    """

    def __init__(self, limit: int = 16 << 20) -> None:
        self._limit = limit
        self._line_begun = bytearray()  # what has come of a line that has not ended
        self._event = ""
        self._data: list[bytes] = []
        self._data_size = 0
        self._skip_lf = False  # the last byte was CR: a LF that follows belongs to it
        self._fresh = True

    @property
    def pending(self) -> int:
        """The bytes of an event that has not ended."""
        return len(self._line_begun) + self._data_size

    def feed(self, chunk: bytes) -> list[tuple[str, bytes]]:
        if not chunk:
            return []
        if self._skip_lf and chunk[0] == 0x0A:
            chunk = chunk[1:]
        self._skip_lf = chunk[-1:] == b"\r"
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = chunk.split(b"\n")
        if len(lines) == 1:
            self._hold(chunk)
            return []
        first, last = lines[0], lines.pop()
        if self._line_begun:
            self._hold(first)
            lines[0] = bytes(self._line_begun)
            self._line_begun = bytearray()
        found = [pair for line in lines if (pair := self._line(line))]
        if self._data_size > self._limit and not found:
            raise LineTooLong
        if last:  # too long already? Said with the next piece, or what was found here would be lost
            self._line_begun += last
        return found

    def end(self) -> list[tuple[str, bytes]]:
        """The stream is over."""
        line, self._line_begun = bytes(self._line_begun), bytearray()
        found = [self._line(line)] if line else []
        found.append(self._dispatch())
        return [pair for pair in found if pair]

    def _hold(self, piece: bytes) -> None:
        self._line_begun += piece
        if len(self._line_begun) > self._limit:
            raise LineTooLong

    def _line(self, line: bytes) -> tuple[str, bytes] | None:
        if self._fresh:
            self._fresh = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_size += len(value) + 1
        elif name == b"event":
            self._event = value[:64].decode("utf-8", "replace")
        return None

    def _dispatch(self) -> tuple[str, bytes] | None:
        data, event = self._data, self._event
        self._data, self._data_size, self._event = [], 0, ""
        return (event, b"\n".join(data)) if data else None
