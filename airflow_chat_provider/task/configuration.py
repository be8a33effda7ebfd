"""The XCom ``configuration``: what a task takes from an upstream task's, and what it leaves in its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.core.errors import InvalidRequest

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.request.schema import SchemaSource
    from airflow_chat_provider.hooks import ChatCompletionHook
    from airflow_chat_provider.task.arguments import ChatArguments

_KEYS = ("chat_conn_id", "model", "base_url", "request_schema")

log = logging.getLogger(__name__)


class Upstream(NamedTuple):
    """What an upstream task left under ``configuration``; without any values where the argument is None.

    It stands between the task's own arguments, which win over it, and the connection.
    """

    values: Mapping[str, Any]

    @classmethod
    def from_argument(cls, configuration: Any) -> Upstream:
        """The argument, checked. Raises InvalidRequest."""
        if configuration is None:
            return cls({})
        if not isinstance(configuration, Mapping):
            from airflow_chat_provider.core.request.wording import with_article

            kind = with_article(type(configuration).__name__)
            raise InvalidRequest(f"configuration must be a mapping, not {kind}", path="configuration", keyword="type")
        unknown = sorted(str(key) for key in configuration if key not in _KEYS)
        if unknown:
            raise InvalidRequest(
                f"Remove the key {unknown[0][:64]!r} from configuration, which may only have {', '.join(_KEYS)}",
                path="configuration",
                keyword="additionalProperties",
            )
        return cls(configuration)

    def hook(self, arguments: ChatArguments) -> ChatCompletionHook:
        """The hook for the task's connection, with the task's own limits. Raises InvalidRequest."""
        from airflow_chat_provider.hooks import ChatCompletionHook

        conn_id: Any
        conn_id, given = arguments.chat_conn_id, self.values.get("chat_conn_id")
        if given and conn_id == ChatCompletionHook.default_conn_name:
            conn_id = given
        if not isinstance(conn_id, str) or not conn_id:
            raise InvalidRequest("chat_conn_id must be the id of a connection", path="chat_conn_id", keyword="type")
        return ChatCompletionHook(
            conn_id,
            # Text that a template rendered is read as an extra of the connection is.
            timeout=arguments.timeout,  # type: ignore[arg-type]
            deadline=arguments.deadline,  # type: ignore[arg-type]
            max_attempts=arguments.max_attempts,  # type: ignore[arg-type]
        )

    def schema(self, arguments: ChatArguments, settings: Settings) -> Any:
        """The ``request_schema`` that holds: the task's own if it has one, else the upstream's, else the connection's.

        The upstream's is data, so it is never the path of a file. Raises InvalidRequest.
        """
        if arguments.names_schema:
            from airflow_chat_provider.templates.dag_templates import opened

            return opened(arguments.request_schema, arguments.dag, "request_schema")
        if "request_schema" in self.values:
            from airflow_chat_provider.templates.renderer import schema_from_data

            return schema_from_data(self.values["request_schema"])
        return settings.request_schema

    def with_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request with the upstream's model if it has none."""
        model = self.values.get("model")
        return {**request, "model": model} if model and request.get("model") is None else request

    def downstream(self, request: dict[str, Any], schema: SchemaSource, settings: Settings) -> dict[str, Any]:
        """What this task leaves under ``configuration``, never a secret. A base URL that differs is warned of."""
        from airflow_chat_provider.core.request.schema import portable

        base_url = self.values.get("base_url")
        if base_url and base_url != settings.base_url:
            log.warning(
                "The request goes to %s, the base URL of connection %r: the base URL %s in configuration is not used",
                settings.base_url,
                settings.conn_id,
                str(base_url)[:200],
            )
        return {
            "chat_conn_id": settings.conn_id,
            "model": request.get("model"),
            "base_url": settings.base_url,
            "request_schema": portable(schema),
        }
