"""Mapped tasks: what ``partial``, ``expand`` and ``expand_kwargs`` are given is checked as far as it is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.bases.decorator import _TaskDecorator
from airflow.sdk.definitions._internal.contextmanager import DagContext, TaskGroupContext
from airflow.sdk.definitions.mappedoperator import OperatorPartial

from airflow_chat_provider.task.base import RequestOperator, naming

if TYPE_CHECKING:
    from airflow.sdk.bases.decorator import TaskDecorator


def check_partial(operator: type[RequestOperator], given: Mapping[str, Any]) -> None:
    """Check what the DAG says of a task that will be mapped; raises InvalidRequest, which names the task."""
    dag = given.get("dag") or DagContext.get_current()
    group = given.get("task_group") or (TaskGroupContext.get_current(dag) if dag is not None else None)
    task_id = given.get("task_id") or "?"
    with naming(group.child_id(task_id) if group is not None else task_id):
        arguments = {**_defaults(operator, dag, group, given), **given}
        operator._check_arguments(arguments, dag, mapped=True)  # noqa: SLF001 - an operator of ours


def _defaults(operator: type[RequestOperator], dag: Any, group: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What ``default_args`` say of this operator's own arguments."""
    found: dict[str, Any] = {}
    for holder in (getattr(dag, "default_args", None), getattr(group, "default_args", None), given.get("default_args")):
        found |= holder if isinstance(holder, Mapping) else {}
    ours = operator._kinds()  # noqa: SLF001 - an operator of ours
    return {name: value for name, value in found.items() if name in ours}


class Checked(OperatorPartial):
    """What ``partial()`` returns: what it is expanded over is checked, too, as far as it stands in the DAG."""

    __slots__ = ()

    def expand(self, **mapped_kwargs: Any) -> Any:
        """Airflow's own. Each value of a list that stands in the DAG is checked by itself."""
        for given in _each(mapped_kwargs):
            self._check(given)
        return super().expand(**mapped_kwargs)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> Any:
        """Airflow's own. Each dict of a list that stands in the DAG is checked."""
        for given in kwargs if isinstance(kwargs, Sequence) else ():
            if isinstance(given, Mapping):
                self._check(given)
        return super().expand_kwargs(kwargs, strict=strict)

    def _check(self, given: Mapping[str, Any]) -> None:
        operator: Any = self.operator_class
        self._expand_called = True  # where the check fails, Airflow would warn that nothing was expanded
        with naming(self.kwargs["task_id"]):
            operator._check_each(given, self.kwargs.get("dag"))  # noqa: SLF001 - an operator of ours


def checked_partial(partial: OperatorPartial) -> OperatorPartial:
    """What Airflow's ``partial()`` returned, with its ``expand`` and ``expand_kwargs`` checked."""
    partial.__class__ = Checked  # not a copy: Airflow warns of each that is never expanded
    return partial


def _each(mapped: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, values in mapped.items():
        if isinstance(values, list | tuple):
            yield from ({name: value} for value in values)


class _CheckedTask(_TaskDecorator):  # type: ignore[type-arg]
    """A decorated function: called, it makes a task, which checks itself; here it is mapped."""

    def expand(self, **map_kwargs: Any) -> Any:
        """Airflow's own. What is mapped are the function's arguments; the decorator's are checked."""
        self._check()
        return super().expand(**map_kwargs)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> Any:
        """Airflow's own, checked like ``expand``."""
        self._check()
        return super().expand_kwargs(kwargs, strict=strict)

    def _check(self) -> None:
        operator: Any = self.operator_class
        # None of these is mapped: what is not given stays as it is.
        check_partial(operator, {"result_format": "raw", **self.kwargs, "multiple_outputs": self.multiple_outputs})


def checked(decorator: Any) -> TaskDecorator:
    """A function that Airflow's factory has decorated: where it is mapped, it is checked."""
    decorator.__class__ = _CheckedTask
    return cast("TaskDecorator", decorator)
