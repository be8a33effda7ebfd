"""Imports that moved between Airflow versions, and behaviour that differs between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from airflow.sdk.definitions._internal.types import NOTSET
from airflow.sdk.exceptions import AirflowRuntimeError

try:
    from airflow.sdk.configuration import conf
except ImportError:  # before Airflow 3.2
    from airflow.configuration import conf
try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSkipException,
        AirflowTaskTimeout,
        DownstreamTasksSkipped,
        XComNotFound,
    )
except ImportError:  # Airflow 3.1
    from airflow.exceptions import (  # type: ignore[attr-defined,no-redef]
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSkipException,
        AirflowTaskTimeout,
        DownstreamTasksSkipped,
        XComNotFound,
    )

__all__ = [
    "NOTSET",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowRescheduleException",
    "AirflowRuntimeError",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "DownstreamTasksSkipped",
    "XComNotFound",
    "conf",
    "current_context",
    "has_success_listeners",
    "in_thread",
    "literal_module",
    "loop_reaches_airflow",
    "uncut",
]

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
    except (RuntimeError, AirflowException):
        return None


def literal_module() -> str:
    """The module that has ``literal``, with which a DAG's author keeps a text from being rendered."""
    import airflow.sdk

    return "airflow.sdk" if hasattr(airflow.sdk, "literal") else "airflow.sdk.definitions.template"  # Airflow 3.1.0
