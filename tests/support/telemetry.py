"""Where metrics and spans go: a statsd server and an OTLP/HTTP collector on loopback, which remember what came."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer
from tests.support import faults
from tests.support.airflow_process import until
from tests.support.calling import REQUEST

STATSD_CLIENT = Path(__file__).parent / "statsd_client"
"""A folder to import ``statsd`` from."""


@dataclass(frozen=True)
class Metric:
    """One line of statsd's protocol, with tags as InfluxDB has them."""

    name: str
    tags: dict[str, str]
    value: float
    kind: str

    @classmethod
    def parse(cls, line: str) -> Metric:
        named, _, measured = line.partition(":")
        name, *tags = named.split(",")
        value, kind = measured.split("|")
        return cls(name, dict(tag.split("=") for tag in tags), float(value), kind)


class Statsd:
    """A statsd server. ``lines`` are as they came."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.lines: list[str] = []

    @property
    def settings(self) -> dict[str, str]:
        """Airflow's settings, for which ``statsd`` must be importable."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def read(self) -> None:
        with contextlib.suppress(OSError):
            while line := self._socket.recv(1 << 16):
                self.lines.append(line.decode())

    def received(self) -> None:
        """Take what has arrived: on loopback a datagram is there as soon as it is sent."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.lines.append(self._socket.recv(1 << 16).decode())

    def ours(self, **tags: str) -> list[Metric]:
        """The metrics of calls, those with these tags."""
        found = [Metric.parse(line) for line in list(self.lines) if re.match(r"airflow\.chat_completion\.", line)]
        return [metric for metric in found if tags.items() <= metric.tags.items()]

    def totals(self, **tags: str) -> dict[tuple[str, ...], float]:
        """Sums by name and by the tag that says more; of a duration, how often it came."""
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for metric in self.ours(**tags):
            name = metric.name.removeprefix("airflow.chat_completion.")
            rest = tuple(value for key, value in metric.tags.items() if key not in ("model", "conn_id"))
            sums[name, *rest] += 1 if metric.kind == "ms" else metric.value
        return dict(sums)

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def statsd() -> Iterator[Statsd]:
    """One that is read from all the time."""
    server = Statsd()
    threading.Thread(target=server.read, daemon=True).start()
    try:
        yield server
    finally:
        server.close()


@dataclass
class Span:
    """A span as the collector got it."""

    name: str
    id: str
    parent: str
    trace: str
    kind: int
    failed: bool
    attributes: dict[str, Any]


@dataclass
class Collector:
    """An OTLP/HTTP collector."""

    url: str
    spans: list[Span] = field(default_factory=list)
    metrics: list[tuple[str, dict[str, Any], float]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        """Airflow's settings for traces."""
        _, _, port = self.url.rpartition(":")
        return {
            "AIRFLOW__TRACES__OTEL_ON": "True",
            # Airflow 3.1 has settings of its own; later ones read OpenTelemetry's.
            "AIRFLOW__TRACES__OTEL_HOST": "127.0.0.1",
            "AIRFLOW__TRACES__OTEL_PORT": port,
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{self.url}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "500",
        }

    def named(self, name: str) -> list[Span]:
        return [span for span in list(self.spans) if span.name == name]

    def children(self, parent: Span) -> list[Span]:
        return [span for span in list(self.spans) if span.parent == parent.id]

    def ancestors(self, span: Span) -> list[str]:
        """The names of the spans above, the nearest first."""
        by_id = {one.id: one for one in list(self.spans)}
        above = by_id.get(span.parent)
        return [] if above is None else [above.name, *self.ancestors(above)]

    def take(self, path: str, body: bytes) -> None:
        self.raw.append(body)
        if path.endswith("/traces"):
            self._take_spans(body)
        elif path.endswith("/metrics"):
            self._take_metrics(body)

    def _take_spans(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        message = ExportTraceServiceRequest()
        message.ParseFromString(body)
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    own, parent, trace = (part.hex() for part in (span.span_id, span.parent_span_id, span.trace_id))
                    failed, told = span.status.code == 2, _plain(span.attributes)
                    self.spans.append(Span(span.name, own, parent, trace, span.kind, failed, told))

    def _take_metrics(self, body: bytes) -> None:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        message = ExportMetricsServiceRequest()
        message.ParseFromString(body)
        for resource in message.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.sum.data_points:
                        self.metrics.append((metric.name, _plain(point.attributes), point.as_int or point.as_double))


def forget() -> None:
    """Have this process read Airflow's settings for metrics and traces anew, as another process would."""
    from airflow_chat_provider.transport import metrics, observer, spans

    for known in (
        metrics.backend,
        metrics._warn,
        spans.tracer,
        spans.options,
        observer._is_traced,
        observer._wants_rows,
        observer._set_up,
        observer._warn,
    ):
        known.cache_clear()
    metrics._models.clear()


def restart_stats() -> None:
    """Have Airflow set up its metrics anew, as it does when a task's process begins."""
    try:
        from airflow.sdk.observability.metrics import stats_utils
        from airflow.sdk.observability.stats import Stats
    except ImportError:  # before Airflow 3.2
        from airflow.stats import Stats

        stats: Any = Stats
        kind: Any = type(stats)
        kind.instance = stats.instance = None
        if hasattr(kind, "factory"):
            del kind.factory
        kind.__init__(stats)
        return
    from inspect import signature

    more = {"export_legacy_names": False} if "export_legacy_names" in signature(Stats.initialize).parameters else {}
    Stats.initialize(factory=stats_utils.get_stats_factory(), **more)


class Traces:
    """What is traced in this process."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> list[Any]:
        """Those of calls, batches and attempts, in the order of their ends."""
        found = self.exporter.get_finished_spans()
        return [span for span in found if getattr(span.instrumentation_scope, "name", "") == "airflow_chat_provider"]

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Any:
        (found,) = self.named(name)
        return found

    def attempts(self, call: Any) -> list[Any]:
        """The spans of a call's attempts."""
        return [span for span in self.named("POST") if span.parent.span_id == call.context.span_id]

    @property
    def text(self) -> str:
        """All that they tell."""
        return "".join(span.to_json() for span in self.spans)

    @contextlib.contextmanager
    def task(self, name: str = "task") -> Iterator[Any]:
        """A span as Airflow makes one around a task."""
        with self.provider.get_tracer("airflow").start_as_current_span(name) as span:
            yield span


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    """One that runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.take(self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Collector(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield found
        finally:
            server.shutdown()


def cancel_a_call(chat: ChatServer) -> None:
    """Make a call to a server that hangs, and cancel it once its request is there."""
    chat.script(faults.hang())

    async def main() -> None:
        call = asyncio.create_task(ChatCompletionHook().acreate(REQUEST))
        await asyncio.to_thread(until, lambda: chat.requests, "no request arrives")
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call

    asyncio.run(main())
