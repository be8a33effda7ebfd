"""Schemas in files: a path is found as Airflow finds templates, next to the DAG or in its template_searchpath."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from airflow_chat_provider.core.request.schema import NAMES, load_user_schema
from airflow_chat_provider.templates.renderer import is_path, read_template


def opened(value: Any, dag: Any, argument: str) -> Any:
    """``value`` of the argument, or the schema in the file that it names; InvalidRequest tells the places searched.

    Without a DAG there is no such place: then whoever loads the schema reads the path as it is, like an absolute one.
    """
    if dag is None or not isinstance(value, str | os.PathLike) or value in NAMES or Path(value).is_absolute():
        return value
    name = str(value).strip()
    if argument == "request_schema" and not is_path(name):
        return value  # refused by its name
    text = read_template(dag.get_template_env(force_sandboxed=True), name, argument)
    load_user_schema(text, name, argument)  # raises what is wrong with it
    return json.loads(text)


def dag_of(task: Any) -> Any:
    """The task's DAG; None where it has none."""
    return task.get_dag() if task.has_dag() else None
