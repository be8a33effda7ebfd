"""What of Airflow lies elsewhere in another version."""

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
    """``exchange``, which goes on to its end even if whoever waits for it is cancelled.

    Before Airflow 3.3 a trigger that is cancelled between a question to Airflow and the answer leaves the answer
    unread. The next one to ask gets it, and the triggerer ends with "Response read out of order".
    """
    return await asyncio.shield(exchange)


async def in_thread(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """``call`` in a thread of its own, from which it may talk to Airflow.

    Not ``asyncio.to_thread``: before Airflow 3.3 a trigger's channel to Airflow finds its event loop through asgiref,
    which hands a cancellation on to whatever the thread waits for.
    """
    from asgiref.sync import sync_to_async

    return await uncut(sync_to_async(call, thread_sensitive=False)(*args, **kwargs))


def loop_reaches_airflow() -> bool:
    """May an event loop ask Airflow by itself? In ``dag.test()`` only threads can."""
    from airflow.sdk.execution_time import task_runner

    return hasattr(getattr(task_runner, "SUPERVISOR_COMMS", None), "asend")


def has_success_listeners() -> bool:
    """Does a plugin, such as OpenLineage's, listen for the success of tasks in workers?"""
    manager: Any
    try:
        from airflow.sdk.listener import get_listener_manager as manager
    except ImportError:  # before Airflow 3.2
        from airflow.listeners.listener import get_listener_manager as manager
    return bool(manager().hook.on_task_instance_success.get_hookimpls())


def current_context() -> Any:
    """The context of the task that this process runs just now; None where it reads a DAG, or is a user's own."""
    from airflow.sdk import get_current_context

    try:
        return get_current_context()
    except (RuntimeError, AirflowException):
        return None


def literal_module() -> str:
    """Where a DAG's author finds ``literal``, which keeps a text from being rendered."""
    import airflow.sdk

    return "airflow.sdk" if hasattr(airflow.sdk, "literal") else "airflow.sdk.definitions.template"  # Airflow 3.1.0
