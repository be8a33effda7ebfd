"""The span of a batch, with its counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.transport.observer import Group

if TYPE_CHECKING:
    from airflow_chat_provider.batch.job import Job

_KINDS = 16  # of errors


def span_of(job: Job) -> Group:
    """One span for the batch, under which those of its calls are, if the user wants these."""
    return Group("chat batch", job.engine.settings, lambda: _counts(job))


def _counts(job: Job) -> dict[str, Any]:
    """What the batch came to, also if it was stopped."""
    tally = job.engine.tally
    manifest = tally.manifest(time.monotonic())
    kinds = tally.came.failed.most_common(_KINDS)
    found = {
        "rows": manifest["total"],
        "succeeded": manifest["succeeded"],
        "failed": sum(manifest["failed"].values()),
        "incomplete": manifest["incomplete"],
        "missing": manifest["missing"],
        "kept": tally.earlier,
        "reused": manifest["reused"],
        "deduplicated": manifest["deduplicated"],
        "errors": [f"{kind}: {count}" for kind, count in kinds],
        **{key: manifest["usage"][key] for key in ("input_tokens", "output_tokens", "cost")},
    }
    return {f"chat_completion.batch.{name}": value for name, value in found.items() if value is not None}
