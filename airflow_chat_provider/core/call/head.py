"""Limits for what comes before a response's body: HTTP and its libraries set none."""

from __future__ import annotations

import re

_LONGEST = 1 << 16  # bytes: what large gateways allow
_LINES = 1000  # each takes an HTTP library a few microseconds
_INTERIM = 16  # responses with a status of 1xx; servers send one or two
_END = re.compile(rb"\n\r?\n")
_IS_INTERIM = re.compile(rb"HTTP/\d\.\d 1(?!01)\d\d")
TOO_LONG = "the response's headers are too long"
TOO_MANY = "the response has too many headers"
TOO_OFTEN = "the server sends too many interim responses (1xx)"
TRAILERS = "too many headers follow the response's body"


class HeadError(Exception):
    """The response is not worth reading on. The text is one of those above."""


class Head:
    """``take`` all bytes that come once a request is sent; raises HeadError. ``over``: the body has begun."""

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
