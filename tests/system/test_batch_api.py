"""A batch waits for a vendor's batch API in a real triggerer, which is killed meanwhile; or its task is ended."""

import json
from pathlib import Path

import pytest

from airflow_chat_provider.airflow_api.compat import FINAL_BY_POLICY
from airflow_chat_provider.testing import BatchServer
from tests.support.airflow_process import airflow_for, until

pytestmark = pytest.mark.scheduler

KEY = "sk-canary-key-2b41aa"
LONG = 10**9  # looks at a batch that see it under way

DAGS = """
from datetime import timedelta

from airflow.sdk import DAG
from airflow_chat_provider.operators import ChatCompletionBatchOperator

for name in ("killed", "marked"):
    with DAG(name, schedule=None):
        ChatCompletionBatchOperator(
            task_id="ask",
            model=name,
            input=[{"text": "one"}, {"text": "two"}],
            prompt="{{ row.text }}",
            result_format="text",
            output="OUTPUT/{{ run_id }}",
            via="batch_api",
            retries=1,
            retry_delay=timedelta(seconds=0),
        )
"""


@pytest.fixture(scope="module")
def vendor():
    with BatchServer(polls=LONG) as running:
        yield running


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="module")
def airflow(vendor, output, tmp_path_factory):
    dags = DAGS.replace("OUTPUT", str(output))
    with airflow_for(vendor, tmp_path_factory.mktemp("airflow"), dags, KEY) as running:
        yield running


def waiting(airflow, vendor, dag_id):
    """A run whose task waits in the triggerer, and its batch at the vendor."""
    before = len(vendor.batches)
    run = airflow.trigger(dag_id)
    until(lambda: len(vendor.batches) > before and vendor.batches[-1].polls > 1, f"{dag_id} starts nothing")
    until(lambda: run.task["state"] == "deferred", f"{dag_id} does not wait in the triggerer")
    return run, vendor.batches[-1]


def results(output: Path, run):
    lines = (output / run.run_id / "results.jsonl").read_text("utf-8").splitlines()
    return sorted(json.loads(line)["index"] for line in lines)


def test_a_batch_is_not_submitted_twice_if_the_triggerer_is_killed_while_it_waits(airflow, vendor, output):
    run, batch = waiting(airflow, vendor, "killed")
    airflow.kill("triggerer")
    seen = batch.polls
    airflow.start("triggerer")
    until(lambda: batch.polls > seen, "nobody looks at the batch again")
    batch.patience = batch.polls
    assert run.wait_state() == "success"
    assert (len(vendor.batches), batch.status) == (1, "completed")
    assert results(output, run) == [0, 1]
    assert run.xcoms()["return_value"]["succeeded"] == 2
    assert KEY not in airflow.logs_of(run)


@pytest.mark.skipif(not FINAL_BY_POLICY, reason="Airflow tells a trigger of its task's end from 3.3 on")
def test_a_task_that_is_marked_while_it_waits_has_its_batch_cancelled(airflow, vendor):
    run, batch = waiting(airflow, vendor, "marked")
    run.fail_task()
    until(lambda: batch.status in ("cancelling", "cancelled"), "the batch is not cancelled")
