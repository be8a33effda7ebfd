"""What a whole Airflow with Celery's workers makes of our operators: two workers, one of which is killed.

The server counts what arrives. Each DAG's name is the model that its tasks ask for, so that it knows whom it answers.
"""

import json
import threading
import time
from collections import Counter

import pytest

from airflow_chat_provider.testing import ChatServer, replies
from tests.support.airflow_process import STEP, airflow_for, posts, until
from tests.support.batching import lines, prompt_of
from tests.support.workers import CONCURRENCY

pytestmark = pytest.mark.e2e

WORKERS = ("worker-1", "worker-2")
SLOTS = CONCURRENCY * len(WORKERS)

ROWS, AT_ONCE = 1200, 4

DAGS = f"""
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator

HOME = Path(__file__).parent.parent

for name in ("shared", "moved"):
    with DAG(name, schedule=None):
        ChatCompletionOperator.partial(
            task_id="ask", model=name, result_format="text", retries=1, retry_delay=timedelta(seconds=0)
        ).expand(prompt=[f"prompt {{number}}" for number in range({SLOTS})])

with DAG("bulk", schedule=None):
    ChatCompletionBatchOperator.partial(
        task_id="ask",
        model="bulk",
        input=str(HOME / "rows.jsonl"),
        output=str(HOME / "out"),
        prompt="{{{{ row.text }}}}",
        result_format="text",
        max_concurrency={AT_ONCE},
        retries=1,
        retry_delay=timedelta(seconds=0),
    ).expand(shard=["{{}}/{SLOTS}".format(number + 1) for number in range({SLOTS})])
"""


@pytest.fixture(scope="module")
def gate():
    """While it is closed, the server takes requests and answers none."""
    return threading.Event()


@pytest.fixture(scope="module")
def model_server(gate):
    def answer(request):
        if request.json["model"] == "bulk":
            time.sleep(0.1)
        else:
            gate.wait(2 * STEP)
        return replies.ok("answer")

    with ChatServer(default=answer) as running:
        yield running
        gate.set()


@pytest.fixture(scope="module")
def celery(model_server, tmp_path_factory):
    """A whole Airflow with two workers."""
    home = tmp_path_factory.mktemp("celery")
    rows = (json.dumps({"text": f"row {number}"}) for number in range(ROWS))
    (home / "rows.jsonl").write_text("\n".join(rows), "utf-8")
    with airflow_for(model_server, home, DAGS, "sk-test-celery", workers=len(WORKERS)) as running:
        yield running


@pytest.fixture
def kill_worker(celery):
    """SIGKILL to a worker and to all that it has started. The next test finds it there again."""
    killed = []

    def kill(worker):
        celery.kill(worker)
        killed.append(worker)

    yield kill
    for worker in killed:
        celery.start(worker)
    celery.wait_ready()


@pytest.fixture
def in_flight(celery, model_server, gate):
    """Starts a run of a DAG: the run, while each of its tasks waits for an answer. The gate opens at the end."""

    def go(dag_id):
        gate.clear()
        asked = len(posts(model_server, dag_id)) + SLOTS
        run = celery.trigger(dag_id)
        until(lambda: len(posts(model_server, dag_id)) >= asked, f"{dag_id} asks too little")
        return run

    yield go
    gate.set()


def test_the_tasks_of_a_run_are_shared_by_the_workers(in_flight, gate):
    run = in_flight("shared")
    assert sorted(run.workers.values()) == sorted(WORKERS * CONCURRENCY)
    gate.set()
    assert run.wait_state() == "success"
    assert run.tries == dict.fromkeys(range(SLOTS), 1)


def test_the_tasks_of_a_worker_that_is_killed_are_retried_on_the_other(kill_worker, in_flight, gate):
    killed, other = WORKERS
    run = in_flight("moved")
    before = run.workers
    kill_worker(killed)
    gate.set()
    assert run.wait_state() == "success"
    assert run.tries == {index: 2 if worker == killed else 1 for index, worker in before.items()}
    assert run.workers == dict.fromkeys(before, other)


def test_every_row_of_a_sharded_batch_is_answered_once_although_a_worker_is_killed_in_the_middle(
    celery, kill_worker, model_server
):
    killed, other = WORKERS
    run = celery.trigger("bulk")
    until(lambda: len(posts(model_server, "bulk")) >= ROWS / 4, "the batch does not begin")
    before = run.workers
    kill_worker(killed)
    recorded = _answers(celery.home)
    seen = len(posts(model_server, "bulk"))
    assert run.wait_state() == "success"
    assert run.tries == {index: 2 if worker == killed else 1 for index, worker in before.items()}
    assert set(run.workers.values()) == {other}
    assert sorted(_answers(celery.home)) == list(range(ROWS))
    asked = [prompt_of(request) for request in posts(model_server, "bulk")]
    again = {int(prompt.split()[1]) for prompt in asked[seen:]}
    assert not again & set(recorded), "asked for again although its result was recorded"
    assert Counter(asked).total() - ROWS <= CONCURRENCY * AT_ONCE


def _answers(home):
    """The rows that have a result, in all shards."""
    return [line["index"] for file in home.glob("out/shard-*/results.jsonl") for line in lines(file)]
