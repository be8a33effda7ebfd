"""How the operator's arguments become a request when the task runs: rendered, folded, joined with upstream's."""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.prepare import filled, fold
from airflow_chat_provider.core.request.schema import load_schema
from airflow_chat_provider.core.request.written import Written
from airflow_chat_provider.task.arguments import REQUEST_FIELDS
from airflow_chat_provider.templates.renderer import Renderer, json_or_none, no_path, rendered_request, schema_of_data
from airflow_chat_provider.templates.schema_files import dag_of, opened
from airflow_chat_provider.templates.structure import outline, unchanged

NEEDED = ("request", "messages", "prompt")  # None for one of these is not the same as none given
_NEEDED = (*NEEDED, "configuration")

log = logging.getLogger(__name__)


class Folded(NamedTuple):
    """A task's arguments as one request; and warnings about it, which are for its run to log, not for its rendering."""

    request: Any
    warnings: Sequence[str]

    def told(self) -> Any:
        """The request, with its warnings logged."""
        for warning in self.warnings:
            log.warning("%s", warning)
        return self.request


class Watched:
    """A task's fields once rendered: whose templates failed, and what is set in their place afterwards.

    ``pre_execute``, a callback or a subclass's ``execute()`` may set them.
    """

    def __init__(self, task: Any, errors: Mapping[str, InvalidRequest] | None = None) -> None:
        self._task = task
        self._errors = dict(errors or {})
        self._seen: dict[str, Any] = {}

    @property
    def error(self) -> InvalidRequest | None:
        """The first template that failed."""
        return next(iter(self._errors.values()), None)

    def note(self) -> None:
        """What the task's arguments are now was set by nobody."""
        self._seen = {name: outline(getattr(self._task, name)) for name in {*REQUEST_FIELDS, *self._errors}}

    def changed(self) -> dict[str, Any]:
        """The request's arguments that were set since. Raises InvalidRequest for a failed template that stands."""
        was, task = self._seen, self._task
        changed = {name: getattr(task, name) for name in was if not unchanged(getattr(task, name), was[name])}
        for name, error in self._errors.items():
            if name not in changed:
                raise error
        return {name: value for name, value in changed.items() if name in REQUEST_FIELDS}


class Arguments(Watched):
    """What a task's request is made of: its arguments, or the request that is shown, which may be changed, too."""

    def __init__(
        self, task: Any, errors: Mapping[str, InvalidRequest] | None = None, written: Written | None = None
    ) -> None:
        super().__init__(task, errors)
        self.written = written or Written()
        self._rendered = {name: getattr(task, name) for name in REQUEST_FIELDS}
        self._folded: Folded | None = None
        self.note()

    def show(self) -> None:
        """Let the task's rendered fields show the whole request. Raises InvalidRequest where there is none."""
        self._folded = fold_for(self._task, self._rendered, self.written)
        self._task.request = self._folded.request
        self.note()

    def request(self) -> dict[str, Any]:
        """The request for what the arguments are now. Raises InvalidRequest, also for a template that failed."""
        now = self.now()
        folded = self._folded if now is self._rendered else None
        request: dict[str, Any] = (folded or fold_for(self._task, now, self.written)).told()
        return request

    def now(self) -> dict[str, Any]:
        """The arguments as they were rendered, with what was set since. Raises InvalidRequest for what has none."""
        changed = self.changed()
        if not changed:
            return self._rendered
        return self._over(changed) if "request" in changed else {**self._rendered, **changed}

    def _over(self, changed: dict[str, Any]) -> dict[str, Any]:
        """The arguments for another request: what it has wins over the arguments that nobody changed."""
        request = changed["request"]
        if isinstance(request, str):
            request = rendered_request(request)
        given = {**self._rendered, **changed, "request": request}
        if not isinstance(request, Mapping):
            return given
        settled = [] if request.get("model") is None else ["model"]
        if "messages" in request and "messages" not in changed:
            if self._shows(request["messages"]):
                given["request"] = {**request, "messages": self._own_messages()}
            else:
                settled += ["messages", "prompt", "system_prompt"]
        return {**given, **{name: None for name in settled if name not in changed}}

    def _shows(self, messages: Any) -> bool:
        shown = self._seen["request"]
        return isinstance(shown, Mapping) and "messages" in shown and unchanged(messages, shown["messages"])

    def _own_messages(self) -> Any:
        """The messages of the argument ``request``, without those that the other arguments add to it."""
        request = self._rendered["request"]
        return request.get("messages") if isinstance(request, Mapping) else None


def render(task: Any, fields: Iterable[str], context: Any, env: Any, data: frozenset[str]) -> Arguments:
    """Render a task's fields in place. Those in ``data`` came from an upstream task, and stay as they are."""
    renderer, messages = Renderer(env, context), written_messages(task, data)
    errors = render_fields(task, fields, renderer, data, _NEEDED)
    return Arguments(task, errors, Written(renderer.request_source, messages))


def written_messages(task: Any, data: Container[str]) -> Any:
    """The argument ``messages`` before it is rendered, read where it is JSON; None where it is data."""
    given = None if "messages" in data else task.messages
    return json_or_none(given) if isinstance(given, str) else given


def render_fields(
    task: Any, fields: Iterable[str], renderer: Renderer, data: Container[str], needed: Container[str]
) -> dict[str, InvalidRequest]:
    """Render a task's fields in place; what failed, by field. None for one in ``needed``: its upstream was skipped."""
    errors = {}
    for name in fields:
        try:
            if name not in data:
                _render(task, renderer, name, needed)
            elif name == "request_schema":
                schema_of_data(task.request_schema)
        except InvalidRequest as error:
            errors[name] = error
    if "response_schema" in data and isinstance(task.response_schema, str | os.PathLike):
        errors["response_schema"] = no_path("response_schema")
    return errors


def _render(task: Any, renderer: Renderer, name: str, needed: Container[str]) -> None:
    value = getattr(task, name)
    if value is None:
        return
    setattr(task, name, rendered := _rendered(renderer, name, value))
    if rendered is None and name in needed:
        raise nothing(name)


def _rendered(renderer: Renderer, name: str, value: Any) -> Any:
    if name == "request":
        return renderer.request(value)
    if name == "input":  # a batch's rows
        return renderer.resolved(value, name)
    return renderer.schema(value) if name == "request_schema" else renderer.render(value, name)


def nothing(name: str) -> InvalidRequest:
    """An upstream task left nothing for an argument."""
    return InvalidRequest(
        f"{name}: its template gave None: the upstream task left nothing (was it skipped, or did it fail?)",
        path=name,
        keyword="upstream",
    )


def fold_for(task: Any, arguments: Mapping[str, Any], written: Written) -> Folded:
    """One request of a task's arguments, rendered or in no need of it, in the types that are due."""
    given, empty = dict(arguments), list[str]()
    request = given.pop("request")
    folded = fold(rendered_request(request) if isinstance(request, str) else request, **given, empty=empty)
    schema = load_schema(opened(task.request_schema, dag_of(task), "request_schema"))
    return Folded(*filled(folded, schema, empty, written.nulls(folded, given)))
