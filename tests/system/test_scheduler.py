"""The operator on a real worker: started by the scheduler, killed by the supervisor, retried by Airflow."""

import os
import signal
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest

from airflow_chat_provider.airflow_api.compat import FINAL_BY_POLICY, RESCHEDULES
from airflow_chat_provider.testing import ChatServer, replies
from tests.support import branch_dags, faults
from tests.support.airflow_process import STEP, airflow_for, posts, until

pytestmark = pytest.mark.scheduler

KEY = "sk-canary-key-7c1d93"
PROMPT = "canary prompt of a real worker"
ANSWER = "canary answer of a real worker"

# Each DAG's name is the model that its task asks for, so that the server knows whom it answers.
DAGS = f"""
from datetime import timedelta

from airflow.sdk import DAG
from airflow_chat_provider.batch import engine
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator


def ask(name, **arguments):
    with DAG(name, schedule=None):
        ChatCompletionOperator(task_id="ask", model=name, prompt={PROMPT!r}, **arguments)


ask("answered", result_format="text")
ask("unsafe")
ask("marked_failed")
ask("terminated")
ask("timed_out", execution_timeout=timedelta(seconds=3))
ask("refused", retries=3, retry_delay=timedelta(seconds=1))
ask("limited", max_attempts=1, deadline=60, retries=1, retry_delay=timedelta(seconds=600))
ask("limited_twice", max_attempts=1)

engine._RENEWED = 0.05
with DAG("batched", schedule=None):
    ChatCompletionBatchOperator(
        task_id="ask",
        model="batched",
        input=[{{"text": "one"}}, {{"text": "two"}}, {{"text": "three"}}],
        prompt="{{{{ row.text }}}} {{{{ var.value.get('nothing', {PROMPT!r}) }}}}",
        output="OUTPUT/{{{{ run_id }}}}",
        max_concurrency=1,
    )
"""

AIRFLOW = tuple(map(int, version("apache-airflow-core").split(".")[:2]))
# What a branch skips is skipped everywhere. Whether it stays so when it is cleared is Airflow's scheduler's to know.
HOLDS_EXPANDED = AIRFLOW >= (3, 2)
HOLDS_IN_GROUPS = not (3, 2) <= AIRFLOW < (3, 4)

UNSAFE = r'{"error": {"message": "a\u0000b\ud800", "code": "c\u0000\ud800", "n": NaN, "big": 99999999999999999999}}'


@pytest.fixture(scope="module")
def script():
    """Replies by the name of the DAG; where there is none left, a good one."""
    return {
        "unsafe": [replies.text(400, UNSAFE, "application/json")],
        "marked_failed": [faults.hang()],
        "terminated": [faults.hang()],
        "timed_out": [faults.hang()],
        "refused": [replies.error(401, f"{PROMPT}: no such key as {KEY}", "invalid_api_key")],
        "limited_twice": [replies.error(429, "slow down", headers={"Retry-After": "3"})] * 2,
        "limited": [replies.error(429, "slow down", "rate_limit_exceeded", headers={"Retry-After": "2"})],
        "batched": [replies.ok(ANSWER), replies.delay(10, replies.error(400, "no")), replies.ok(ANSWER)],
    }


@pytest.fixture(scope="module")
def model_server(script):
    others = faults.by_model(script, replies.ok(ANSWER))

    def answer(request):
        if request.json["model"] == branch_dags.MODEL:
            return replies.ok(request.json["messages"][-1]["content"])
        return others(request)

    with ChatServer(default=answer) as running:
        yield running


@pytest.fixture(scope="module")
def airflow_process(model_server, tmp_path_factory):
    dags = DAGS.replace("OUTPUT", str(tmp_path_factory.mktemp("output")))
    dags += Path(branch_dags.__file__).read_text("utf-8")
    with airflow_for(model_server, tmp_path_factory.mktemp("airflow"), dags, KEY) as running:
        yield running


