"""Enough file descriptors for all calls of a process at once: a connection that is refused is a failed call."""

from __future__ import annotations

import resource
from functools import cache

_ENOUGH = 1 << 16  # more than any triggerer has triggers


def allow(wanted: int) -> int:
    """Raise this process's own limit of open files to ``wanted``, as far as the system lets it.

    Returns how many files may be open now; that may be more than ``wanted``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


@cache
def allow_all() -> None:
    """Raise the limit once, far enough for everything that a process may ever have open."""
    allow(_ENOUGH)
