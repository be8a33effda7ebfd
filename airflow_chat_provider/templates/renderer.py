"""Rendering as this provider promises it: each leaf once, data never again, types kept, plain text left alone.

Airflow renders every string, turns every result into text (or, natively, text into Python values), and logs a
template that fails with all that stands in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.paths import step
from airflow_chat_provider.core.request.prepare import parse_text
from airflow_chat_provider.core.request.schema import NAMES
from airflow_chat_provider.templates.errors import failing_at
from airflow_chat_provider.templates.leaf import Leaf
from airflow_chat_provider.templates.stores import naming_what_is_missing

if TYPE_CHECKING:
    import jinja2

_DEFAULT_MARKERS = ("{{", "{%", "{#")


def markers(options: Mapping[str, Any] | None = None) -> Callable[[Any], bool]:
    """``is_template(value)`` for a DAG's ``jinja_environment_kwargs``: is this leaf known only when rendered?"""
    given = options or {}
    if given.get("line_statement_prefix") or given.get("line_comment_prefix"):
        return lambda value: isinstance(value, str) or _resolves(value)
    names = ("variable_start_string", "block_start_string", "comment_start_string")
    starts = [given.get(name, default) for name, default in zip(names, _DEFAULT_MARKERS, strict=True)]
    a, b, c = starts
    # One character is found 20 times faster than two, and most text has none.
    first = a[:1] if a[:1] == b[:1] == c[:1] else ""

    def is_template(value: Any) -> bool:
        if isinstance(value, str):
            return first in value and (a in value or b in value or c in value)
        return _resolves(value)

    return is_template


def _resolves(value: Any) -> bool:
    """Is this a reference to a value of the run (XComArg, literal, ...)?"""
    kind = type(value)
    return kind not in (dict, list, int, float, bool, type(None)) and is_reference(value)


def is_reference(value: Any) -> bool:
    """Is this a value of Airflow's that a run resolves (XComArg, what a mapped task group gives, literal, ...)?"""
    return not isinstance(value, os.PathLike) and callable(getattr(value, "resolve", None))


class Renderer:
    """Renders values for one task run."""

    def __init__(self, env: jinja2.Environment, context: Mapping[str, Any]) -> None:
        self.env = env
        self.context = naming_what_is_missing(context)
        self.is_template = markers(
            {
                "variable_start_string": env.variable_start_string,
                "block_start_string": env.block_start_string,
                "comment_start_string": env.comment_start_string,
                "line_statement_prefix": env.line_statement_prefix,
                "line_comment_prefix": env.line_comment_prefix,
            }
        )
        self.request_source: Any = None
        """What ``request`` rendered, before it was: parsed, where it was a text or a file."""

    def render(self, value: Any, where: str) -> Any:
        """``value`` with its templates rendered; ``where`` names it in errors."""
        kind = type(value)
        if kind is str:
            return self._text(value, where) if self.is_template(value) else value
        if kind in (dict, list, tuple) and not self._holds_template(value):
            return value
        if kind is dict:
            return {key: self.render(item, where + step(key)) for key, item in value.items()}
        if kind is list or kind is tuple:
            return kind(self.render(item, f"{where}[{index}]") for index, item in enumerate(value))
        if value is None or kind in (int, float, bool):
            return value
        if is_reference(value):
            return self._resolve(value, where)
        return self._text(str(value), where) if isinstance(value, str) and self.is_template(value) else value

    def resolved(self, value: Any, where: str) -> Any:
        """``render`` for rows, which are data wherever they stand: of a list only the references become values."""
        if isinstance(value, list | tuple):
            return [self._resolve(item, f"{where}[{i}]") if _resolves(item) else item for i, item in enumerate(value)]
        return self.render(value, where)

    def _holds_template(self, value: Any) -> bool:
        kind = type(value)
        if kind is str:
            return self.is_template(value)
        if kind is dict:
            return any(map(self._holds_template, value.values()))
        if kind is list or kind is tuple:
            return any(map(self._holds_template, value))
        return value is not None and kind not in (int, float, bool)

    def request(self, value: Any) -> Any:
        """The ``request`` argument: text is JSON, or the path of a file, or JSON once it is rendered.

        A path is a text without a template: what a template gives is data, and data names no file.
        """
        if not isinstance(value, str):
            return self._whole(value)
        parsed = json_or_none(value)
        if parsed is not None:
            return self._whole(parsed)
        if not self.is_template(value):
            return self._file(value.strip()) if is_path(value) else parse_text(value)
        rendered = self.render(value, "request")
        return rendered_request(rendered) if isinstance(rendered, str) else rendered

    def _whole(self, request: Any) -> Any:
        self.request_source = request
        return self.render(request, "$")

    def schema(self, value: Any) -> Any:
        """The ``request_schema`` argument, which may be the path of a file, too."""
        rendered = self.render(value, "request_schema")
        return rendered if rendered is value else schema_of_data(rendered)

    def _file(self, name: str) -> Any:
        text = read_template(self.env, name)
        parsed = json_or_none(text)
        if parsed is not None:
            return self._whole(parsed)
        return parse_text(text if not self.is_template(text) else str(self.render(text, name)), name)

    def _resolve(self, reference: Any, where: str) -> Any:
        with failing_at(where, "", "reference to an upstream task"):
            return reference.resolve(self.context)

    def _text(self, source: str, where: str) -> Any:
        with failing_at(where, source):
            return Leaf(self.env, source).value(self.context)


def json_or_none(text: str) -> Any:
    """``text`` as JSON; None where it is none (yet)."""
    try:
        loads(text)
    except ValueError:
        return None
    return parse_text(text)


def is_path(text: str) -> bool:
    """Is a request's text the path of a file?"""
    return text.strip().endswith(".json") and "\n" not in text.strip()


def rendered_request(text: str) -> Any:
    """A request's text that a template or an upstream task gave: JSON, never the path of a file."""
    if is_path(text):
        raise no_path("request")
    return parse_text(text)


def schema_of_data(value: Any) -> Any:
    """A ``request_schema`` that a template or an upstream task gave: a shipped one's name or a schema, never a path."""
    if value is None or isinstance(value, Mapping) or value in NAMES:
        return value
    if isinstance(value, str) and not is_path(value):
        return value  # which load_schema refuses by its name
    raise no_path("request_schema")


def no_path(argument: str) -> InvalidRequest:
    """Of what looks like the path of a file, and is data."""
    return InvalidRequest(
        f"{argument}: write the file's path out in the DAG, without a template: a text that a template or an upstream "
        "task gives is data, and is not taken as the path of a file",
        path=argument,
        keyword="file",
    )


def read_template(env: jinja2.Environment, name: str, argument: str = "request") -> str:
    """The text of an argument's file, found as Airflow finds templates: next to the DAG, or in template_searchpath."""
    from jinja2 import TemplateNotFound

    try:
        if Path(name).is_absolute():
            return Path(name).read_text("utf-8")
        if env.loader is not None:
            return env.loader.get_source(env, name)[0]
        why = "cannot be found: the task has no DAG"
    except UnicodeDecodeError:
        why = "is not UTF-8"
    except TemplateNotFound:
        why = f"is in none of {', '.join(_places(env))}"
    except OSError as error:
        why = f"cannot be read: {error.strerror or error}"
    raise InvalidRequest(f"{argument}: the file {name!r} {why}", path=argument, keyword="file")


def _places(env: jinja2.Environment) -> Iterator[str]:
    for place in getattr(env.loader, "searchpath", ()):
        yield repr(str(place))
