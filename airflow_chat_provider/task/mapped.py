"""Which values of a mapped task came from an upstream task: they are data, not templates, and name no file.

What the author of a DAG wrote is known when it is parsed: ``partial()``, ``default_args``, and the literals of
``expand()`` and ``expand_kwargs()``. Anything else that a mapped task was made with is data.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_chat_provider.templates.renderer import is_reference
from airflow_chat_provider.templates.structure import equal, leaves

_ARGUMENTS = {"output_path": "output"}  # where a field has another name
_OF_EVERY_TASK = frozenset({"task_id", "dag", "task_group", "start_date", "end_date", "params", "_airflow_from_mapped"})
_PACKAGE = __name__.partition(".")[0]

log = logging.getLogger(__name__)


def given_by_mapping(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a mapped task is made with, once ``expand()`` is resolved, out of all its arguments."""
    given = {name: value for name, value in arguments.items() if name not in _OF_EVERY_TASK}
    if "op_kwargs" in given:
        given["op_kwargs"] = dict(given["op_kwargs"])  # to which Airflow adds what default_args has
    return given


def from_upstream(task: Any, fields: Iterable[str], context: Any) -> frozenset[str]:
    """The fields among ``fields`` that hold data, or may hold it."""
    given = task.given_by_mapping
    if given is None:
        return frozenset()
    mapped = _mapped(task)
    if _maps_a_function(mapped):
        return frozenset()  # what is mapped is not a field of the operator's
    names = _data(mapped, given, mapped.partial_kwargs, context)
    if not names:
        return frozenset()
    found = {field for field in fields if _ARGUMENTS.get(field, field) in names}
    if "default_args" in names:
        found |= {field for field in fields if field not in given and field in given["default_args"]}
    if _has_code_of_its_own(type(task)):
        computed = _computed(task, mapped, given, names, [field for field in fields if field not in found])
        _tell(task, computed)
        found |= computed
    return frozenset(found)


def function_arguments_from_upstream(task: Any, context: Any) -> frozenset[str]:
    """The names of a decorated function's arguments that hold data."""
    if task.given_by_mapping is None:
        return frozenset()
    mapped = _mapped(task)
    return _data(mapped, task.given_by_mapping["op_kwargs"], mapped.partial_kwargs["op_kwargs"], context)


def _mapped(task: Any) -> Any:
    """The task as the DAG has it."""
    return task.get_dag().task_dict[task.task_id]


def _maps_a_function(mapped: Any) -> bool:
    return hasattr(mapped, "op_kwargs_expand_input")


def _data(mapped: Any, given: Mapping[str, Any], partial: Mapping[str, Any], context: Any) -> frozenset[str]:
    """The names among ``given`` whose values ``expand()`` or ``expand_kwargs()`` took from an upstream task.

    As Airflow resolves them; a reference inside a literal is not resolved yet, and is data once it is.
    """
    expand = mapped.op_kwargs_expand_input if _maps_a_function(mapped) else mapped.expand_input
    if isinstance(expand.value, Mapping):  # expand()
        return frozenset(name for name, value in expand.value.items() if is_reference(value))
    row = expand.value[context["ti"].map_index] if isinstance(expand.value, Sequence) else expand.value
    if isinstance(row, Mapping):
        return frozenset()
    return frozenset(name for name, value in given.items() if name not in partial or not equal(value, partial[name]))


def _has_code_of_its_own(cls: type) -> bool:
    """May a class of the user's make its fields of other arguments?"""
    ours = (one.__module__.partition(".")[0] == _PACKAGE for one in cls.__mro__ if hasattr(one, "given_by_mapping"))
    return not all(ours)


def _computed(
    task: Any, mapped: Any, given: Mapping[str, Any], names: frozenset[str], fields: list[str]
) -> frozenset[str]:
    """The fields in which the class may have put data: those that other data would have made otherwise.

    A field that the same class makes alike of any data has none in it, and is as its author wrote it.
    """
    expanded = {name: value for name, value in given.items() if name in names or name not in mapped.partial_kwargs}
    try:
        twin = mapped.unmap({name: _other(v) if name in names else v for name, v in expanded.items()})
        return frozenset(field for field in fields if not equal(getattr(task, field), getattr(twin, field)))
    except Exception:  # noqa: BLE001 - the class takes no other data: nobody knows what it makes of this
        return frozenset(f for f in fields if f not in given or not equal(getattr(task, f), given[f]))


def _other(value: Any) -> Any:
    """Data of the same shape, with nothing else of ``value``'s in it. Raises TypeError where there is none."""
    if isinstance(value, str):
        return uuid.uuid4().hex
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, Mapping) and all(isinstance(key, str) and key.isidentifier() for key in value):
        return {key: _other(item) for key, item in value.items()}  # the names of columns are the shape
    if isinstance(value, list | tuple):
        return [_other(item) for item in value]
    raise TypeError(f"there is no other {type(value).__name__}")


def _tell(task: Any, computed: Iterable[str]) -> None:
    from airflow_chat_provider.templates.renderer import markers

    is_template = markers(task.get_dag().jinja_environment_kwargs)
    for field in sorted(computed):
        if any(map(is_template, leaves(getattr(task, field)))):
            log.warning(
                "Keep the data in an attribute of the task, and name that in the template ({{ task.name }}): %s of "
                "task %r is sent as it is, with the template in it, for its class makes it of what an upstream gave",
                field,
                task.task_id,
            )
