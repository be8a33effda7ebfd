"""Enough file descriptors for all calls of a batch at once."""

from __future__ import annotations

import resource

from airflow_chat_provider.core.errors import InvalidRequest

_OTHERS = 200  # files and sockets of Airflow, of the libraries, of the batch itself


def allow_sockets(count: int) -> None:
    """Raise this process's own limit as far as need be; InvalidRequest where the system does not let it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InvalidRequest(
            f"Lower max_concurrency to {max(1, hard - _OTHERS)} or raise this worker's limit of open files (ulimit -n, "
            f"now {hard}): {count} calls at once need {needed}",
            path="max_concurrency",
            keyword="maximum",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
