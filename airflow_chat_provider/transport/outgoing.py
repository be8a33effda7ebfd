"""What is added to a request on its way out: the connection's model, the usage of a stream, headers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.call.exchange import NO_STREAM_OPTIONS
from airflow_chat_provider.core.call.steps import Call
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.json_values import encode

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.request.schema import RequestSchema

# Base URLs whose servers have refused `stream_options`: each is asked once in a process.
WITHOUT_STREAM_OPTIONS: set[str] = set()


def variants(request: dict[str, Any], base_url: str) -> list[dict[str, Any]]:
    """The request as it is sent: a stream is asked for its usage too, unless its server is known to refuse that."""
    if not request.get("stream") or "stream_options" in request or base_url in WITHOUT_STREAM_OPTIONS:
        return [request]
    return [{**request, "stream_options": {"include_usage": True}}, request]


def with_model(request: Any, settings: Settings, schema: RequestSchema | None) -> Any:
    if not isinstance(request, Mapping) or request.get("model") is not None:
        return request
    if settings.model:
        return {**request, "model": settings.model}
    if schema is None or "model" not in schema.required:
        return request
    raise InvalidRequest(
        f"Name a model: there is none in the request, and none in the extra 'model' of connection {settings.conn_id!r}",
        path="$.model",
        keyword="required",
    )


def learn(reply: Reply, base_url: str) -> None:
    """Remember that a server refuses ``stream_options``, where its reply shows that."""
    if NO_STREAM_OPTIONS in reply.notes:
        WITHOUT_STREAM_OPTIONS.add(base_url)


def call_for(request: dict[str, Any], settings: Settings) -> Call:
    """What an exchange needs to know of a request; raises InvalidRequest where it holds what is no text."""
    contents = tuple(map(encode, variants(request, settings.base_url)))
    choices = request.get("n")
    return Call(settings, contents, choices if isinstance(choices, int) else 1, request)


def headers(request: Mapping[str, Any], idempotency_key: str | None) -> dict[str, str]:
    """A key of its own for a call that has none; and what a stream's reply may be."""
    own = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
    return {**own, "accept": "text/event-stream, application/json"} if request.get("stream") else own
