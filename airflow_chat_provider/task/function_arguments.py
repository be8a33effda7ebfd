"""The arguments of a decorated function: what the DAG's author wrote is rendered as Airflow does, data is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_chat_provider.task.mapped import function_arguments_from_upstream
from airflow_chat_provider.templates.failures import failing_at, naming_what_is_missing


def rendered(task: Any, name: str, context: Any, env: Any) -> Any:
    """``op_args`` or ``op_kwargs`` of a task, rendered. Raises InvalidRequest, which names the argument."""
    given, named = getattr(task, name), naming_what_is_missing(context)
    if isinstance(given, Mapping):
        data = function_arguments_from_upstream(task, context)
        return {
            key: value if key in data else _rendered(task, f"{name}.{key}", value, named, env)
            for key, value in given.items()
        }
    values = [_rendered(task, f"{name}[{index}]", value, named, env) for index, value in enumerate(given)]
    return tuple(values) if isinstance(given, tuple) else values


def _rendered(task: Any, where: str, value: Any, context: Any, env: Any) -> Any:
    with failing_at(where, str(value)):
        return task.render_template(value, context, env, set())
