"""The request of each row: what does not look at the row is rendered once, the rest for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from airflow_chat_provider.batch.input.row import Columns
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.paths import step
from airflow_chat_provider.core.request.coerce import is_blank
from airflow_chat_provider.core.request.prepare import fold, parse_text
from airflow_chat_provider.core.request.written import Meant, Written
from airflow_chat_provider.task.rendering import NEEDED
from airflow_chat_provider.templates.errors import failing_at
from airflow_chat_provider.templates.leaf import Leaf
from airflow_chat_provider.templates.renderer import is_path, json_or_none, read_template, rendered_request

if TYPE_CHECKING:
    from airflow_chat_provider.templates.renderer import Renderer

ROW = "row"


class Part(Protocol):
    """Something in a request."""

    source: Any
    """What it is before there is a row: two batches with the same source ask the same of each row."""

    def of(self, row: Columns) -> Any:
        """Its value for a row."""


class RowTemplate:
    """The operator's request fields, ready to be filled in for each row. False: every row has a request in it."""

    def __init__(self, parts: Mapping[str, Part], written: Written | None = None) -> None:
        self._parts = dict(parts)
        self._written = written or Written()

    def __bool__(self) -> bool:
        """Does it make requests? A model alone is for the rows that lack one."""
        return bool(self._parts.keys() - {"model"})

    def with_model(self, body: Any, row: Mapping[str, Any]) -> Any:
        """A row's own request, with the task's model where it names none (Mistral's batch files never do)."""
        if not isinstance(body, Mapping) or body.get("model") is not None or "model" not in self._parts:
            return body
        model = self._parts["model"].of(Columns(row))
        return body if is_blank(model) or model is None else {**body, "model": model}

    @property
    def source(self) -> dict[str, Any]:
        """The fields with all in them that is the same for each row."""
        return {name: part.source for name, part in self._parts.items()}

    def request(self, row: Mapping[str, Any], empty: list[str] | None = None) -> tuple[Any, Meant]:
        """The request for a row, folded into one; its values are not yet in the types that are due.

        And which nulls in it are its author's. ``empty`` takes the names of fields that are left out because their text
        is empty.
        """
        columns = Columns(row)
        values = {name: part.of(columns) for name, part in self._parts.items()}
        for name in NEEDED:
            if name in values and values[name] is None:
                raise InvalidRequest(f"{name}: its template gave None for this row", path=name, keyword="type")
        request = fold(values.pop("request", None), **values, empty=empty)
        return request, self._written.nulls(request, values)


class Compiler:
    """Makes parts of the operator's fields. Raises InvalidRequest where a template fails that does not look at a row.

    ``templates`` has those that look at one, by their sources.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self.templates: dict[str, _Template] = {}
        self.request_source: Any = None
        """The author's ``request``: parsed, where it was a text or a file."""

    def field(self, name: str, value: Any) -> Part:
        """A field's part, from what the DAG's author wrote."""
        return self.request(value) if name == "request" else self.part(value, name)

    def data(self, name: str, value: Any) -> Part:
        """A field's part, from what an upstream task gave, or what was set after rendering: nothing is rendered.

        But a template of the author's that was put there stays one.
        """
        if name != "request" or not isinstance(value, str):
            return self._data(value)
        known = self.templates.get(value)
        return _Parsed(known) if known is not None else _Constant(rendered_request(value))

    def _data(self, value: Any) -> Part:
        kind = type(value)
        if kind is dict:
            return _whole(value, {key: self._data(item) for key, item in value.items()})
        if kind is list or kind is tuple:
            return _whole(list(value), {i: self._data(item) for i, item in enumerate(value)})
        return self.templates.get(value) or _Constant(value) if isinstance(value, str) else _Constant(value)

    def request(self, value: Any) -> Part:
        """The ``request`` argument, whose text is JSON, or the path of a file, or JSON once it is rendered."""
        if not isinstance(value, str):
            return self._whole_request(value)
        parsed = json_or_none(value)
        if parsed is not None:
            return self._whole_request(parsed)
        if not self._renderer.is_template(value) and is_path(value):
            return self._file(value.strip())
        part = self.part(value, "request")
        if isinstance(part, _Template):
            return _Parsed(part)
        return _Constant(rendered_request(part.source)) if isinstance(part.source, str) else part

    def _file(self, name: str) -> Part:
        text = read_template(self._renderer.env, name)
        parsed = json_or_none(text)
        return self._whole_request(parsed) if parsed is not None else self._text(text, name)

    def _whole_request(self, value: Any) -> Part:
        self.request_source = value
        return self.part(value, "$")

    def _text(self, text: str, where: str) -> Part:
        part = self.part(text, where)
        return _Parsed(part) if isinstance(part, _Template) else _Constant(parse_text(str(part.source), where))

    def part(self, value: Any, where: str) -> Part:
        kind = type(value)
        if kind is dict:
            return _whole(value, {key: self.part(item, where + step(key)) for key, item in value.items()})
        if kind is list or kind is tuple:
            return _whole(list(value), {i: self.part(item, f"{where}[{i}]") for i, item in enumerate(value)})
        if isinstance(value, str) and self._renderer.is_template(value):
            with failing_at(where, value):
                leaf = Leaf(self._renderer.env, value)
                if leaf.may_use(ROW):
                    template = _Template(leaf, value, leaf.variables(self._renderer.context), where)
                    return self.templates.setdefault(value, template)
        return _Constant(self._renderer.render(value, where))


class _Constant:
    def __init__(self, value: Any) -> None:
        self.source = value

    def of(self, row: Columns) -> Any:  # noqa: ARG002 - the same for each
        return self.source


class _Template:
    def __init__(self, leaf: Leaf, source: str, variables: dict[str, Any], where: str) -> None:
        self.source = source
        self._leaf = leaf
        self._variables = variables
        self._where = where

    def of(self, row: Columns) -> Any:
        self._variables[ROW] = row
        with failing_at(self._where, self.source):
            return self._leaf.value_of(self._variables)


class _Parsed:
    """A text that is JSON once it is rendered."""

    def __init__(self, text: _Template) -> None:
        self.source = text.source
        self._text = text

    def of(self, row: Columns) -> Any:
        value = self._text.of(row)
        return rendered_request(value) if isinstance(value, str) else value


class _Container:
    """An object or array of which some members are other for each row."""

    def __init__(self, value: Any, varying: dict[Any, Part]) -> None:
        self.source = value
        self._varying = varying

    def of(self, row: Columns) -> Any:
        filled = self.source.copy()
        for key, part in self._varying.items():
            filled[key] = part.of(row)
        return filled


def _whole(value: Any, parts: dict[Any, Part]) -> Part:
    filled = value.copy()
    for key, part in parts.items():
        filled[key] = part.source
    varying = {key: part for key, part in parts.items() if not isinstance(part, _Constant)}
    return _Container(filled, varying) if varying else _Constant(filled)
