"""Airflow's retries, decided by what went wrong. Airflow 3.3 asks; before it, final errors are AirflowFailException."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.errors import ChatCompletionError

if TYPE_CHECKING:
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
else:
    try:
        from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
    except ImportError:
        RetryDecision, RetryPolicy = None, object

FINAL_BY_POLICY = RetryPolicy is not object


class ChatCompletionRetryPolicy(RetryPolicy):
    """A final error fails the task at once; a ``retry_after`` that the server asked for is the delay of the retry.

    ``max_delay``: seconds; a server's wait is capped at it. Everything else is left to the task's own settings.
    """

    def __init__(self, max_delay: float = 3600.0) -> None:
        self.max_delay = max_delay

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """The decision of this policy for ``exception``."""
        if not isinstance(exception, ChatCompletionError):
            return RetryDecision.default()
        if exception.final:
            return RetryDecision.fail(f"{type(exception).__name__}: the same request would fail again")
        if exception.retry_after:
            wait = min(exception.retry_after, self.max_delay)
            return RetryDecision.retry(timedelta(seconds=wait), reason=f"the server asked to wait {wait:g} s")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """For the serialized DAG."""
        return {"max_delay": self.max_delay}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ChatCompletionRetryPolicy:
        """What ``serialize`` wrote."""
        return cls(**data)


DEFAULT_POLICY = ChatCompletionRetryPolicy() if FINAL_BY_POLICY else None


def policy_argument(given: Any) -> dict[str, Any]:
    """Airflow's argument ``retry_policy``, where it has one. None is the default: ``partial()`` may pass it unasked."""
    return {"retry_policy": given or DEFAULT_POLICY} if FINAL_BY_POLICY else {}


@contextmanager
def final_errors() -> Iterator[None]:
    """Before Airflow has retry policies, an error that no retry can mend has to say so by its type."""
    try:
        yield
    except ChatCompletionError as error:
        from airflow_chat_provider.compat import AirflowFailException

        if error.final and not FINAL_BY_POLICY:
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        raise
