"""Metrics and traces of a whole Airflow: from workers' tasks and from the triggerer to servers on loopback."""

import json
import os
from importlib.metadata import version

import pytest

from airflow_chat_provider.testing import ChatServer, replies
from tests.support.airflow_process import STEP, AirflowProcess, until
from tests.support.telemetry import STATSD_CLIENT, collector, statsd

pytestmark = pytest.mark.scheduler

KEY = "sk-canary-key-2b8f41"
PROMPT = "canary prompt of a watched call"
ANSWER = "canary answer of a watched call"
NAMES = ("waits", "defers", "hooked", "refused", "batched")
# Each DAG's name is the model that its task asks for.
DAGS = f"""
import contextlib

from airflow.sdk import DAG, task
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator

for name in ("waits", "defers", "refused"):
    with DAG(name, schedule=None):
        ChatCompletionOperator(task_id="ask", model=name, prompt={PROMPT!r}, deferrable=name == "defers")

with DAG("hooked", schedule=None):

    @task
    def ask():
        request = {{"model": "hooked", "messages": [{{"role": "user", "content": {PROMPT!r}}}]}}
        with contextlib.closing(ChatCompletionHook()) as hook:
            return hook.create(request).text

    ask()

with DAG("batched", schedule=None):
    ChatCompletionBatchOperator(
        task_id="ask", model="batched", prompt="{{{{ row.text }}}}", input=[{{"text": {PROMPT!r}}}] * 3, output="FOLDER"
    )
"""
AIRFLOW = tuple(map(int, version("apache-airflow-core").split(".")[:2]))


def answer(request):
    if request.json["model"] == "refused":
        return replies.error(401, f"{PROMPT}: no such key as {KEY}", "invalid_api_key")
    return replies.ok(ANSWER)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What both servers have when each DAG has run."""
    home = tmp_path_factory.mktemp("airflow")
    with ChatServer(default=answer) as server, statsd() as metrics, collector() as spans:
        connection = json.dumps({"conn_type": "chat", "host": server.url, "password": KEY})
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(STATSD_CLIENT))))
        environment = {"AIRFLOW_CONN_CHAT_DEFAULT": connection, "PYTHONPATH": path}
        environment |= metrics.settings | spans.settings
        dags = DAGS.replace("FOLDER", str(home / "out"))
        with AirflowProcess(home, dags, environment) as airflow:
            runs = {name: airflow.trigger(name) for name in NAMES}
            states = {name: run.wait_state(2 * STEP) for name, run in runs.items()}
            assert states == dict.fromkeys(NAMES, "success") | {"refused": "failed"}
            wanted = {f"chat {name}" for name in NAMES if name != "batched"} | {"chat batch"}
            until(lambda: wanted <= {span.name for span in list(spans.spans)}, "not every span arrives")
            until(lambda: spans.children(spans.named("chat defers")[0]), "the span of an attempt does not arrive")
        yield metrics, spans


@pytest.mark.parametrize("name", ["waits", "defers", "hooked"])
def test_each_call_counts_once_wherever_it_is_made(seen, name):
    metrics, _ = seen
    tokens = {("tokens", "input"): 9, ("tokens", "output"): 2}
    assert metrics.totals(model=name) == {("calls", "200"): 1, ("duration", "200"): 1, **tokens}


def test_a_failed_call_and_a_batch_count_too(seen):
    metrics, _ = seen
    assert metrics.totals(model="refused")["errors", "StatusError_401"] == 1
    assert metrics.totals(model="batched")["calls", "200"] == 3
    assert len([metric for metric in metrics.ours(model="batched") if metric.kind == "c"]) == 3


@pytest.mark.parametrize("name", ["chat waits", "chat defers", "chat hooked", "chat refused", "chat batch"])
def test_each_span_is_in_the_trace_of_its_dag_run_below_what_airflow_made(seen, name):
    _, spans = seen
    (span,) = spans.named(name)
    above = {one.id: one.name for one in spans.spans}
    if AIRFLOW < (3, 2):  # Airflow 3.1 mixes the spans of runs up, but each call is in one of their traces
        assert span.parent
    elif name == "chat defers":
        assert above[span.parent] == "trigger.ask"
        (run,) = spans.named("dag_run.defers")
        assert span.trace == run.trace
    else:
        assert above[span.parent] == "worker.ask"


@pytest.mark.parametrize("name", ["waits", "defers", "hooked", "refused"])
def test_each_call_has_an_attempt_below_it(seen, name):
    _, spans = seen
    (call,) = spans.named(f"chat {name}")
    (attempt,) = spans.children(call)
    assert attempt.attributes["http.response.status_code"] == (401 if name == "refused" else 200)
    assert attempt.failed == call.failed == (name == "refused")


def test_neither_key_nor_prompt_nor_answer_is_in_a_metric_or_a_span_of_ours(seen):
    metrics, spans = seen
    ours = [span for span in spans.spans if span.name == "POST" or span.name.startswith("chat ")]
    told = repr(ours) + "".join(line for line in metrics.lines if "chat_completion" in line)
    assert len(ours) >= 9
    assert not [secret for secret in (KEY, PROMPT, ANSWER) if secret in told]
