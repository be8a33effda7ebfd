"""Decide Airflow's retries by what went wrong: by a policy from Airflow 3.3 on, before it by AirflowFailException."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from airflow_chat_provider.airflow_api import compat
from airflow_chat_provider.airflow_api.compat import FINAL_BY_POLICY, RetryDecision, RetryPolicy
from airflow_chat_provider.core.errors import ChatCompletionError

__all__ = ["ChatCompletionRetryPolicy"]
_LONGEST_STEP = 300.0


class ChatCompletionRetryPolicy(RetryPolicy):
    """A final error fails the task at once. If the server says how long to wait, the retry is delayed for so long.

    From Airflow 3.4 on, a rate limit or an overload for which the server names a wait uses no retry: the task is
    rescheduled. Each time in a row it waits for longer, up to five minutes, if the server names less. Everything else
    is left to the task's own settings.

    ``max_delay``: the longest wait, in seconds. ``reschedule_timeout``: seconds from the first reschedule of a try,
    after which a rate limit uses retries like any other error; 0 means that it always does.
    """

    reschedules_only_refused: ClassVar[bool] = True
    """It reschedules no task that was answered: see ``may_reschedule``."""

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
        # A server that stays overloaded is asked less often.
        step = min(2.0 ** min(compat.reschedules(context), 20), _LONGEST_STEP)
        return RetryDecision.reschedule(  # type: ignore[attr-defined,no-any-return]
            timedelta(seconds=max(wait, min(step, self.max_delay))),
            reschedule_timeout=timedelta(seconds=self.reschedule_timeout),
            reason=reason,
        )

    def _reschedules(self, exception: ChatCompletionError, context: Any) -> bool:
        """Airflow also obeys ``reschedule_timeout``, but retries after ``retry_delay``, not when the server said."""
        if not compat.waits_for_server(exception) or self.reschedule_timeout <= 0:
            return False
        first = context["ti"].get_first_reschedule_date(context) if compat.reschedules(context) else None
        return first is None or (datetime.now(tz=UTC) - first).total_seconds() < self.reschedule_timeout

    def serialize(self) -> dict[str, Any]:
        """For the serialized DAG."""
        return {"max_delay": self.max_delay, "reschedule_timeout": self.reschedule_timeout}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ChatCompletionRetryPolicy:
        """What ``serialize`` wrote."""
        return cls(**data)


DEFAULT_POLICY = ChatCompletionRetryPolicy() if FINAL_BY_POLICY else None


def policy_argument(given: RetryPolicy | None) -> dict[str, Any]:
    """Airflow's argument ``retry_policy``, if it has one. None means the default: ``partial()`` may pass it unasked."""
    return {"retry_policy": given or DEFAULT_POLICY} if FINAL_BY_POLICY else {}
