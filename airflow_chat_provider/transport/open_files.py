"""Enough file descriptors for all calls of a process at once."""

from __future__ import annotations

import resource
from functools import cache

_ENOUGH = 1 << 16  # more than any triggerer has triggers


@cache
def allow_all() -> None:
    """Raise this process's own limit as far as the system lets it: a connection that is refused is a failed call."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