@pytest.fixture
def start(airflow_process, model_server):
    """Starts a run of a DAG: the run, and its request as soon as that has arrived."""

    def go(dag_id):
        run = airflow_process.trigger(dag_id)
        until(lambda: posts(model_server, dag_id), f"{dag_id} asks nothing")
        return run, posts(model_server, dag_id)[0]

    return go


def closed(server, request):
    until(lambda: request.connection_id in server.connections_closed, "the socket stays open", STEP)
    return True


def test_a_task_succeeds_and_the_rest_api_has_its_xcoms(start, model_server):
    run, request = start("answered")
    assert run.wait_state() == "success"
    xcoms = run.xcoms()
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert set(xcoms) == {"body", "status", "usage", "configuration", "messages", "return_value"}
    assert xcoms["status"] == 200
    assert xcoms["return_value"] == ANSWER
    assert xcoms["body"]["choices"][0]["message"]["content"] == ANSWER
    assert xcoms["messages"] == [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": ANSWER}]
    assert xcoms["configuration"]["base_url"] == model_server.url


def test_an_error_that_no_log_and_no_database_can_hold_as_it_is_fails_the_task_in_order(start):
    run, _ = start("unsafe")
    assert run.wait_state() == "failed"
    error = {"message": "a\ufffdb\ufffd", "code": "c\ufffd\ufffd", "n": "nan", "big": "99999999999999999999"}
    xcoms = run.xcoms()
    assert xcoms.pop("usage")["requests"] == 0
    assert xcoms == {"status": 400, "body": {"error": error}}
    assert "Correct the request (HTTP 400, c" in run.airflow.logs


def test_marking_a_hanging_task_as_failed_closes_its_socket(start, model_server):
    run, request = start("marked_failed")
    run.fail_task()
    assert closed(model_server, request)
    assert run.wait_state() == "failed"
    assert len(posts(model_server, "marked_failed")) == 1


def test_sigterm_to_a_hanging_task_closes_its_socket(start, model_server):
    run, request = start("terminated")
    os.kill(run.task["pid"], signal.SIGTERM)
    assert closed(model_server, request)
    assert run.wait_state() == "failed"
    assert len(posts(model_server, "terminated")) == 1
    assert run.xcom("usage")["errors"] == {"TransportError": 1}


def test_the_execution_timeout_of_a_hanging_task_closes_its_socket(start, model_server):
    run, request = start("timed_out")
    assert closed(model_server, request)
    assert run.wait_state() == "failed"
    assert len(posts(model_server, "timed_out")) == 1
    usage = run.xcom("usage")
    assert (usage["attempts"], usage["errors"]) == (1, {"AirflowTaskTimeout": 1})
    assert usage["seconds"] > 1


def test_a_final_error_fails_the_first_try_whatever_retries_there_are(start, model_server):
    run, _ = start("refused")
    assert run.wait_state() == "failed"
    assert run.task["try_number"] == 1
    assert len(posts(model_server, "refused")) == 1


@pytest.mark.skipif(not FINAL_BY_POLICY, reason="before Airflow 3.3 a task cannot choose the delay of its retry")
def test_the_scheduler_retries_when_the_server_said_and_not_after_the_retry_delay(start, model_server):
    run, first = start("limited")
    assert run.wait_state() == "success"
    assert run.task["try_number"] == (1 if RESCHEDULES else 2)
    _, second = posts(model_server, "limited")
    assert "the server asked to wait 2 s" in run.airflow.logs
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def test_a_batch_shows_how_far_it_is_while_it_runs(start):
    run, _ = start("batched")
    if AIRFLOW >= (3, 2):  # before, only one thread of a task can talk to Airflow
        until(lambda: (run.xcom("progress") or {}).get("succeeded") == 1, "no progress is shown")
        assert run.xcom("progress")["state"] == "running"
    assert run.wait_state() == "failed"
    manifest = run.xcom("return_value")
    assert (manifest["succeeded"], manifest["failed"]) == (1, {"StatusError 400": 1})
    assert [row["index"] for row in manifest["first_failures"]["StatusError 400"]] == [1]
    assert run.xcom("progress") == {**manifest, "state": "ended"}
    assert run.xcom("usage")["errors"] == manifest["failed"]


@pytest.fixture(scope="module")
def branches(airflow_process):
    """Every run of the DAGs with a branch, ended."""
    names = ("sync", "deferred", "in_group_over_list", "in_group_over_xcom", "mapped", "torn")
    runs = {name: airflow_process.trigger(f"branch_{name}") for name in names}
    assert {name: run.wait_state(2 * STEP) for name, run in runs.items()} == dict.fromkeys(names, "success")
    return runs


class TestBranches:
    """What the model did not pick is skipped by the scheduler, and stays so."""

    @pytest.mark.parametrize("name", ["sync", "deferred"])
    def test_mapped_tasks_and_groups_that_were_not_picked_are_skipped_also_when_they_are_cleared(self, branches, name):
        run = branches[name]
        ran = ("some", "choose", "a", "join")
        over_list = ("over_list", "listed.first", "listed.second")
        skipped = [f"{task}[{index}]" for task in over_list for index in (0, 1)]
        skipped += ["b", "over_xcom", "found.first", "found.second"]
        wanted = dict.fromkeys(ran, "success") | dict.fromkeys(skipped, "skipped")
        assert run.states == wanted
        again = ("b", "over_xcom", "found.first") + (over_list if HOLDS_EXPANDED else ())
        run.clear(*again)
        assert run.wait_state() == "success"
        assert run.states == wanted

    @pytest.mark.parametrize("name", ["in_group_over_list", "in_group_over_xcom"])
    def test_a_branch_in_a_mapped_group_decides_for_its_own_index(self, branches, name):
        run = branches[name]
        picked, others = ("a[0]", "b[1]", "after_b[1]"), ("a[1]", "b[0]", "after_b[0]")
        both = ("choose[0]", "choose[1]", "join[0]", "join[1]")
        wanted = {f"each.{task}": "success" for task in (*picked, *both)} | {
            f"each.{task}": "skipped" for task in others
        }
        assert {task: state for task, state in run.states.items() if task != "prompts"} == wanted
        if HOLDS_IN_GROUPS:
            run.clear("each.b")
            assert run.wait_state() == "success"
            assert wanted.items() <= run.states.items()

    def test_a_mapped_branch_decides_for_the_mapped_task_of_its_index(self, branches):
        states = branches["mapped"].states
        assert (states["each[0]"], states["each[1]"]) == ("skipped", "success")

    def test_a_teardown_runs_whatever_is_picked_and_a_setup_for_what_is_picked(self, branches):
        run = branches["torn"]
        ran, skipped = ("make", "choose", "a", "of_a", "clean"), ("b", "of_b", "clean_b")
        assert run.states == dict.fromkeys(ran, "success") | dict.fromkeys(skipped, "skipped")
        run.clear("clean", "of_b", "of_a")
        assert run.wait_state() == "success"
        assert run.states == dict.fromkeys(ran, "success") | dict.fromkeys(skipped, "skipped")


@pytest.mark.skipif(not RESCHEDULES, reason="before Airflow 3.4 a task that is to run again needs a retry")
def test_a_task_without_retries_waits_for_a_rate_limit_as_long_as_the_server_says(start, model_server):
    run, _ = start("limited_twice")
    assert run.wait_state() == "success"
    assert run.task["try_number"] == 1
    times = [request.received_at for request in posts(model_server, "limited_twice")]
    assert all(later - earlier >= 3 for earlier, later in pairwise(times))
    keys = [request.headers["idempotency-key"] for request in posts(model_server, "limited_twice")]
    assert len(keys) == len(set(keys)) == 3


def test_neither_key_nor_prompt_nor_answer_is_in_a_log_or_printed(airflow_process):
    logs = airflow_process.logs
    assert "Chat completion: model answered" in logs
    for secret in (KEY, PROMPT, ANSWER):
        assert secret not in logs
        assert secret not in airflow_process.output
