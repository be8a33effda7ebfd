"""Which arguments of a mapped task came from an upstream one: they are data, not templates, and name no file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_chat_provider.templating import no_path, schema_of_data

_ARGUMENTS = {"output_path": "output"}  # where a field is called otherwise


def from_upstream(task: Any, fields: Iterable[str], context: Any, seen_oids: set[int]) -> frozenset[str]:
    """The fields among ``fields`` that hold data. Raises InvalidRequest for a path of a schema that is data.

    ``seen_oids`` is what Airflow says of it: the identities of values that ``expand()`` took from XCom. Those of
    ``expand_kwargs()`` it leaves out; there it is everything that the DAG does not say.
    """
    names = {*fields, "response_schema"}
    data = {name for name in names if id(getattr(task, name)) in seen_oids}
    if getattr(task, "_BaseOperator__from_mapped", False) and _all_from_xcom(task, context):
        said = list(_said_by_the_dag(task))
        data |= {name for name in names if not _is_one_of(getattr(task, name), _ARGUMENTS.get(name, name), said)}
    if "request_schema" in data:
        schema_of_data(task.request_schema)
    if "response_schema" in data and isinstance(task.response_schema, str | os.PathLike):
        raise no_path("response_schema")
    return frozenset(data)


def _mapped(task: Any) -> Any:
    """The task as the DAG has it."""
    return task.dag.task_dict.get(task.task_id) if task.has_dag() else None


def _all_from_xcom(task: Any, context: Any) -> bool:
    """Is it mapped by ``expand_kwargs()`` over what upstream tasks left?"""
    expand = getattr(_mapped(task), "expand_input", None)
    if getattr(expand, "EXPAND_INPUT_TYPE", None) != "list-of-dicts":
        return False
    value = getattr(expand, "value", None)
    if isinstance(value, list | tuple):
        index = context["ti"].map_index
        value = value[index] if 0 <= index < len(value) else None
    return callable(getattr(value, "resolve", None))


def _said_by_the_dag(task: Any) -> Iterator[Mapping[str, Any]]:
    yield _mapped(task).partial_kwargs
    for holder in (task.dag, task.task_group):
        yield getattr(holder, "default_args", None) or {}


def _is_one_of(value: Any, name: str, given: list[Mapping[str, Any]]) -> bool:
    return value is None or any(name in one and one[name] is value for one in given)
