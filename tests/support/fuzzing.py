"""How the fuzz tests are run: the same cases each time in `make test`, many more and other ones in `make fuzz`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))


def fuzz(examples: int) -> settings:
    """So many cases, or FUZZ_TIMES as many."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        database=None,
        derandomize=TIMES == 1,
        suppress_health_check=list(HealthCheck),
    )
