"""What Airflow's retries can do, by its version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
else:
    try:
        from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
    except ImportError:
        RetryDecision, RetryPolicy = None, object

__all__ = [
    "FINAL_BY_POLICY",
    "RESCHEDULES",
    "RetryDecision",
    "RetryPolicy",
    "may_reschedule",
    "reschedules",
    "waits_for_server",
]
FINAL_BY_POLICY = RetryPolicy is not object
"""Does Airflow ask a policy whether to retry? From 3.3 on."""
RESCHEDULES = hasattr(RetryDecision, "reschedule")
"""Can a policy have a task run again without using a retry? From Airflow 3.4 on."""


def reschedules(context: Mapping[str, Any] | None) -> int:
    """How often this try has been rescheduled so far."""
    return (context or {}).get("task_reschedule_count") or 0


def waits_for_server(error: BaseException) -> bool:
    """Would our policy have a task rescheduled for ``error``?"""
    return RESCHEDULES and isinstance(error, RateLimited) and not error.final and bool(error.retry_after)


def may_reschedule(policy: RetryPolicy | None, *, after_answer: bool) -> bool:
    """May a task's policy have it run again? ``after_answer``: the server has answered, and not refused."""
    if not RESCHEDULES or policy is None:
        return False
    # Not inherited: a subclass may decide otherwise.
    only_refused = vars(type(policy)).get("reschedules_only_refused", False)
    return not (after_answer and only_refused)
