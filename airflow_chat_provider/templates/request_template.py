"""The arguments that make up a request, from what a DAG's author wrote to the request that is checked and sent.

One class serves three moments: ``known()`` while the DAG is parsed, ``fill()`` in a task, and ``fill()`` with a row for
each row of a batch, where only what looks at the row is rendered again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.paths import step
from airflow_chat_provider.core.request.coerce import Written, is_blank
from airflow_chat_provider.core.request.prepare import filled, fold, mask_templates, parse_text
from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.templates.columns import ROW, Columns, pointing_to_row
from airflow_chat_provider.templates.dag_templates import is_path, is_reference, no_path, read_file
from airflow_chat_provider.templates.failures import failing_at, left_nothing
from airflow_chat_provider.templates.renderer import Leaf

if TYPE_CHECKING:
    import jinja2

    from airflow_chat_provider.core.request.schema import RequestSchema
    from airflow_chat_provider.templates.dag_templates import IsTemplate
    from airflow_chat_provider.templates.renderer import Renderer

MUST_HAVE_VALUE = ("request", "messages", "prompt")
"""If a template for one of these gives None, an upstream task was skipped or failed. Leaving the argument out, as for
any other None, would send and bill another request than the author meant."""


ATTACHMENTS = "attachments"
"""Rendered with the request, for each row as well, but never a part of it."""


class Part(NamedTuple):
    """The value of an argument, or of a member in it."""

    source: Any
    """What is known of it without a row: templates that look at the row are as their author wrote them."""
    fill: Callable[[Columns], Any] | None = None
    """Makes the value for a row, and raises InvalidRequest for a template that fails; None: it is ``source``."""


class RequestTemplate:
    """``request``, ``messages``, ``model``, ``prompt`` and ``system_prompt``, as far as they are given.

    A run renders each of them, or sets it where it is data; ``fill()`` then makes one request of them.

    :param arguments: the arguments as the DAG's author wrote them, by name
    :param is_template: says whether a leaf is known only once it is rendered
    :param environment: gives the Jinja environment that finds files; None if there is no DAG yet
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        is_template: IsTemplate,
        environment: Callable[[], jinja2.Environment] | None = None,
    ) -> None:
        self._arguments = {name: value for name, value in arguments.items() if value is not None}
        self._is_template = is_template
        self._environment = environment
        self._written = Written()
        self._parts: dict[str, Part] = {}
        self._row_templates: dict[str, Part] = {}

    @classmethod
    def from_data(cls, arguments: Mapping[str, Any]) -> Self:
        """The template of a task that nobody rendered, as an operator that another task executes: all in it is data."""
        template = cls({}, is_reference)
        for name, value in arguments.items():
            if value is not None:
                template.set_data(name, value)
        return template

    @cached_property
    def source(self) -> tuple[Any, str]:
        """What the argument ``request`` holds before it is rendered, and its name in errors.

        This is the one place that knows what its text may be. A text that is returned is not JSON yet.

        A text is JSON; or the path of a ``.json`` file, unless a template stands in it; or JSON once it is rendered.
        The text of a file is the first or the last of these. Raises InvalidRequest for a file that cannot be read.
        """
        text, where = self._arguments.get("request"), "request"
        if isinstance(text, str) and is_path(text) and not self._is_template(text):
            if self._environment is None:
                return UNKNOWN, "$"
            where = text.strip()
            text, _ = read_file(self._environment(), where, "request")
        parsed = json_or_none(text) if isinstance(text, str) else text
        return (parsed, "$") if parsed is not None or text is None else (text, where)

    def known(self) -> Any:
        """The request as far as it is known before a run; UNKNOWN stands for everything else. Raises InvalidRequest."""
        request, where = self.source
        if isinstance(request, str) and not self._is_template(request):
            request = parse_text(request, where)  # which says why it is not JSON
        elif isinstance(request, str) and is_path(request):
            raise no_path("request")
        values = self._arguments | {"request": request}
        return fold(**{name: mask_templates(value, self._is_template) for name, value in values.items()})

    def render(self, name: str, renderer: Renderer, *, has_rows: bool) -> Any:
        """Render an argument. Returns what to show of it; in a batch a template that looks at its row stays as it is.

        Raises InvalidRequest for a template that fails, and for one that gives None where that cannot be meant.
        """
        value, where = self.source if name == "request" else (self._arguments[name], name)
        self._note_written(name, value)
        part = self._compiled(value, where, renderer) if has_rows else Part(renderer.render(value, where))
        if name == "request" and isinstance(part.source, str):  # also if a reference or a macro gave the text
            part = _from_text(part, where if isinstance(value, str) else "request")
        if part.source is None and name in MUST_HAVE_VALUE:
            raise left_nothing(name)
        self._parts[name] = part
        return part.source

    def _note_written(self, name: str, value: Any) -> None:
        """Keep where the author put a null: it is sent, while a null that a template gives means "not set"."""
        if name == "request" and not isinstance(value, str):
            self._written = self._written._replace(request=value)
        elif name == "messages":
            self._written = self._written._replace(messages=json_or_none(value) if isinstance(value, str) else value)

    def _compiled(self, value: Any, where: str, renderer: Renderer) -> Part:
        """``value`` with everything rendered that does not look at the row."""
        kind = type(value)
        if kind is dict:
            return _joined(
                value, {key: self._compiled(item, where + step(key), renderer) for key, item in value.items()}
            )
        if kind is list or kind is tuple:
            parts = {i: self._compiled(item, f"{where}[{i}]", renderer) for i, item in enumerate(value)}
            return _joined(list(value), parts)
        if isinstance(value, str) and self._is_template(value):
            with failing_at(where, value):
                leaf = Leaf(renderer.environment, value)
                if leaf.may_use(ROW):
                    part = _row_template(leaf, value, leaf.variables(renderer.context), where)
                    return self._row_templates.setdefault(value, part)
        with pointing_to_row():
            return Part(renderer.render(value, where))

    def set_data(self, name: str, value: Any) -> None:
        """Set an argument to what an upstream task left, or to what was set after rendering: it is not rendered.

        If an author's template for the row was moved into it, that stays a template. None removes the argument. Raises
        InvalidRequest if the text of ``request`` is not JSON.
        """
        if value is None:
            self._parts.pop(name, None)
            return
        part = self._data(value)
        if name == "request" and isinstance(part.source, str):
            part = _from_text(part)
        self._parts[name] = part

    def _data(self, value: Any) -> Part:
        kind = type(value)
        if not self._row_templates:
            return Part(value)
        if kind is dict:
            return _joined(value, {key: self._data(item) for key, item in value.items()})
        if kind is list or kind is tuple:
            return _joined(list(value), {i: self._data(item) for i, item in enumerate(value)})
        return self._row_templates.get(value) or Part(value) if isinstance(value, str) else Part(value)

    def is_data_like_template(self, value: Any) -> bool:
        """True for a text that looks like a template, but is not one that the author wrote for the row."""
        return isinstance(value, str) and value not in self._row_templates and self._is_template(value)

    def replaced(self, values: Mapping[str, Any]) -> Self:
        """A copy of the rendered template in which these arguments are replaced by data."""
        other = copy(self)
        other._parts = self._parts.copy()  # noqa: SLF001 - of the same class
        for name, value in values.items():
            other.set_data(name, value)
        return other

    def value(self, name: str) -> Any:
        """An argument as it was rendered or set; None if it is not given."""
        part = self._parts.get(name)
        return None if part is None else part.source

    @property
    def sources(self) -> dict[str, Any]:
        """Every given argument as it was rendered or set; templates that look at the row as they were written.

        Two batches with the same sources send the same request for the same row.
        """
        return {name: part.source for name, part in self._parts.items()}

    def __bool__(self) -> bool:
        """False if every row has to be a request itself: a model alone is for the rows that lack one."""
        return bool(self._parts.keys() - {"model", ATTACHMENTS})

    def fill(self, schema: RequestSchema | None, row: Mapping[str, Any] | None = None) -> tuple[Any, list[str]]:
        """The request (for a row), each value in the type that the schema wants, and warnings about what was left out.

        The request is not checked yet: a connection may add a model. Raises InvalidRequest.
        """
        columns = None if row is None else Columns(row)
        values = {}
        for name, part in self._parts.items():
            if name == ATTACHMENTS:
                continue
            values[name] = part.source if part.fill is None or columns is None else part.fill(columns)
            if values[name] is None and name in MUST_HAVE_VALUE:
                raise InvalidRequest(
                    f"Fill the columns that {name} reads: {name}: its template gave None for this row",
                    path=name,
                    keyword="type",
                )
        empty: list[str] = []
        request = fold(values.pop("request", None), **values, empty=empty)
        return filled(request, schema, empty, self._written.nulls(request, values))

    def attachments(self, row: Mapping[str, Any]) -> tuple[Any, Any]:
        """The argument ``attachments`` as it was written, and for a row. Raises InvalidRequest."""
        part = self._parts.get(ATTACHMENTS, Part(None))
        return part.source, part.source if part.fill is None else part.fill(Columns(row))

    def with_model(self, body: Any, row: Mapping[str, Any]) -> Any:
        """A row's own request, with the task's model if it names none, as in Mistral's batch files."""
        if not isinstance(body, Mapping) or body.get("model") is not None or "model" not in self._parts:
            return body
        part = self._parts["model"]
        model = part.source if part.fill is None else part.fill(Columns(row))
        return body if is_blank(model) or model is None else {**body, "model": model}


