"""Mapped tasks: the arguments of ``partial``, ``expand`` and ``expand_kwargs`` are checked as far as they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.bases.decorator import _TaskDecorator
from airflow.sdk.definitions._internal.contextmanager import DagContext, TaskGroupContext
from airflow.sdk.definitions.mappedoperator import OperatorPartial

from airflow_chat_provider.task.parse_checks import naming
from airflow_chat_provider.task.unknown_arguments import check_names

if TYPE_CHECKING:
    from airflow.sdk import DAG, TaskGroup
    from airflow.sdk.bases.decorator import TaskDecorator


def check_partial(operator: type[Any], given: Mapping[str, Any]) -> None:
    """Check the arguments of ``partial()``. Raises InvalidRequest, which names the task."""
    dag = given.get("dag") or DagContext.get_current()
    group = given.get("task_group") or (TaskGroupContext.get_current(dag) if dag is not None else None)
    task_id = given.get("task_id") or "?"
    with naming(group.child_id(task_id) if group is not None else task_id):
        check_names(operator, given)
        arguments = {**_defaults(operator, dag, group, given), **given}
        operator._check_arguments(arguments, dag, mapped=True)  # noqa: SLF001 - an operator of ours


def _defaults(
    operator: type[Any], dag: DAG | None, group: TaskGroup | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Those of the operator's own arguments that ``default_args`` give."""
    found: dict[str, Any] = {}
    for holder in (getattr(dag, "default_args", None), getattr(group, "default_args", None), given.get("default_args")):
        found |= holder if isinstance(holder, Mapping) else {}
    return {name: value for name, value in found.items() if name in operator._kinds}  # noqa: SLF001 - as above


class Checked(OperatorPartial):
    """The result of ``partial()``. The values that it is expanded over are checked if they stand in the DAG."""

    __slots__ = ()

    def expand(self, **mapped_kwargs: Any) -> Any:
        """Airflow's own. Each value of a list that stands in the DAG is checked by itself."""
        self._check_names(mapped_kwargs)
        for name, values in mapped_kwargs.items():
            for value in values if isinstance(values, list | tuple) else ():
                self._check({name: value})
        return super().expand(**mapped_kwargs)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> Any:
        """Airflow's own. Each dict of a list that stands in the DAG is checked."""
        for given in kwargs if isinstance(kwargs, Sequence) else ():
            if isinstance(given, Mapping):
                self._check_names(given)
                self._check(given)
        return super().expand_kwargs(kwargs, strict=strict)

    def _check_names(self, given: Mapping[str, Any]) -> None:
        self._expand_called = True  # if the check fails, Airflow would warn that nothing was expanded
        with naming(self.kwargs["task_id"]):
            check_names(self.operator_class, given)

    def _check(self, given: Mapping[str, Any]) -> None:
        operator: Any = self.operator_class
        self._expand_called = True  # as above
        with naming(self.kwargs["task_id"]):
            named = {"task_id": self.kwargs["task_id"], **given}
            operator._check_each(named, self.kwargs.get("dag"))  # noqa: SLF001 - an operator of ours


def checked_partial(partial: OperatorPartial) -> OperatorPartial:
    """The result of Airflow's ``partial()``, with its ``expand`` and ``expand_kwargs`` checked."""
    partial.__class__ = Checked  # not a copy: Airflow warns about each one that is never expanded
    return partial


class _CheckedTask(_TaskDecorator):  # type: ignore[type-arg]
    """A decorated function. If it is called, the task checks itself; if it is mapped, this class checks."""

    def expand(self, **map_kwargs: Any) -> Any:
        """Airflow's own. The function's arguments are mapped; the decorator's are checked."""
        self._check()
        return super().expand(**map_kwargs)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> Any:
        """Airflow's own, checked like ``expand``."""
        self._check()
        return super().expand_kwargs(kwargs, strict=strict)

    def _check(self) -> None:
        operator: Any = self.operator_class
        # The decorator's arguments are not mapped, so those that are not given keep their defaults.
        check_partial(operator, {"result_format": "raw", **self.kwargs, "multiple_outputs": self.multiple_outputs})


def checked(decorator: Any) -> TaskDecorator:
    """A function that Airflow's factory has decorated, whose arguments are checked when it is mapped."""
    decorator.__class__ = _CheckedTask
    return cast("TaskDecorator", decorator)
