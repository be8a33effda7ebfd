"""What a whole Airflow with Celery's workers makes of our operators: two workers, one of which is killed.

The server counts what arrives. Each DAG's name is the model that its tasks ask for, so that it knows whom it answers.
"""

import threading

import pytest

from tests import replies
from tests.airflow_process import STEP, airflow_for, posts, until
from tests.server import ChatServer
from tests.workers import CONCURRENCY

pytestmark = pytest.mark.e2e

WORKERS = ("worker-1", "worker-2")
SLOTS = CONCURRENCY * len(WORKERS)

DAGS = f"""
from datetime import timedelta

from airflow.sdk import DAG
from airflow_chat_provider.operators import ChatCompletionOperator

for name in ("shared", "moved"):
    with DAG(name, schedule=None):
        ChatCompletionOperator.partial(
            task_id="ask", model=name, result_format="text", retries=1, retry_delay=timedelta(seconds=0)
        ).expand(prompt=[f"prompt {{number}}" for number in range({SLOTS})])
"""


@pytest.fixture(scope="module")
def gate():
    """While it is closed, the server takes requests and answers none."""
    return threading.Event()


@pytest.fixture(scope="module")
def model_server(gate):
    def answer(request):
        gate.wait(2 * STEP)
        return replies.ok("answer")

    with ChatServer(default=answer) as running:
        yield running
        gate.set()


@pytest.fixture(scope="module")
def celery(model_server, tmp_path_factory):
    """A whole Airflow with two workers."""
    home = tmp_path_factory.mktemp("celery")
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
