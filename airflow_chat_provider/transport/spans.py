"""Spans of calls and their attempts, by OpenTelemetry's conventions for generative AI and HTTP.

OpenTelemetry is imported only where Airflow's traces are on. Whoever calls this guards against its errors: an
exporter of the user's may raise them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow_chat_provider import __version__
from airflow_chat_provider.airflow_api import compat
from airflow_chat_provider.core.answer.usage import total_of
from airflow_chat_provider.core.server.scrub import printable
from airflow_chat_provider.core.servers import provider_at
from airflow_chat_provider.transport.span_content import input_messages, output_messages

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.types import JSONObject

_LONGEST_NAME = 128  # characters of what a server or a DAG calls something
_CHOICES = 16  # whose finish reasons are told
_LARGEST = 2**63 - 1  # the protocol has no larger integers
_TRACEPARENT = "traceparent"
_REAL = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}
_WHOLE = {
    "seed": "gen_ai.request.seed",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
}
_OUTPUT_TYPES = {"text": "text", "json_object": "json", "json_schema": "json"}
_USAGE = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}


class Options(NamedTuple):
    """The section ``chat`` of Airflow's configuration."""

    content: bool = False
    rows: bool = False


@cache
def tracer() -> Any:
    """OpenTelemetry's tracer; None if this process has nothing to send spans with."""
    return compat.tracer("airflow_chat_provider", __version__)


@cache
def options() -> Options:
    return Options(*(compat.conf.getboolean("chat", f"trace_{name}", fallback=False) for name in Options._fields))


class CallSpan:
    """The span of one call, and those of its attempts."""

    def __init__(self, settings: Settings, request: JSONObject) -> None:
        model = request.get("model")
        name = f"chat {_named(model)}" if isinstance(model, str) and model else "chat"
        self._settings = settings
        self._span = _start(name, {**_target(settings), **_of_request(request)}, _parent())
        self._attempt: Any = None
        self._attempts = 0
        if options().content and self._span.is_recording():
            self._span.set_attribute("gen_ai.input.messages", self._masked(input_messages(request)))

    def sends(self, attempt: int) -> None:
        """An attempt begins; it is the one with this number."""
        from opentelemetry.trace import set_span_in_context

        self._attempts = max(attempt, self._attempts + 1)
        where = _address(self._settings.base_url)
        attributes = {
            "http.request.method": "POST",
            # Without the query, in which a key may be.
            "url.full": f"{where.url}/{self._settings.endpoint.lstrip('/')}",
            **where.attributes,
        }
        if self._attempts > 1:
            attributes["http.request.resend_count"] = self._attempts - 1
        self._attempt = _start("POST", attributes, set_span_in_context(self._span))

    def came(self, status: int | None, kind: str | None) -> None:
        """The attempt has ended. ``kind`` is that of its error."""
        if self._attempt is None:
            return
        attempt, self._attempt = self._attempt, None
        if status is not None:
            attempt.set_attribute("http.response.status_code", status)
            if status >= 400:
                kind = str(status)
        _end(attempt, kind)

    def end(self, reply: Reply | None, attempts: int, kind: str | None) -> None:
        """The call has ended; without a reply if it was stopped, or nobody read its stream to the end."""
        self.came(None, kind or "stopped")
        if self._span.is_recording():
            self._span.set_attribute("chat_completion.attempts", attempts)
            if reply is not None:
                self._span.set_attributes(_of_reply(reply))
                if options().content:
                    self._span.set_attribute("gen_ai.output.messages", self._masked(output_messages(reply.body)))
        _end(self._span, kind)

    def _masked(self, content: str) -> str:
        """JSON text without the connection's secrets, which a prompt may quote."""
        for secret in self._settings.secrets:
            content = content.replace(json.dumps(secret)[1:-1], "***")
        return content


class GroupSpan:
    """A span that is the current one until its end, so that those of calls are under it."""

    def __init__(self, name: str, settings: Settings) -> None:
        from opentelemetry.context import attach
        from opentelemetry.trace import SpanKind, set_span_in_context

        parent = _parent()
        self._span = tracer().start_span(name, context=parent, kind=SpanKind.INTERNAL, attributes=_target(settings))
        self._token = attach(set_span_in_context(self._span))

    def end(self, counts: Callable[[], Mapping[str, Any]], kind: str | None) -> None:
        from opentelemetry.context import detach

        detach(self._token)
        if self._span.is_recording():
            self._span.set_attributes(counts())
        _end(self._span, kind)


