"""Server-sent events from bytes, which may be cut anywhere.

httpx's ``iter_lines`` will not do: it also splits text at U+2028 and the like, which JSON may hold unescaped. The
format is that of the HTML standard, section 9.2 (Server-sent events).
"""

from __future__ import annotations

from collections.abc import Iterator

_BOM = b"\xef\xbb\xbf"
_OBJECT = b"data: {"
_VALUE = len(b"data: ")


class LineTooLong(Exception):
    """A line, or an event of many lines, passes the limit before it ends."""


class SSEDecoder:
    """``feed`` bytes and get the ``(event, data)`` pairs that they complete; ``end`` gives one that lacks its end.

    Lines end in CR, LF or CRLF. Comments, ``id`` and ``retry`` are dropped. The specification drops an event that is
    not followed by a blank line. Some servers forget that line, so ``end`` gives the event. Some servers also write
    what the specification does not allow for:

    - Only one line break between two events. So a line of data that looks like a JSON object, or is ``[DONE]``, is
      given out at once. If the reader finds that it is not JSON, ``goes_on`` takes it back: the event may have more
      lines.
    - An object without ``data:`` before it. It counts as data.
    - A field ``error`` (llama.cpp, until September 2025). It counts as the data of an event ``error``.
    """

    def __init__(self, limit: int = 16 << 20) -> None:
        self._limit = limit
        self._line_begun = bytearray()  # what has come of a line that has not ended
        self._event = ""
        self._data: list[bytes] = []
        self._data_size = 0
        self._skip_lf = False  # the last byte was CR: a LF that follows belongs to it
        self._fresh = True
        self._open = False  # has the event that was given out last not ended?
        self._bare = False  # does the event's data stand there without a field?
        self.strange = False
        """Did a line come that does not belong in an event stream?"""

    @property
    def pending(self) -> int:
        """The bytes of an event that has not ended."""
        return len(self._line_begun) + self._data_size

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """The events that these bytes complete; read them all before the next call. Raises LineTooLong."""
        found = False
        for line in self._lines(chunk):
            if line and not self._data and line.startswith(_OBJECT) and line[-1] == 0x7D:  # a short cut for most lines
                found = self._open = True
                yield self._event, line[_VALUE:]
            elif line or self._data:
                if (pair := self._line(line)) is not None:
                    found = True
                    yield pair
            else:
                self._event = ""
        if self._data_size > self._limit and not found:
            raise LineTooLong

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that these bytes end."""
        if self._skip_lf and chunk[:1] == b"\n":
            chunk = chunk[1:]
        if not chunk:
            return []
        self._skip_lf = chunk[-1:] == b"\r"
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = chunk.split(b"\n")
        last = lines.pop()
        if not lines:
            self._hold(last)
            return []
        if self._line_begun:
            self._hold(lines[0])
            lines[0] = bytes(self._line_begun)
            self._line_begun = bytearray()
        if self._fresh:
            self._fresh = False
            lines[0] = lines[0].removeprefix(_BOM)
        self._line_begun += last  # if it is too long, the next piece raises: else the complete lines would be lost
        return lines

    def end(self) -> Iterator[tuple[str, bytes]]:
        """The stream is over."""
        line, self._line_begun = bytes(self._line_begun), bytearray()
        if self._fresh:
            line = line.removeprefix(_BOM)
        if line and (pair := self._line(line)) is not None:
            yield pair
        if (pair := self._dispatch()) is not None:
            yield pair

    def goes_on(self, data: bytes) -> bool:
        """Take back the event that was given out last, if it may have more lines. Returns whether it may."""
        if not self._open:
            return False
        self._open = False
        self._keep(data)
        return True

    def _hold(self, piece: bytes) -> None:
        self._line_begun += piece
        if len(self._line_begun) > self._limit:
            raise LineTooLong

    def _line(self, line: bytes) -> tuple[str, bytes] | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        if name == b"data":
            return self._value(value.removeprefix(b" "))
        if name == b"event":
            self._event = value.removeprefix(b" ")[:64].decode("utf-8", "replace")
        elif name == b"error":
            self._event = "error"
            return self._value(value.removeprefix(b" "))
        elif self._bare or line.lstrip()[:1] == b"{" or line.strip() == b"[DONE]":
            pair = self._value(line)
            self._bare = pair is None
            return pair
        elif name not in (b"", b"id", b"retry"):
            self.strange = True
        return None

    def _value(self, value: bytes) -> tuple[str, bytes] | None:
        text = value.strip()
        if not self._data and (text == b"[DONE]" or (text[:1] == b"{" and text[-1:] == b"}")):
            self._open = True
            return self._event, value
        self._keep(value)
        return None

    def _keep(self, value: bytes) -> None:
        self._data.append(value)
        self._data_size += len(value) + 1

    def _dispatch(self) -> tuple[str, bytes] | None:
        data, event = self._data, self._event
        self._data, self._data_size, self._event = [], 0, ""
        self._open = self._bare = False
        return (event, b"\n".join(data)) if data else None
