"""A task's template fields once it runs: rendered in place, watched for what is set afterwards, and made a request."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.schema import load_schema
from airflow_chat_provider.task.arguments import REQUEST_FIELDS
from airflow_chat_provider.templates.dag_templates import dag_of, no_path, opened
from airflow_chat_provider.templates.failures import left_nothing
from airflow_chat_provider.templates.renderer import Renderer, schema_from_data
from airflow_chat_provider.templates.request_template import ATTACHMENTS, RequestTemplate, request_from_data

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import BaseOperator

_MUST_HAVE_VALUE = ("input", "output_path", "configuration", "attachments")
"""Fields beside the request's whose templates must not give None: it means that an upstream task left nothing."""
_CONTAINERS = (dict, list, tuple)

log = logging.getLogger(__name__)


class RenderedFields:
    """The template fields of a task after rendering: which of them failed, and which were set since.

    ``pre_execute``, a callback or a subclass's ``execute()`` may set fields, even one whose template failed. What they
    set is data. As it stands the class serves a batch, whose ``template()`` makes the request of each row.
    """

    has_rows: ClassVar[bool] = True
    """True if templates of the request may wait for a row."""
    own_fields: ClassVar[tuple[str, ...]] = (*REQUEST_FIELDS, ATTACHMENTS)
    """The fields that are rendered into the template."""

    def __init__(
        self, task: BaseOperator, template: RequestTemplate, errors: Mapping[str, InvalidRequest] | None = None
    ) -> None:
        self._task = task
        self._template = template
        self._errors = dict(errors or {})
        self._seen: dict[str, Any] = {}
        self.note()

    @classmethod
    def render(
        cls,
        task: BaseOperator,
        fields: Iterable[str],
        context: Any,
        environment: jinja2.Environment,
        data: frozenset[str],
    ) -> Self:
        """Render these fields of a task in place. Those in ``data`` came from an upstream task and stay as they are.

        What fails is kept, so that ``execute()`` raises it.
        """
        renderer, own = Renderer(environment, context), list(fields)
        given = {name: getattr(task, name) for name in cls.own_fields}
        template = RequestTemplate(given, renderer.is_template, lambda: environment)
        errors: dict[str, InvalidRequest] = {}
        for name in dict.fromkeys((*own, *cls.own_fields)):
            try:
                if name not in own or name in data:  # a subclass may have left a field out of template_fields
                    cls._take_data(task, name, template)
                elif getattr(task, name) is not None:
                    cls._render_field(task, name, template, renderer)
            except InvalidRequest as error:
                errors[name] = error
        if "response_schema" in data and isinstance(getattr(task, "response_schema", None), str | os.PathLike):
            errors["response_schema"] = no_path("response_schema")
        return cls(task, template, errors)

    @classmethod
    def _render_field(cls, task: BaseOperator, name: str, template: RequestTemplate, renderer: Renderer) -> None:
        value = getattr(task, name)
        if name in cls.own_fields:
            rendered = template.render(name, renderer, has_rows=cls.has_rows)
        elif name == "input":
            rendered = renderer.rows(value)
        elif name == "request_schema":
            rendered = renderer.request_schema(value)
        else:
            rendered = renderer.render(value, name)
        setattr(task, name, rendered)
        if rendered is None and name in _MUST_HAVE_VALUE:
            raise left_nothing(name)

    @classmethod
    def _take_data(cls, task: BaseOperator, name: str, template: RequestTemplate) -> None:
        """A field that is data. Raises InvalidRequest for the path of a file, or for a request that is not JSON."""
        value = getattr(task, name)
        if name in cls.own_fields:
            template.set_data(name, value)
            setattr(task, name, template.value(name))
        elif name == "request_schema":
            schema_from_data(value)

    @property
    def error(self) -> InvalidRequest | None:
        """The error of the first template that failed."""
        return next(iter(self._errors.values()), None)

    def note(self) -> None:
        """Take the fields for what was rendered, as they are now: nobody has set them."""
        for name in (*self.own_fields, *self._errors):
            value = getattr(self._task, name)
            self._seen[name] = outline(value) if type(value) in _CONTAINERS else value

    def template(self) -> RequestTemplate:
        """The request's arguments as they are now. Raises InvalidRequest for a failed template that nobody replaced."""
        changed = {}
        for name, was in self._seen.items():
            value = getattr(self._task, name)
            if value is not was and not unchanged(value, was):
                changed[name] = value
        for name, error in self._errors.items():
            if name not in changed:
                raise error
        changed = {name: value for name, value in changed.items() if name in self.own_fields}
        return self._template.replaced(self._replacements(changed)) if changed else self._template

    def _replacements(self, changed: dict[str, Any]) -> dict[str, Any]:
        """The arguments to replace if these fields were set."""
        for name, value in changed.items():
            if self._template.is_data_like_template(value):
                log.warning(
                    "If this is a template, write it in the DAG: %s was set after rendering, so it is data, and every "
                    "row gets its text unchanged",
                    name,
                )
        return changed


