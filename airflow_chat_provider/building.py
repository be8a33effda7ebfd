"""How the operator's arguments become a request when the task runs: rendered, folded, joined with upstream's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.arguments import REQUEST_FIELDS
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request import filled, fold
from airflow_chat_provider.core.schema import load_schema, portable
from airflow_chat_provider.mapped import from_upstream
from airflow_chat_provider.schema_files import dag_of, opened
from airflow_chat_provider.templating import Renderer, rendered_request, schema_of_data

if TYPE_CHECKING:
    from airflow_chat_provider.core.settings import Settings

_NEEDED = ("request", "messages", "prompt", "configuration")  # None for one of these: its upstream was skipped
_CONFIGURATION = ("chat_conn_id", "model", "base_url", "request_schema")

log = logging.getLogger(__name__)


class Built(NamedTuple):
    """A task's request once its templates are rendered, or why there is none; and warnings, for its run to log."""

    request: Any = None
    error: InvalidRequest | None = None
    warnings: Sequence[str] = ()


def render(task: Any, fields: list[str], context: Any, env: Any, seen_oids: set[int]) -> Built:
    """Render a task's fields in place, and fold them into one request."""
    rendered = render_fields(task, fields, context, env, seen_oids)
    built = build(task) if rendered.error is None else rendered
    if built.error is None:
        task.request = built.request  # what the rendered fields show
    return built


def render_fields(task: Any, fields: list[str], context: Any, env: Any, seen_oids: set[int]) -> Built:
    """Render a task's fields in place; values that a mapped task got from XCom are data and stay as they are."""
    renderer = Renderer(env, context)
    empty = []
    try:
        data = from_upstream(task, fields, context, seen_oids)
        for name in fields:
            value = getattr(task, name)
            if value is None or name in data:
                continue
            rendered = _rendered(renderer, name, value)
            setattr(task, name, rendered)
            if rendered is None and name in _NEEDED:
                empty.append(name)
    except InvalidRequest as error:
        return Built(error=error)
    return Built(error=nothing(empty[0])) if empty else Built()


def _rendered(renderer: Renderer, name: str, value: Any) -> Any:
    if name == "request":
        return renderer.request(value)
    return renderer.schema(value) if name == "request_schema" else renderer.render(value, name)


def nothing(name: str) -> InvalidRequest:
    """An upstream task left nothing for an argument."""
    return InvalidRequest(
        f"{name}: its template gave None: the upstream task left nothing (was it skipped, or did it fail?)",
        path=name,
        keyword="upstream",
    )


def build(task: Any) -> Built:
    """Fold a task's arguments, rendered or in no need of it, into one request, in the types that are due."""
    try:
        given = {name: getattr(task, name) for name in REQUEST_FIELDS}
        if isinstance(given["request"], str):
            given["request"] = rendered_request(given["request"])
        empty: list[str] = []
        folded = fold(given.pop("request"), **given, empty=empty)
        schema = load_schema(opened(task.request_schema, dag_of(task), "request_schema"))
        request, warnings = filled(folded, schema, empty)
        return Built(request, None, warnings)
    except InvalidRequest as error:
        return Built(error=error)


class Upstream(NamedTuple):
    """What an upstream task left under ``configuration``."""

    values: Mapping[str, Any]

    @classmethod
    def of(cls, configuration: Any) -> Upstream:
        """Checked; None is an empty one."""
        if configuration is None:
            return cls({})
        if not isinstance(configuration, Mapping):
            kind = type(configuration).__name__
            raise InvalidRequest(f"configuration must be a mapping, not a {kind}", path="configuration", keyword="type")
        strange = sorted(str(key) for key in configuration if key not in _CONFIGURATION)
        if strange:
            listed = ", ".join(_CONFIGURATION)
            raise InvalidRequest(
                f"configuration has the key {strange[0][:64]!r}; it may have {listed}",
                path="configuration",
                keyword="additionalProperties",
            )
        return cls(configuration)

    def conn_id(self, own: Any, default: str) -> str:
        """The task's own connection, where it names one; else this one's."""
        given = self.values.get("chat_conn_id")
        name = given if given and own == default else own
        if not isinstance(name, str) or not name:
            raise InvalidRequest("chat_conn_id must be a connection's id", path="chat_conn_id", keyword="type")
        return name

    def schema(self, settings: Settings) -> Any:
        """For a task that names no schema: this one's, else the connection's. This one's is data: no path of a file."""
        if "request_schema" in self.values:
            return schema_of_data(self.values["request_schema"])
        return settings.request_schema

    def request(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request with this one's model, where it has none."""
        model = self.values.get("model")
        return {**request, "model": model} if model and request.get("model") is None else request

    def downstream(self, request: dict[str, Any], schema: Any, settings: Settings) -> dict[str, Any]:
        """What this task leaves under ``configuration``: never a secret."""
        base_url = self.values.get("base_url")
        if base_url and base_url != settings.base_url:
            log.warning(
                "configuration names the base URL %s, but connection %r has %s: that is used",
                str(base_url)[:200],
                settings.conn_id,
                settings.base_url,
            )
        return {
            "chat_conn_id": settings.conn_id,
            "model": request.get("model"),
            "base_url": settings.base_url,
            "request_schema": portable(schema),
        }
