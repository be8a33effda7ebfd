"""Imports that moved between Airflow versions, and behaviour that differs between them, such as that of retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from airflow.sdk import exceptions
from airflow.sdk.definitions._internal.types import NOTSET

from airflow_chat_provider.core.errors import ChatCompletionError, RateLimited

if TYPE_CHECKING:
    from airflow.sdk.configuration import conf
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
else:
    if not hasattr(exceptions, "AirflowFailException"):  # Airflow 3.1
        from airflow import exceptions
    try:
        from airflow.sdk.configuration import conf
    except ImportError:  # before Airflow 3.2
        from airflow.configuration import conf
    try:
        from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
    except ImportError:  # before Airflow 3.3
        RetryDecision, RetryPolicy = None, object

__all__ = ["NOTSET", "RetryDecision", "RetryPolicy", "conf", "exceptions"]  # from elsewhere
FINAL_BY_POLICY = RetryPolicy is not object
"""Does Airflow ask a policy whether to retry? From 3.3 on."""
RESCHEDULES = hasattr(RetryDecision, "reschedule")
"""Can a policy have a task run again without using a retry? From Airflow 3.4 on."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


async def uncut(exchange: Awaitable[_T]) -> _T:
    """Await ``exchange``, which goes on to its end even if the caller is cancelled.

    Before Airflow 3.3, a trigger that is cancelled between a request to Airflow and the response leaves the response
    unread. The next trigger reads it, and the triggerer ends with "Response read out of order".
    """
    return await asyncio.shield(exchange)


async def in_thread(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run ``call`` in a thread from which it may talk to Airflow.

    ``asyncio.to_thread`` will not do: before Airflow 3.3, a trigger's channel to Airflow finds its event loop through
    asgiref, which also passes a cancellation on to whatever the thread waits for.
    """
    from asgiref.sync import sync_to_async

    return await uncut(sync_to_async(call, thread_sensitive=False)(*args, **kwargs))


def loop_reaches_airflow() -> bool:
    """Can an event loop talk to Airflow by itself? In ``dag.test()`` only threads can."""
    from airflow.sdk.execution_time import task_runner

    return hasattr(getattr(task_runner, "SUPERVISOR_COMMS", None), "asend")


def threads_reach_airflow() -> bool:
    """May a thread talk to Airflow while another one does? Not in the first versions, nor in ``dag.test()``."""
    from airflow.sdk.execution_time import task_runner

    channel = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return channel is None or hasattr(channel, "_thread_lock")


def has_success_listeners() -> bool:
    """Does a plugin, such as OpenLineage's, listen for tasks that succeed in workers?"""
    manager: Any
    try:
        from airflow.sdk.listener import get_listener_manager as manager
    except ImportError:  # before Airflow 3.2
        from airflow.listeners.listener import get_listener_manager as manager
    return bool(manager().hook.on_task_instance_success.get_hookimpls())


def current_context() -> Any:
    """The context of the task that this process is running; None outside of a task, such as while it parses DAGs."""
    from airflow.sdk import get_current_context

    try:
        return get_current_context()
    except (RuntimeError, exceptions.AirflowException):
        return None


def literal_module() -> str:
    """The module that has ``literal``, with which a DAG's author keeps a text from being rendered."""
    import airflow.sdk

    return "airflow.sdk" if hasattr(airflow.sdk, "literal") else "airflow.sdk.definitions.template"  # Airflow 3.1.0


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


@contextmanager
def final_errors() -> Iterator[None]:
    """Without retry policies, an error that no retry can repair has to tell Airflow so by its type."""
    try:
        yield
    except ChatCompletionError as error:
        if error.final and not FINAL_BY_POLICY:
            raise exceptions.AirflowFailException(f"{type(error).__name__}: {error}") from error
        raise
