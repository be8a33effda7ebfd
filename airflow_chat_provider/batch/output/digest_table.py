"""A number for each of many digests, in little memory."""

from __future__ import annotations

from array import array

_NUMBER = "I"  # an array type of 32 bits


class DigestTable:
    """A table with room for ``count`` digests, in 16 bytes each; a dict of a million would take 150 MB.

    It keeps half of the 64 bits that it is given of each, and where it lies says most of the other half. Of a million
    digests, two that differ are taken for one with a chance of 1 in 1,000: so whoever has to be sure looks again.
    """

    def __init__(self, count: int) -> None:
        self._size = max(8, count + count // 3 + 1)
        self._halves = array(_NUMBER, bytes(array(_NUMBER).itemsize * self._size))
        self._values = array("Q", bytes(8 * self._size))

    def add(self, digest: int, value: int) -> int | None:
        """Note ``value`` for a digest. If it has one already, that stays, and is returned."""
        slot, half = self._slot(digest)
        if self._halves[slot]:
            return self._values[slot]
        self._halves[slot], self._values[slot] = half, value
        return None

    def put(self, digest: int, value: int) -> int | None:
        """Note ``value`` for a digest. The one that it had, if any, is returned."""
        slot, half = self._slot(digest)
        had = self._values[slot] if self._halves[slot] else None
        self._halves[slot], self._values[slot] = half, value
        return had

    def get(self, digest: int) -> int | None:
        """The digest's value; None if it has none."""
        slot, _ = self._slot(digest)
        return self._values[slot] if self._halves[slot] else None

    def _slot(self, digest: int) -> tuple[int, int]:
        """Where the digest is, or would be; and the half of it that is kept."""
        slot, half, halves = digest % self._size, (digest >> 32) or 1, self._halves
        while halves[slot] not in (0, half):
            slot = slot + 1 if slot + 1 < self._size else 0
        return slot, half


def short(digest: str | bytes) -> int:
    """The 64 bits of a digest that a table takes. Raises ValueError where it is not one."""
    found = int(digest[:16], 16)
    if found < 0:
        raise ValueError("a digest has no sign")
    return found
