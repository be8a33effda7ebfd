"""Airflow's retries, decided by what went wrong. Airflow 3.3 asks; before it, final errors are AirflowFailException."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.errors import ChatCompletionError, RateLimited

if TYPE_CHECKING:
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
else:
    try:
        from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
    except ImportError:
        RetryDecision, RetryPolicy = None, object

FINAL_BY_POLICY = RetryPolicy is not object
RESCHEDULES = hasattr(RetryDecision, "reschedule")
"""Can a policy have a task run again without using a retry? From Airflow 3.4 on."""
_LONGEST_STEP = 300.0


class ChatCompletionRetryPolicy(RetryPolicy):
    """A final error fails the task at once; a ``retry_after`` that the server asked for is the delay of the retry.

    From Airflow 3.4 on, a rate limit or an overload whose wait the server names uses no retry: the task is rescheduled.
    Each time in a row it waits for longer, up to five minutes, where the server names less. Everything else is left to
    the task's own settings.

    ``max_delay``: seconds; a server's wait is capped at it. ``reschedule_timeout``: seconds from the first reschedule
    of a try, after which a rate limit uses retries like any other error; 0: it always does.
    """

    def __init__(self, max_delay: float = 3600.0, reschedule_timeout: float = 86400.0) -> None:
        self.max_delay = max_delay
        self.reschedule_timeout = reschedule_timeout

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """The decision of this policy for ``exception``."""
        if not isinstance(exception, ChatCompletionError):
            return RetryDecision.default()
        if exception.final:
            return RetryDecision.fail(f"{type(exception).__name__}: the same request would fail again")
        if not exception.retry_after:
            return RetryDecision.default()
        wait = min(exception.retry_after, self.max_delay)
        reason = f"the server asked to wait {wait:g} s"
        if not self._reschedules(exception, context):
            return RetryDecision.retry(timedelta(seconds=wait), reason=reason)
        step = min(2.0 ** min(reschedules(context), 20), _LONGEST_STEP)  # a server that is full for long is asked less
        return RetryDecision.reschedule(  # type: ignore[attr-defined,no-any-return]
            timedelta(seconds=max(wait, min(step, self.max_delay))),
            reschedule_timeout=timedelta(seconds=self.reschedule_timeout),
            reason=reason,
        )

    def _reschedules(self, exception: ChatCompletionError, context: Any) -> bool:
        """Airflow would heed the bound, too, but then retry by the task's ``retry_delay``, not when the server said."""
        if not waits_for_server(exception) or self.reschedule_timeout <= 0:
            return False
        first = context["ti"].get_first_reschedule_date(context) if reschedules(context) else None
        return first is None or (datetime.now(tz=UTC) - first).total_seconds() < self.reschedule_timeout

    def serialize(self) -> dict[str, Any]:
        """For the serialized DAG."""
        return {"max_delay": self.max_delay, "reschedule_timeout": self.reschedule_timeout}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ChatCompletionRetryPolicy:
        """What ``serialize`` wrote."""
        return cls(**data)


DEFAULT_POLICY = ChatCompletionRetryPolicy() if FINAL_BY_POLICY else None


def waits_for_server(error: BaseException) -> bool:
    """Is ``error`` one for which a task of ours is rescheduled?"""
    return RESCHEDULES and isinstance(error, RateLimited) and not error.final and bool(error.retry_after)


def may_reschedule(policy: Any, *, after_answer: bool) -> bool:
    """May a task's ``policy`` have it run again? Ours does so for a refusal alone: not ``after_answer``."""
    ours = type(policy) is ChatCompletionRetryPolicy
    return RESCHEDULES and policy is not None and not (ours and after_answer)


def reschedules(context: Any) -> int:
    """How often this try was rescheduled so far."""
    return (context or {}).get("task_reschedule_count") or 0


def policy_argument(given: Any) -> dict[str, Any]:
    """Airflow's argument ``retry_policy``, where it has one. None is the default: ``partial()`` may pass it unasked."""
    return {"retry_policy": given or DEFAULT_POLICY} if FINAL_BY_POLICY else {}


@contextmanager
def final_errors() -> Iterator[None]:
    """Before Airflow has retry policies, an error that no retry can mend has to say so by its type."""
    try:
        yield
    except ChatCompletionError as error:
        from airflow_chat_provider.airflow_api.compat import AirflowFailException

        if error.final and not FINAL_BY_POLICY:
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        raise
