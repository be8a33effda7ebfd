"""The ids that were seen already, in 18 bytes for each row of the input."""

from __future__ import annotations

from array import array
from hashlib import blake2b

_EMPTY = 0


class SeenIds:
    """A table of at most ``count`` ids: their 64-bit digests, and the rows that have them.

    A set of a million texts would take 100 MB. Two different ids get the same digest in one of 30 million batches of a
    million rows.
    """

    def __init__(self, count: int) -> None:
        self._size = max(8, count + count // 2)
        self._digests = array("Q", bytes(8 * self._size))
        self._rows = array("I", bytes(array("I").itemsize * self._size))

    def add(self, own_id: str, row: int) -> int | None:
        """Note the id of a row. Returns the index of another row that has the same id, or None."""
        digest = int.from_bytes(blake2b(own_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()) or 1
        slot = digest % self._size
        while (found := self._digests[slot]) not in (_EMPTY, digest):
            slot = slot + 1 if slot + 1 < self._size else 0
        if found == _EMPTY:
            self._digests[slot], self._rows[slot] = digest, row
        other = self._rows[slot]
        return other if other != row else None
