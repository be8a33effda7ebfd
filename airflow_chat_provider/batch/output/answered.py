"""The lines of batches, found by the digests of their requests. Only where each lies is in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.batch.files import reason
from airflow_chat_provider.batch.output.digest_table import DigestTable, short
from airflow_chat_provider.batch.output.lines import DIGEST, Foreign, parse_line
from airflow_chat_provider.core.errors import ChatCompletionError

if TYPE_CHECKING:
    from airflow_chat_provider.batch.output.store import Store

_PLACE_BITS = 44  # of a line's place; the bits above them are the number of its file
_PLACE = (1 << _PLACE_BITS) - 1
_BLOCK = 1 << 20
_MARK = f',"{DIGEST}":"'.encode()
_END = b'"}\n'
_HEX_FROM = 32 + len(_END)  # bytes from the digest to the end of a line
_FROM = len(_MARK) + _HEX_FROM  # and from the mark before it


class Found(NamedTuple):
    """A line, and the number of the store that it is from."""

    store: int
    line: dict[str, Any]


class Answered:
    """The lines of a kind in several stores. Of several with one digest, the first counts, or the ``last`` one.

    ``count`` is how many digests there are; ``damaged`` counts lines that cannot be read.
    """

    def __init__(self, stores: Sequence[Store], kind: str, *, last: bool = False) -> None:
        """Read all lines, once. Lines that come later are not seen. Raises ChatCompletionError."""
        self.count = self.damaged = 0
        self._last = last
        self._files: list[IO[bytes]] = []
        self._names = [store.where(kind) for store in stores]
        try:
            for store in stores:
                self._files.append(store.file(kind))
            counts = list(map(_count_lines, self._files))
            self._table = DigestTable(sum(counts))
            for number, (file, count) in enumerate(zip(self._files, counts, strict=True)):
                self._read(number, islice(file, count))
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):  # a folder that is damaged; or no room for a copy of an object store's lines
                raise _unreadable(", ".join(self._names[:3]), error) from None
            raise

    def _read(self, number: int, lines: Iterable[bytes]) -> None:
        begin, add = number << _PLACE_BITS, self._table.put if self._last else self._table.add
        for line in lines:
            # Nearly all lines end in their digest, and need not be parsed for it: that would take minutes.
            if line[-_FROM:-_HEX_FROM] == _MARK and line.endswith(_END):
                digest = line[-_HEX_FROM : -len(_END)]
            else:
                digest = self._digest_in(line)
            if digest:
                try:
                    self.count += add(short(digest), begin) is None
                except ValueError:
                    self.damaged += 1
            begin += len(line)

    def _digest_in(self, line: bytes) -> bytes:
        """The digest of a line that does not end in it; empty if there is none."""
        if not line.endswith(b"\n"):
            return b""  # it is being written
        try:
            found = parse_line(line)
        except Foreign:
            found = None
        if found is None:
            self.damaged += 1
            return b""
        digest = found.get(DIGEST)
        return digest.encode() if isinstance(digest, str) and digest.isascii() else b""

    def find(self, digest: str) -> Found | None:
        """The line with a digest; None if there is none. Raises ChatCompletionError if it cannot be read."""
        place = self._table.get(short(digest))
        if place is None:
            return None
        number = place >> _PLACE_BITS
        file = self._files[number]
        try:
            file.seek(place & _PLACE)
            content = file.readline()
        except OSError as error:
            raise _unreadable(self._names[number], error) from None
        try:
            line = parse_line(content)
        except Foreign:
            line = None
        if line is None:
            self.damaged += 1
            return None
        return Found(number, line) if line.get(DIGEST) == digest else None

    def close(self) -> None:
        while self._files:
            self._files.pop().close()


def _unreadable(name: str, error: OSError) -> ChatCompletionError:
    return ChatCompletionError(f"Repair this, then run the task again: reading {name} failed ({reason(error)})")


def _count_lines(file: IO[bytes]) -> int:
    """How many lines a file has now: another run may be adding to it."""
    count = 1  # half a line at the end
    while block := file.read(_BLOCK):
        count += block.count(b"\n")
    file.seek(0)
    return count
