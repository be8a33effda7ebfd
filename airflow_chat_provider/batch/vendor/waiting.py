"""A task that waits for a vendor's batch API: how it defers, and how it comes back."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self

from airflow_chat_provider.batch.vendor.work import Terms
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.core.server.scrub import printable
from airflow_chat_provider.task.base import outer_task
from airflow_chat_provider.triggers import BATCH_VERSION, ChatCompletionBatchTrigger

if TYPE_CHECKING:
    from airflow_chat_provider.batch.orders import Wait

# The trigger keeps the task's time limit itself. Airflow's own, this much later, is for a trigger that never runs.
_GRACE = timedelta(seconds=60)


class GoesOn(NamedTuple):
    """A try that goes on after a wait."""

    timed_out: bool = False

    @classmethod
    def from_event(cls, event: Any) -> Self:
        """Read a trigger's event. Raises ChatCompletionError where the trigger failed; nothing is lost then."""
        state = event.get("state") if isinstance(event, dict) and event.get("version") == BATCH_VERSION else None
        if state == "ended":
            return cls()
        if state == "timed_out":
            return cls(timed_out=True)
        detail = event.get("error") if isinstance(event, dict) else None
        raise ChatCompletionError(
            "See the trigger's log, then run the task again, which goes on from here: the wait for the batch API failed"
            + (f" ({printable(detail)[:200]})" if isinstance(detail, str) else "")
        )


def failure_event(next_kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """The event to go by when Airflow says that a trigger fired none: it timed out, or could not run."""
    said = next_kwargs or {}
    if said.get("error") == "Trigger timeout":
        return {"version": BATCH_VERSION, "state": "timed_out"}
    lines = "".join(said.get("traceback") or ()).strip().splitlines()
    return {"version": BATCH_VERSION, "state": "failed", "error": lines[-1] if lines else None}


def terms_of(task: Any, context: Any, goes_on: GoesOn | None) -> Terms:
    """The terms for a task that begins, or that ``goes_on``. Without Airflow around it, it cannot defer."""
    limit = task.execution_timeout
    return Terms(
        completion_window=task.completion_window,
        cancel_on_kill=task.cancel_on_kill,
        deferrable=task.deferrable and context.get("ti") is not None and outer_task(task, context) is None,
        expires=time.time() + limit.total_seconds() if limit else None,
        continuing=goes_on is not None,
        timed_out=goes_on is not None and goes_on.timed_out,
    )


def defer(task: Any, conn_id: str, wait: Wait) -> NoReturn:
    """Let the task wait in the triggerer."""
    trigger = ChatCompletionBatchTrigger(
        conn_id=conn_id,
        batches=wait.batches,
        any_one=wait.any_one,
        at_most=wait.at_most,
        expires=wait.expires,
        cancel_on_kill=task.cancel_on_kill,
    )
    left = None if wait.expires is None else timedelta(seconds=max(0.0, wait.expires - time.time())) + _GRACE
    task.defer(trigger=trigger, method_name="execute_complete", timeout=left)
    raise RuntimeError("a task that defers does not go on")
