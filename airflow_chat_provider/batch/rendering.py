"""The batch operator's fields when the task runs: rendered once, but for what looks at a row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_chat_provider.arguments import REQUEST_FIELDS
from airflow_chat_provider.batch.template import NEEDED, RowTemplate
from airflow_chat_provider.building import nothing
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.mapped import from_upstream
from airflow_chat_provider.templating import Renderer

_NEEDED = ("input", "output_path", "configuration")


def render(
    task: Any, fields: Iterable[str], context: Any, env: Any, seen_oids: set[int]
) -> RowTemplate | InvalidRequest:
    """Render a task's fields in place; its request for each row, or why there is none."""
    renderer = Renderer(env, context)
    try:
        data = from_upstream(task, {*fields, *REQUEST_FIELDS}, context, seen_oids)
        for name in fields:
            value = getattr(task, name)
            # Values that a mapped task got from XCom are data.
            if name in REQUEST_FIELDS or value is None or name in data:
                continue
            rendered = _rendered(renderer, name, value)
            if rendered is None and name in _NEEDED:
                raise nothing(name)
            setattr(task, name, rendered)
        given = {name: getattr(task, name) for name in REQUEST_FIELDS}
        template = RowTemplate.compile(given, renderer, data)
        for name, value in template.source.items():
            if value is None and name in NEEDED:
                raise nothing(name)
            setattr(task, name, value)  # what the rendered fields show
    except InvalidRequest as error:
        return error
    return template


def _rendered(renderer: Renderer, name: str, value: Any) -> Any:
    if name == "input":
        return renderer.resolved(value, name)
    return renderer.schema(value) if name == "request_schema" else renderer.render(value, name)
