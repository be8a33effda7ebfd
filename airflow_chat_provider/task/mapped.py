"""Which arguments of a mapped task came from an upstream task: they are data, neither templates nor paths of files.

What the author of a DAG wrote is known when it is parsed: ``partial()``, ``default_args``, and the literals in
``expand()`` and ``expand_kwargs()``. Anything else that a mapped task was made with is data.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.json_text.nesting import DEPTH
from airflow_chat_provider.task.arguments import ARGUMENT_OF
from airflow_chat_provider.templates.dag_templates import dag_of, holds_template, is_reference, templates_of

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

_OF_EVERY_TASK = frozenset({"task_id", "dag", "task_group", "start_date", "end_date", "params", "_airflow_from_mapped"})
_PACKAGE = __name__.partition(".")[0]

log = logging.getLogger(__name__)


def given_by_mapping(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a mapped task is made with, once ``expand()`` is resolved, without those of every task."""
    given = {name: value for name, value in arguments.items() if name not in _OF_EVERY_TASK}
    if "op_kwargs" in given:
        given["op_kwargs"] = dict(given["op_kwargs"])  # Airflow adds the default_args to it
    return given


def from_upstream(
    task: BaseOperator, given: Mapping[str, Any] | None, fields: Iterable[str], context: Any
) -> frozenset[str]:
    """Those of the fields that hold data, or may hold it. ``given``: what a mapped task was made with."""
    if given is None:
        return frozenset()
    mapped = _mapped(task)
    if _maps_a_function(mapped):
        return frozenset()  # the function's arguments are mapped, not the operator's
    names = _data(mapped, given, mapped.partial_kwargs, context)
    if not names:
        return frozenset()
    found = {field for field in fields if ARGUMENT_OF.get(field, field) in names}
    if "default_args" in names:
        found |= {field for field in fields if field not in given and field in given["default_args"]}
    if _has_code_of_its_own(type(task)):
        computed = _computed(task, mapped, given, names, [field for field in fields if field not in found])
        _warn(task, computed)
        found |= computed
    return frozenset(found)


def function_arguments_from_upstream(
    task: BaseOperator, given: Mapping[str, Any] | None, context: Any
) -> frozenset[str]:
    """The names of a decorated function's arguments that hold data."""
    if given is None:
        return frozenset()
    mapped = _mapped(task)
    return _data(mapped, given["op_kwargs"], mapped.partial_kwargs["op_kwargs"], context)


def _mapped(task: BaseOperator) -> Any:
    """The mapped task as the DAG has it."""
    return task.get_dag().task_dict[task.task_id]  # type: ignore[union-attr]  # a mapped task has a DAG


def _maps_a_function(mapped: Any) -> bool:
    return hasattr(mapped, "op_kwargs_expand_input")


def _data(mapped: Any, given: Mapping[str, Any], partial: Mapping[str, Any], context: Any) -> frozenset[str]:
    """The names among ``given`` whose values ``expand()`` or ``expand_kwargs()`` took from an upstream task.

    A reference inside a literal is not among them: Airflow has not resolved it yet.
    """
    expand = mapped.op_kwargs_expand_input if _maps_a_function(mapped) else mapped.expand_input
    if isinstance(expand.value, Mapping):  # expand()
        return frozenset(name for name, value in expand.value.items() if is_reference(value))
    row = expand.value[context["ti"].map_index] if isinstance(expand.value, Sequence) else expand.value
    if isinstance(row, Mapping):
        return frozenset()
    return frozenset(name for name, value in given.items() if name not in partial or not _equal(value, partial[name]))


def _has_code_of_its_own(cls: type) -> bool:
    """True if a user's class in the hierarchy may make its fields of other arguments."""
    return any(hasattr(one, "given_by_mapping") and one.__module__.partition(".")[0] != _PACKAGE for one in cls.__mro__)


def _computed(
    task: BaseOperator, mapped: Any, given: Mapping[str, Any], names: frozenset[str], fields: list[str]
) -> frozenset[str]:
    """The fields in which the user's class may have put data: they differ in a twin that is made of other data.

    A field that the class makes equal for any data has none in it, so it is as its author wrote it.
    """
    expanded = {name: value for name, value in given.items() if name in names or name not in mapped.partial_kwargs}
    try:
        twin = mapped.unmap({name: _other(v) if name in names else v for name, v in expanded.items()})
        return frozenset(field for field in fields if not _equal(getattr(task, field), getattr(twin, field)))
    except Exception:  # noqa: BLE001 - the class takes no other data, so nobody knows what it makes of this
        return frozenset(f for f in fields if f not in given or not _equal(getattr(task, f), given[f]))


def _other(value: Any) -> Any:
    """Other data of the same shape. Raises TypeError if there is none."""
    if isinstance(value, str):
        return uuid.uuid4().hex
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, Mapping) and all(isinstance(key, str) and key.isidentifier() for key in value):
        return {key: _other(item) for key, item in value.items()}  # the names of columns belong to the shape
    if isinstance(value, list | tuple):
        return [_other(item) for item in value]
    raise TypeError(f"there is no other {type(value).__name__}")


def _equal(a: object, b: object, depth: int = 0) -> bool:
    """True for equal values of JSON's types. A value of another type equals only itself: its ``==`` may do anything."""
    if a is b:
        return True
    if type(a) is not type(b) or depth > DEPTH:  # a value that contains itself ends there
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return len(a) == len(b) and all(key in b and _equal(item, b[key], depth + 1) for key, item in a.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_equal(x, y, depth + 1) for x, y in zip(a, b, strict=True))
    return isinstance(a, str | int | float) and a == b


def _warn(task: BaseOperator, computed: Iterable[str]) -> None:
    is_template = templates_of(dag_of(task)).is_template
    for field in sorted(computed):
        if holds_template(getattr(task, field), is_template):
            log.warning(
                "Keep the data in an attribute of the task, and name it in the template ({{ task.name }}): %s of task "
                "%r is sent with its template unrendered, because the class builds it from an upstream task's value",
                field,
                task.task_id,
            )
