"""Reading the results of a batch, in a task or anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Literal

from airflow_chat_provider.batch.output.reading import Output, joined, outputs
from airflow_chat_provider.batch.output.store import ERRORS, RESULTS

__all__ = ["read_errors", "read_results"]


def read_results(
    manifest: object, *, ordered: bool = False, on_unfinished: Literal["fail", "ignore"] = "fail"
) -> Iterator[dict[str, Any]]:
    """The lines of the rows that were answered, one dict for each row, read as they are asked for.

    ``manifest`` is what ChatCompletionBatchOperator returned, or the path of its output folder, on this machine or in
    an object store; or a list of them, as a mapped task returns it. The lines come as they lie there; with
    ``ordered=True`` in the order of the rows, those of several shards together: for that, lines of an object store are
    copied into the temporary folder. A reader keeps 8 bytes for each row.

    Damaged lines are skipped and named in the log. Raises InvalidRequest if there is no batch to read, and
    ChatCompletionError if rows have neither a result nor an error yet; ``on_unfinished="ignore"`` reads what there is.
    """
    batches = outputs(manifest, on_unfinished)
    _note(batches, RESULTS)
    if ordered:
        return joined(batches, [batch.results_in_order() for batch in batches])
    return chain.from_iterable(batch.results() for batch in batches)


def read_errors(manifest: object, *, on_unfinished: Literal["fail", "ignore"] = "fail") -> Iterator[dict[str, Any]]:
    """The lines of the rows that failed, one dict for each row, in the order of the rows; otherwise as read_results."""
    batches = outputs(manifest, on_unfinished)
    _note(batches, ERRORS)
    return joined(batches, [batch.errors() for batch in batches])


def _note(batches: Sequence[Output], kind: str) -> None:
    """Tell of the files that a task reads. Elsewhere there is no lineage, and Airflow need not be imported for it."""
    if "airflow.sdk.execution_time.task_runner" in sys.modules:
        from airflow_chat_provider.batch.lineage import note_reading

        for batch in batches:
            note_reading(batch, batch.where(kind))
