"""Why a response is not all of an answer: the ``problem`` of what was received."""

from __future__ import annotations


class Cut(str):
    """A problem that the next attempt may not have: the answer ended early, or never began.

    Any other problem is one of the answer itself: it is too large, or not what this package reads.
    """

    __slots__ = ()
