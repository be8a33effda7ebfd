"""What metrics and traces cost: `PYTHONPATH=$PWD .venv/bin/python benchmarks/monitoring.py`.

CPU time of this process, with the server in another one: of whole calls and rows while all is off, and of what watches
over each of them, alone. The metrics go to a socket that nobody reads, the spans to an exporter in a thread, as Airflow
has them; its work counts too.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CALLS, ROUNDS, ROWS = 100, 5, 2_000
HERE = Path(__file__).resolve().parent
HOME = tempfile.mkdtemp()
os.environ |= {"AIRFLOW_HOME": HOME, "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
sys.path[:0] = [str(HERE.parent)]

from tests.support import telemetry  # noqa: E402

REQUEST = {"model": "test-model", "messages": [{"role": "user", "content": "Say hello."}]}
WAYS = {"all off": (False, False), "metrics": (True, False), "traces": (False, True), "both": (True, True)}


def switch(metrics, traces):
    server = telemetry.Statsd()
    for name, value in server.settings.items():
        os.environ[name] = value if metrics else "False" if value == "True" else value
    os.environ["AIRFLOW__TRACES__OTEL_ON"] = str(traces)
    telemetry.restart_stats()
    telemetry.forget()
    return server


def provide_spans():
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans):
            from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

            encode_spans(spans).SerializeToString()
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    return provider


def calls(hook, provider):
    began = time.process_time()
    for _ in range(CALLS):
        hook.create(REQUEST)
    provider.force_flush()
    return (time.process_time() - began) / CALLS * 1e6


def batch(folder, provider):
    from airflow.sdk import DAG

    from airflow_chat_provider.operators import ChatCompletionBatchOperator

    rows = [{"text": f"row {number}"} for number in range(ROWS)]
    task = ChatCompletionBatchOperator(
        task_id="bulk",
        dag=DAG("bulk", schedule=None),
        model="test-model",
        prompt="{{ row.text }}",
        input=rows,
        output=str(folder),
    )
    began = time.process_time()
    task.execute({})
    provider.force_flush()
    return (time.process_time() - began) / ROWS * 1e6


def watch_alone(provider, *, row):
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.call.steps import Response, Send
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.testing import replies
    from airflow_chat_provider.transport.metrics import Sums
    from airflow_chat_provider.transport.observer import watched

    settings, step, times = Settings(), Send(1.0, 1), 5_000
    sums, reply, response = Sums("chat_default"), Reply(200, replies.completion(), seconds=1.0), Response(200, {}, b"")
    began = time.process_time()
    for _ in range(times):
        with watched(settings, REQUEST, sums if row else None, row=row) as watch:
            watch.sends(step)
            watch.came(response, None)
            watch.ended(reply)
    sums.flush()
    provider.force_flush()
    return (time.process_time() - began) / times * 1e6


def main():
    from airflow_chat_provider.hooks import ChatCompletionHook

    sys.path.insert(0, str(telemetry.STATSD_CLIENT))
    code = (
        "from airflow_chat_provider.testing import ChatServer, replies\n"
        "with ChatServer(default=replies.ok('Hello')) as server:\n"
        "    print(server.url, flush=True)\n    input()\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
    )
    try:
        url = server.stdout.readline().strip()
        os.environ["AIRFLOW_CONN_CHAT_DEFAULT"] = f'{{"conn_type": "chat", "host": "{url}", "password": "sk-x"}}'
        provider, hook = provide_spans(), ChatCompletionHook()
        ways = [(what, way) for what in ("call", "row") for way in WAYS]
        whole, alone = {"call": [], "row": []}, {key: [] for key in ways}
        for number in range(ROUNDS):
            switch(False, False).close()
            hook.create(REQUEST)
            whole["call"].append(calls(hook, provider))
            whole["row"].append(batch(Path(HOME, str(number)), provider))
            for what, way in ways:
                socket = switch(*WAYS[way])
                alone[what, way].append(watch_alone(provider, row=what == "row"))
                socket.close()
        for what, values in whole.items():
            print(f"a whole {what}: {statistics.median(values):.0f} us")
        for (what, way), values in alone.items():
            print(f"what watches a {what}, {way}: {statistics.median(values):.1f} us")
    finally:
        server.communicate("\n")


if __name__ == "__main__":
    main()
