"""What comes before a response's body, watched as it comes: HTTP sets no limit to it."""

from __future__ import annotations

import re

_LONGEST = 1 << 16  # bytes: what large gateways allow
_LINES = 1000  # each takes an HTTP library a few microseconds
_INTERIM = 16  # responses of 1xx: a patient server sends one or two
_END = re.compile(rb"\n\r?\n")
_IS_INTERIM = re.compile(rb"HTTP/\d\.\d 1(?!01)\d\d")
TOO_LONG = "the response's headers do not end"
TOO_MANY = "the response has too many headers"
TOO_OFTEN = "the server sends one interim response (1xx) after the other"
TRAILERS = "more headers follow the body than any server sends"


class HeadError(Exception):
    """Nothing sensible will follow; the text is one of those above."""


class Head:
    """``take`` all that comes from the moment of a request on; raises HeadError."""

    def __init__(self) -> None:
        self._seen = bytearray()
        self._interim = 0
        self.over = False

    def take(self, data: bytes) -> None:
        if self.over:
            return
        at = max(0, len(self._seen) - 2)
        self._seen += data
        while (end := _END.search(self._seen, at)) is not None:
            self._check(self._seen[: end.end()])
            if not _IS_INTERIM.match(self._seen):
                self.over, self._seen = True, bytearray()
                return
            self._interim += 1
            if self._interim > _INTERIM:
                raise HeadError(TOO_OFTEN)
            del self._seen[: end.end()]
            at = 0
        self._check(self._seen)

    def _check(self, head: bytearray) -> None:
        if len(head) > _LONGEST:
            raise HeadError(TOO_LONG)
        if head.count(b"\n") > _LINES:
            raise HeadError(TOO_MANY)