def _start(name: str, attributes: Mapping[str, Any], context: Any) -> Any:
    from opentelemetry.trace import SpanKind

    return tracer().start_span(name, context=context, kind=SpanKind.CLIENT, attributes=attributes)


def _end(span: Any, kind: str | None) -> None:
    if kind is not None:
        from opentelemetry.trace import Status, StatusCode

        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR))
    span.end()


class _Address(NamedTuple):
    url: str
    host: str
    attributes: dict[str, Any]


@lru_cache(64)
def _address(base_url: str) -> _Address:
    """Where a server is, without a user's name or a password, which a URL may have."""
    parts = urlsplit(base_url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    shown = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{shown}:{port}{parts.path.rstrip('/')}"
    return _Address(url, host, {"server.address": host, "server.port": port})


def _target(settings: Settings) -> dict[str, Any]:
    where = _address(settings.base_url)
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider_at(where.host),
        **where.attributes,
        "chat_completion.conn_id": _named(settings.conn_id),
    }


def _of_request(request: JSONObject) -> dict[str, Any]:
    """The parameters that the conventions name: numbers and choices, no text."""
    found: dict[str, Any] = {}
    if isinstance(model := request.get("model"), str):
        found["gen_ai.request.model"] = _named(model)
    for field, name in _REAL.items():
        value = request.get(field)
        if isinstance(value, int | float) and math.isfinite(value):
            found[name] = float(value)
    for field, name in _WHOLE.items():
        value = request.get(field)
        if type(value) is int and abs(value) <= _LARGEST:
            found[name] = value
    if type(count := request.get("n")) is int and 1 < count <= _LARGEST:
        found["gen_ai.request.choice.count"] = count
    if request.get("stream") is True:
        found["gen_ai.request.stream"] = True
    wanted = request.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if isinstance(kind, str) and kind in _OUTPUT_TYPES:
        found["gen_ai.output.type"] = _OUTPUT_TYPES[kind]
    return found


def _of_reply(reply: Reply) -> dict[str, Any]:
    """What an answer says about itself. Servers are not trusted: a wrong character would cost a batch of spans."""
    found: dict[str, Any] = {}
    if reply.request_id is not None:
        found["chat_completion.request_id"] = _named(reply.request_id)
    body = reply.body if isinstance(reply.body, dict) else {}
    for field, name in (("model", "gen_ai.response.model"), ("id", "gen_ai.response.id")):
        if isinstance(value := body.get(field), str) and value:
            found[name] = _named(value)
    choices = body.get("choices")
    reasons = [
        _named(choice["finish_reason"])
        for choice in (choices[:_CHOICES] if isinstance(choices, list) else ())
        if isinstance(choice, dict) and isinstance(choice.get("finish_reason"), str)
    ]
    if reasons:
        found["gen_ai.response.finish_reasons"] = reasons
    usage, cost = total_of(reply)
    if cost is not None:
        found["chat_completion.cost"] = float(cost)
    return found | {name: usage[key] for key, name in _USAGE.items() if key in usage}


def _named(text: str) -> str:
    return printable(text[:_LONGEST_NAME])


def traceparent() -> str | None:
    """The span that the calls of this task belong under, for whoever makes them elsewhere."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, _parent())
    return carrier.get(_TRACEPARENT)


@contextmanager
def under(parent: str) -> Iterator[None]:
    """Put the spans of what runs inside under ``parent``, unless Airflow has put them into the same trace itself."""
    context = _context_of({_TRACEPARENT: parent})
    from opentelemetry.context import attach, detach
    from opentelemetry.trace import get_current_span

    here, there = (get_current_span(place).get_span_context() for place in (None, context))
    if not there.is_valid or here.trace_id == there.trace_id:
        yield
        return
    token = attach(context)
    try:
        yield
    finally:
        detach(token)


def _parent() -> Any:
    """The context for a span. None is the current one, which is the task's from Airflow 3.2 on."""
    from opentelemetry.trace import get_current_span

    if get_current_span().get_span_context().is_valid:
        return None
    carrier = getattr((compat.current_context() or {}).get("ti"), "context_carrier", None)
    return _context_of(carrier) if isinstance(carrier, dict) and carrier else None


def _context_of(carrier: Mapping[str, str]) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(carrier)
