"""An operator that another task executes, as people do in a function under ``@task``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_chat_provider.airflow_api.compat import current_context
from airflow_chat_provider.core.errors import InvalidRequest

if TYPE_CHECKING:
    from airflow_chat_provider.task.chat import ChatCompletionOperator


def known_context(context: Any) -> Any:
    """``context``, or the running task's where somebody executes an operator with an empty one."""
    if context and context.get("ti") is not None:
        return context
    return current_context() or context or {}  # no task runs here in a unit test


def outer_task(operator: BaseOperator, context: Any) -> BaseOperator | None:
    """The task that executes ``operator``; None where Airflow does, or where no task runs."""
    task = getattr(context.get("ti"), "task", None)
    return task if isinstance(task, BaseOperator) and task is not operator else None


def placed(operator: ChatCompletionOperator, context: Any) -> tuple[Any, str | None]:
    """The context to go by, and the operator's task_id where another task executes it.

    Raises InvalidRequest for what is not possible there.
    """
    context = known_context(context)
    outer = outer_task(operator, context)
    if outer is None:
        return context, None
    if operator.is_branch:
        raise _refused(operator, outer, "branches", "", "has no tasks downstream")
    if operator.deferrable:
        _wait_here(operator, outer)
    return context, operator.task_id


def _wait_here(operator: ChatCompletionOperator, outer: BaseOperator) -> None:
    """Airflow would defer the outer task, which knows nothing of the call: the answer would be lost."""
    if "deferrable" in getattr(operator, "_BaseOperator__init_kwargs", ()):
        raise _refused(operator, outer, "deferrable", ", or set deferrable=False", "cannot be deferred")
    operator.deferrable = False  # nobody asked for it here: it is [operators] default_deferrable
    operator.log.info(
        "Task %s executes %s, which cannot be deferred there: it waits in the worker", outer.task_id, operator.task_id
    )


def _refused(operator: BaseOperator, outer: BaseOperator, path: str, way_out: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"Make {operator.task_id!r} a task of the DAG{way_out}: an operator that another task executes, here "
        f"{outer.task_id!r}, {why}",
        path=path,
        keyword="inside",
    )
