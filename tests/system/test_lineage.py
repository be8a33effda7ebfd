"""Lineage of tasks that real components run: what a deferred task tells, and which of them tells it."""

import json
from importlib.util import find_spec

import pytest

from airflow_chat_provider.testing import ChatServer
from tests.support.airflow_process import AirflowProcess, until

pytestmark = pytest.mark.scheduler

DAGS = """
from airflow.sdk import DAG, Asset
from airflow_chat_provider.operators import ChatCompletionOperator


def ask(name, **arguments):
    with DAG(name, schedule=None):
        ChatCompletionOperator(task_id="ask", prompt="Hi", model=name, **arguments)


ask("waits", outlets=[Asset("answers_of_waits")])
ask("defers", deferrable=True, outlets=[Asset("answers_of_defers")])
ask("defers_without_outlets", deferrable=True)
"""


@pytest.fixture(scope="module")
def server():
    with ChatServer() as running:
        yield running


@pytest.fixture(scope="module")
def airflow_process(server, tmp_path_factory):
    home = tmp_path_factory.mktemp("airflow")
    transport = {"type": "file", "log_file_path": str(home / "openlineage.jsonl"), "append": True}
    environment = {
        "AIRFLOW_CONN_CHAT_DEFAULT": json.dumps({"conn_type": "chat", "host": server.url, "password": "sk-test"}),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),  # nobody reads it without the provider
    }
    with AirflowProcess(home, DAGS, environment) as running:
        yield running


@pytest.fixture(scope="module")
def runs(airflow_process):
    """One finished run of each DAG."""
    started = {name: airflow_process.trigger(name) for name in ("waits", "defers", "defers_without_outlets")}
    assert {name: run.wait_state() for name, run in started.items()} == dict.fromkeys(started, "success")
    return started


@pytest.mark.parametrize("dag_id", ["waits", "defers"])
def test_an_asset_has_one_event_with_the_usage_however_the_task_waited(airflow_process, runs, dag_id):
    found = airflow_process.call("GET", f"/api/v2/assets/events?source_dag_id={dag_id}")["asset_events"]
    (extra,) = (event["extra"] for event in found)
    assert extra["usage"]["total_tokens"] == 11


@pytest.mark.skipif(find_spec("openlineage") is None, reason="needs OpenLineage's provider: `make test-lineage`")
@pytest.mark.parametrize("dag_id", ["waits", "defers", "defers_without_outlets"])
def test_openlineage_is_told_once_that_a_task_is_complete_and_by_the_worker_that_knows(airflow_process, runs, dag_id):
    file = airflow_process.home / "openlineage.jsonl"

    def ends():
        events = map(json.loads, file.read_text("utf-8").splitlines())
        return [one for one in events if one["job"]["name"] == f"{dag_id}.ask" and one["eventType"] == "COMPLETE"]

    until(ends, "no event tells of the end")
    (event,) = ends()
    facet = event["run"]["facets"]["airflowChat_completion"]
    assert (facet["model"], facet["usage"]["total_tokens"]) == (dag_id, 11)
