"""The batch operator's fields when the task runs: rendered once, but for what looks at a row."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.written import Written
from airflow_chat_provider.task.arguments import REQUEST_FIELDS
from airflow_chat_provider.task.rendering import NEEDED, Watched, nothing, render_fields, written_messages
from airflow_chat_provider.templates.renderer import Renderer
from airflow_chat_provider.templates.request_template import Compiler, Part, RowTemplate

_NEEDED = ("input", "output_path", "configuration")

log = logging.getLogger(__name__)


class Rendered(Watched):
    """What a batch asks for each row."""

    def __init__(self, task: Any, renderer: Renderer, data: frozenset[str], errors: dict[str, InvalidRequest]) -> None:
        super().__init__(task, errors)
        self._renderer = renderer
        self._compiler = Compiler(renderer)
        self._parts: dict[str, Part] = {}
        messages = written_messages(task, data)
        for name in REQUEST_FIELDS:
            try:
                self._compile(name, is_data=name in data)
            except InvalidRequest as error:
                self._errors[name] = error
        self._written = Written(self._compiler.request_source, messages)
        self.note()

    def _compile(self, name: str, *, is_data: bool) -> None:
        value = getattr(self._task, name)
        if value is None:
            return
        part = self._compiler.data(name, value) if is_data else self._compiler.field(name, value)
        if part.source is None and name in NEEDED:
            raise nothing(name)
        self._parts[name] = part
        setattr(self._task, name, part.source)  # what the rendered fields show

    def template(self) -> RowTemplate:
        """The request for each row, for what the fields are now. Raises InvalidRequest for a template that failed."""
        changed = self.changed()
        parts = {name: part for name, part in self._parts.items() if name not in changed}
        for name, value in changed.items():
            if value is not None:
                parts[name] = self._set(name, value)
        return RowTemplate(parts, self._written)

    def _set(self, name: str, value: Any) -> Part:
        if isinstance(value, str) and value not in self._compiler.templates and self._renderer.is_template(value):
            log.warning(
                "Leave the template of %s in the DAG, if it is one: what is set after rendering is data, and each row "
                "gets it as it is",
                name,
            )
        return self._compiler.data(name, value)


def render(task: Any, fields: Iterable[str], context: Any, env: Any, data: frozenset[str]) -> Rendered:
    """Render a task's fields in place. Those in ``data`` came from an upstream task, and stay as they are."""
    renderer = Renderer(env, context)
    once = [name for name in fields if name not in REQUEST_FIELDS]
    return Rendered(task, renderer, data, render_fields(task, once, renderer, data, _NEEDED))