class RenderedRequest(RenderedFields):
    """The fields of a task with one request, whose rendered field ``request`` shows the whole of it.

    So whoever changes that field has the messages and the model of the other arguments in it already.
    """

    has_rows = False
    own_fields = REQUEST_FIELDS
    _filled: tuple[Any, list[str]] | None = None

    @classmethod
    def from_data(cls, task: BaseOperator) -> Self:
        """The fields of a task that nobody rendered, as an operator that another task executes: they are data."""
        return cls(task, RequestTemplate.from_data({name: getattr(task, name) for name in REQUEST_FIELDS}))

    def show(self) -> None:
        """Let the task's field ``request`` show the whole request. Raises InvalidRequest if there is none."""
        self._filled = self._fill(self._template)
        self._task.request = self._filled[0]
        self.note()

    def request(self) -> dict[str, Any]:
        """The request for what the fields are now. Raises InvalidRequest, also for a template that failed."""
        return self.filled(self.template())

    def filled(self, template: RequestTemplate) -> dict[str, Any]:
        """The request that a template makes. Warnings are logged now: rendering alone, as for the UI, logs none."""
        known = self._filled if template is self._template else None
        request: dict[str, Any]
        request, warnings = known or self._fill(template)
        for warning in warnings:
            log.warning("%s", warning)
        return request

    def _fill(self, template: RequestTemplate) -> tuple[Any, list[str]]:
        schema = opened(getattr(self._task, "request_schema", None), dag_of(self._task), "request_schema")
        return template.fill(load_schema(schema))

    def _replacements(self, changed: dict[str, Any]) -> dict[str, Any]:
        """A request that was set wins over the arguments that nobody set.

        But messages that are still those that the field showed are the arguments' own: a prompt that was set as well
        then replaces the old one.
        """
        if "request" not in changed:
            return changed
        request = request_from_data(changed["request"])
        if not isinstance(request, Mapping):
            return {**changed, "request": request}
        settled = [] if request.get("model") is None else ["model"]
        if "messages" in request and "messages" not in changed:
            shown = self._seen["request"]
            if isinstance(shown, Mapping) and "messages" in shown and unchanged(request["messages"], shown["messages"]):
                own = self._template.value("request")
                request = {**request, "messages": own.get("messages") if isinstance(own, Mapping) else None}
            else:
                settled += ["messages", "prompt", "system_prompt"]
        return {**dict.fromkeys(settled), **changed, "request": request}


def outline(value: Any) -> Any:
    """A copy of the dicts and lists in a container, with all else in it as it is: ``unchanged`` compares with it.

    Neither function calls itself, because a value may be nested deep, or contain itself.
    """
    copies: dict[int, Any] = {id(value): value.copy() if type(value) is dict else list(value)}
    stack = [value]
    while stack:
        item = stack.pop()
        copied = copies[id(item)]
        for key, member in item.items() if type(item) is dict else enumerate(item):
            if type(member) in _CONTAINERS:
                if id(member) not in copies:
                    copies[id(member)] = member.copy() if type(member) is dict else list(member)
                    stack.append(member)
                copied[key] = copies[id(member)]
    return copies[id(value)]


def unchanged(value: Any, was: Any) -> bool:
    """True if ``value`` is built of the same objects as when ``was`` was made its outline."""
    stack: list[tuple[Any, Any]] = [(value, was)]
    seen = set[tuple[int, int]]()
    while stack:
        item, old = stack.pop()
        kind = type(item)
        if kind not in _CONTAINERS:
            if item is not old:
                return False
        elif (id(item), id(old)) not in seen:
            seen.add((id(item), id(old)))
            if type(old) is not (dict if kind is dict else list) or len(item) != len(old):
                return False
            if kind is dict and set(item) != set(old):
                return False
            members = item.items() if kind is dict else enumerate(item)
            stack.extend((member, old[key]) for key, member in members if member is not old[key])
    return True