def json_or_none(text: str) -> Any:
    """``text`` as JSON; None if it is not JSON (yet). Raises InvalidRequest if a key stands in it twice."""
    try:
        loads(text)
    except ValueError:
        return None
    return parse_text(text)


def request_from_data(value: Any, where: str = "request") -> Any:
    """A ``request`` from a template or an upstream task. Its text is JSON, never the path of a file."""
    if not isinstance(value, str):
        return value
    if is_path(value):
        raise no_path("request")
    return parse_text(value, where)


def _row_template(leaf: Leaf, source: str, variables: dict[str, Any], where: str) -> Part:
    """A template that looks at the row. ``variables`` are its own: each row in turn is put into them."""

    def fill(row: Columns) -> Any:
        variables[ROW] = row
        with failing_at(where, source), row.named(where, source):
            return leaf.value(variables)

    return Part(source, fill)


def _joined(container: Any, members: Mapping[Any, Part]) -> Part:
    """A container with these members in it, by key or index."""
    source = container.copy()
    for key, part in members.items():
        source[key] = part.source
    varying = {key: part.fill for key, part in members.items() if part.fill is not None}

    def fill(row: Columns) -> Any:
        filled = source.copy()
        for key, member in varying.items():
            filled[key] = member(row)
        return filled

    return Part(source, fill if varying else None)


def _from_text(part: Part, where: str = "request") -> Part:
    """The request whose text ``part`` gives: now, or for each row."""
    text = part.fill
    if text is None:
        return Part(request_from_data(part.source, where))
    return Part(part.source, lambda row: request_from_data(text(row), where))
