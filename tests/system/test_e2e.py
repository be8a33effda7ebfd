"""No call is paid twice, whoever is killed: real scheduler, triggerer, API server and workers, real SIGKILL.

The server counts what arrives. Each DAG's name is the model that its tasks ask for, so that it knows whom it answers.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from airflow import sdk

from airflow_chat_provider.airflow_api.compat import FINAL_BY_POLICY, RESCHEDULES
from airflow_chat_provider.testing import ChatServer, replies
from tests.support import faults
from tests.support.airflow_process import STEP, airflow_for, posts, until

pytestmark = pytest.mark.e2e

remembers = pytest.mark.skipif(not FINAL_BY_POLICY, reason="Airflow has a task state store from 3.3 on")
loops = pytest.mark.skipif(not hasattr(sdk, "LoopDecision"), reason="Airflow has loops from 3.4 on")
KEY = "sk-canary-key-e2e-81b2"
PROMPT = "canary prompt of a deferred call"
ANSWER = "canary answer of a deferred call"
MANY = 6
HUNDREDS = 200
LOOP = 4 * STEP
"""Seconds for a loop: its tasks run one after another."""

DAGS = f"""
import os
import signal
import subprocess
import sys
from datetime import timedelta

from airflow import sdk
from airflow.sdk import DAG, Asset, task_group
from airflow_chat_provider.operators import ChatCompletionOperator


def ask(name, count=1, **arguments):
    with DAG(name, schedule=None):
        task = ChatCompletionOperator.partial(task_id="ask", model=name, result_format="text", **arguments)
        if count == 1:
            ChatCompletionOperator(task_id="ask", model=name, result_format="text", prompt={PROMPT!r}, **arguments)
        else:
            task.expand(prompt=[{PROMPT!r} + str(n) for n in range(count)])


def ask_in_a_loop(name, **arguments):
    def body():
        ChatCompletionOperator(task_id="ask", model=name, prompt="Hi", deferrable=True, **arguments)

    with DAG(name, schedule=None):
        task_group(body).loop(max_iterations=3)


def ask_many_in_a_loop(name):
    def body():
        @sdk.task
        def prompts(*, loop):
            return [f"{{loop.index}}-{{n}}" for n in range({MANY})]

        ChatCompletionOperator.partial(task_id="ask", model=name, deferrable=True, result_format="text").expand(
            prompt=prompts()
        )

    with DAG(name, schedule=None):

        @sdk.task
        def check(ti=None):
            expected = [f"{{index}}-{{n}}" for index in range(2) for n in range({MANY})]
            assert sorted(ti.xcom_pull(task_ids="body.ask")) == expected

        task_group(body).loop(max_iterations=2) >> check()


def die_in_the_first_try(context, result=None):
    if context["ti"].try_number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_the_answer(context):
    if context["ti"].try_number == 1 and context["ti"]._ti_context_from_server.next_method:
        os.kill(os.getpid(), signal.SIGKILL)


again = dict(retries=1, retry_delay=timedelta(seconds=0))
ask("careful", count={MANY}, deferrable=True, **again)
ask("resending", count={MANY}, deferrable=True, on_uncertain="resend")
ask("journalled", deferrable=True, **again)
ask("waiting", deferrable=True)
ask("marked_failed", deferrable=True)
ask("timed_out", deferrable=True, execution_timeout=timedelta(seconds=5))
ask("limited", deferrable=True, max_attempts=1, retries=1, retry_delay=timedelta(seconds=600))
ask("killed_after", post_execute=die_in_the_first_try, **again)
ask("killed_after_deferral", deferrable=True, post_execute=die_in_the_first_try, **again)
ask("killed_in_flight", **again)
resumed = dict(deferrable=True, outlets=[Asset("answers")], pre_execute=die_with_the_answer, **again)
ask("killed_resuming", **resumed)
ask("killed_resuming_resend", on_uncertain="resend", **resumed)
ask("frozen", deferrable=True)
ask("streamed", deferrable=True, request={{"stream": True}})
ask("hundreds", count={HUNDREDS}, deferrable=True)
if hasattr(sdk, "LoopDecision"):
    ask_in_a_loop("looped")
    ask_in_a_loop("looped_resuming", outlets=[Asset("answers")])
    ask_many_in_a_loop("looped_many")
"""


@pytest.fixture(scope="module")
def gate():
    """While it is closed, the server takes requests and answers none."""
    opened = threading.Event()
    opened.set()
    return opened


@pytest.fixture(scope="module")
def model_server(gate):
    script = {
        "waiting": [replies.error(429, "slow down", headers={"Retry-After": "12"})],
        "limited": [replies.error(429, "slow down", headers={"Retry-After": "2"})],
        "marked_failed": [faults.hang()],
        "timed_out": [faults.hang()],
        "killed_in_flight": [faults.hang()],
        "frozen": [replies.error(429, "slow", headers={"Retry-After": "5"}), replies.delay(4, replies.ok(ANSWER))],
    }

    scripted = faults.by_model(script, replies.ok(ANSWER))

    def answer(request):
        if request.json["model"] == "looped_many":
            return replies.ok(request.json["messages"][0]["content"])
        gated = request.json["model"] in ("careful", "resending")
        return faults.hang() if gated and not gate.is_set() else scripted(request)

    with ChatServer(default=answer) as running:
        yield running


@pytest.fixture(scope="module")
def airflow(model_server, tmp_path_factory):
    with airflow_for(model_server, tmp_path_factory.mktemp("airflow"), DAGS, KEY) as running:
        yield running


def keys(server, dag_id):
    """The Idempotency-Key of each request of a DAG, in the order of their arrival."""
    return [request.headers["idempotency-key"] for request in posts(server, dag_id)]


def asked(server, dag_id, count=1):
    until(lambda: len(keys(server, dag_id)) >= count, f"{dag_id} asks too little")
    return keys(server, dag_id)


def states(run):
    return [task["state"] for task in run.tasks]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "restarted"])
def test_a_triggerer_that_ends_with_requests_in_flight_pays_for_none_twice(airflow, model_server, gate, how):
    gate.clear()
    before = {name: len(keys(model_server, name)) for name in ("careful", "resending")}
    careful, resending = airflow.trigger("careful"), airflow.trigger("resending")
    for name, count in before.items():
        asked(model_server, name, count + MANY)
    airflow.kill("triggerer", how)
    gate.set()
    airflow.start("triggerer")
    assert resending.wait_state() == "success"
    assert careful.wait_state() == "failed"
    once, twice = (keys(model_server, name)[count:] for name, count in before.items())
    assert len(once) == len(set(once)) == MANY
    assert len(twice) == 2 * MANY
    assert sorted(twice[:MANY]) == sorted(twice[MANY:]), "the second send of each call is known for what it is"
    assert states(careful) == ["failed"] * MANY
    assert [task["try_number"] for task in careful.tasks] == [1] * MANY, "no retry of Airflow's sends it either"
    logs = airflow.logs_of(careful)
    for key in once:
        assert f"The request may have been paid for (Idempotency-Key {key}). To send it again, clear the task" in logs


def test_a_triggerer_that_is_killed_between_journal_and_event_sends_nothing_again(airflow, model_server):
    assert any(killed_once_the_reply_is_journalled(airflow, model_server) for _ in range(10))


def killed_once_the_reply_is_journalled(airflow, model_server):
    """Whether the triggerer was killed in time, that is before it told of its event."""
    before = len(keys(model_server, "journalled"))
    run = airflow.trigger("journalled")
    until(lambda: journal_state(run) == "done" or run.task["state"] == "success", "no reply in the journal")
    airflow.kill("triggerer")
    in_time = run.task["state"] == "deferred"
    airflow.start("triggerer")
    assert run.wait_state() == "success"
    assert len(keys(model_server, "journalled")) == before + 1
    assert run.xcoms()["return_value"] == ANSWER
    return in_time


def journal_state(run):
    return (run.xcom("chat_journal_1") or {}).get("state")


def test_a_wait_between_attempts_survives_the_triggerer(airflow, model_server):
    run = airflow.trigger("waiting")
    until(lambda: journal_state(run) == "waiting", "does not wait")
    airflow.kill("triggerer")
    airflow.start("triggerer")
    assert run.wait_state() == "success"
    first, second = keys(model_server, "waiting")
    assert first == second
    times = [request.received_at for request in posts(model_server, "waiting")]
    assert times[1] - times[0] >= 12, "as long as the server asked for"


def test_a_triggerer_that_was_frozen_and_comes_back_asks_nothing_that_another_has_asked(airflow, model_server):
    run = airflow.trigger("frozen")
    until(lambda: journal_state(run) == "waiting", "does not wait")
    airflow.freeze("triggerer")
    airflow.start_second_triggerer()
    try:
        asked(model_server, "frozen", 2)
        airflow.thaw("triggerer")
        assert run.wait_state() == "success"
        time.sleep(5)
        assert len(keys(model_server, "frozen")) == 2, "what was refused, and one paid answer"
    finally:
        airflow.thaw("triggerer")
        airflow.kill("triggerer-2")


@remembers
def test_a_task_that_is_killed_when_it_takes_up_its_answer_is_not_asked_again(airflow, model_server):
    run = airflow.trigger("killed_resuming")
    assert run.wait_state() == "failed"
    (key,) = keys(model_server, "killed_resuming")
    assert run.task["try_number"] == 2
    log = airflow.logs_of(run)
    assert "an earlier try handed the call to a trigger" in log
    assert f"may have been paid for (Idempotency-Key {key})" in log


@remembers
def test_with_resend_it_is_asked_again_by_the_same_key(airflow, model_server):
    run = airflow.trigger("killed_resuming_resend")
    assert run.wait_state() == "success"
    first, second = keys(model_server, "killed_resuming_resend")
    assert first == second
    assert "The task sends the request again and may pay for it twice" in airflow.logs_of(run)


def test_hundreds_of_deferred_tasks_all_end_well_and_each_is_asked_for_once(airflow, model_server):
    run = airflow.trigger("hundreds")
    assert run.wait_state(300) == "success"
    assert states(run) == ["success"] * HUNDREDS
    assert len(keys(model_server, "hundreds")) == len(set(keys(model_server, "hundreds"))) == HUNDREDS


def test_what_is_rendered_is_what_was_sent_although_no_worker_comes_back(airflow, model_server):
    run = airflow.trigger("streamed")
    assert run.wait_state() == "success"
    (sent,) = posts(model_server, "streamed")
    assert sent.json["stream_options"] == {"include_usage": True}
    assert run.task["rendered_fields"]["request"] == sent.json


@loops
@pytest.mark.parametrize("name", ["looped", "looped_resuming"])
def test_each_iteration_of_a_loop_has_a_journal_and_a_key_of_its_own(airflow, model_server, name):
    assert airflow.trigger(name).wait_state(LOOP) == "success"
    assert len(keys(model_server, name)) == len(set(keys(model_server, name))) == 3


@loops
def test_calls_that_wait_at_once_in_one_iteration_have_a_journal_each_and_the_next_iteration_has_others(
    airflow, model_server
):
    assert airflow.trigger("looped_many").wait_state(LOOP) == "success"
    assert len(keys(model_server, "looped_many")) == len(set(keys(model_server, "looped_many"))) == 2 * MANY


def test_marking_a_deferred_task_as_failed_closes_its_socket(airflow, model_server):
    run = airflow.trigger("marked_failed")
    asked(model_server, "marked_failed")
    closed_before = len(model_server.connections_closed)
    run.fail_task()
    assert model_server.wait_closed(STEP, closed_before + 1)
    assert run.wait_state() == "failed"
    assert len(keys(model_server, "marked_failed")) == 1
    if FINAL_BY_POLICY:  # before Airflow 3.3 a trigger is not told why it is cancelled
        until(lambda: "the server may bill it" in airflow.logs_of(run), "no word of what it may cost")


def test_the_execution_timeout_of_a_deferred_task_closes_its_socket(airflow, model_server):
    run = airflow.trigger("timed_out")
    asked(model_server, "timed_out")
    closed_before = len(model_server.connections_closed)
    assert model_server.wait_closed(STEP, closed_before + 1)
    assert run.wait_state() == "failed"
    assert "Raise execution_timeout: it ran out while the request was under way" in airflow.logs_of(run)
    xcoms = run.xcoms()
    assert set(xcoms) == {"usage"}
    assert (xcoms["usage"]["attempts"], xcoms["usage"]["errors"]) == (1, {"AirflowTaskTimeout": 1})


@remembers
def test_a_deferred_rate_limit_leaves_the_wait_to_the_scheduler(airflow, model_server):
    run = airflow.trigger("limited")
    assert run.wait_state() == "success"
    assert run.task["try_number"] == (1 if RESCHEDULES else 2)
    first, second = keys(model_server, "limited")
    assert first != second, "what was refused was not paid for: another call"


@remembers
@pytest.mark.parametrize("name", ["killed_after", "killed_after_deferral"])
def test_a_task_that_is_killed_once_it_has_the_reply_uses_it_in_its_next_try(airflow, model_server, name):
    run = airflow.trigger(name)
    assert run.wait_state() == "success"
    assert run.task["try_number"] == 2
    assert len(keys(model_server, name)) == 1
    xcoms = run.xcoms()
    assert set(xcoms) == {"body", "status", "usage", "configuration", "messages", "return_value"}
    assert xcoms["return_value"] == ANSWER
    run.clear()
    until(lambda: run.task["try_number"] == 3 and run.task["state"] == "success", "the clear asks nothing")
    before, after = keys(model_server, name)
    assert before != after, "a clear is another call"


@remembers
def test_a_task_that_is_killed_in_flight_asks_again_by_the_same_key(airflow, model_server):
    run = airflow.trigger("killed_in_flight")
    asked(model_server, "killed_in_flight")
    os.kill(run.task["pid"], signal.SIGKILL)
    assert run.wait_state() == "success"
    first, second = keys(model_server, "killed_in_flight")
    assert first == second


def test_neither_key_nor_prompt_nor_answer_is_in_a_log_a_trigger_or_an_event(airflow):
    logs = airflow.logs
    assert "Chat completion: model resending" in logs
    assert "Trigger fired event" in logs
    for secret in (KEY, PROMPT, ANSWER):
        assert secret not in logs
        assert secret not in airflow.output


def test_what_is_left_of_a_deferred_call_is_what_is_left_of_any_other(airflow):
    run = airflow.trigger("journalled")
    assert run.wait_state() == "success"
    assert set(run.xcoms()) == {"body", "status", "usage", "configuration", "messages", "return_value"}


@pytest.mark.skipif(not FINAL_BY_POLICY, reason="it prepares a database as Airflow 3.3 has it")
def test_a_triggerer_that_comes_back_to_hundreds_of_large_requests_does_not_hang(project, tmp_path):
    """Its two processes would wait for each other, for ever, if each request came from XCom in one piece."""
    with ChatServer() as server:
        environment = os.environ | {
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
            "AIRFLOW_CONN_CHAT_DEFAULT": json.dumps({"conn_type": "chat", "host": server.url}),
            "PYTHONWARNINGS": "ignore",
        }
        command = [sys.executable, str(project / "tests" / "support" / "triggerer.py"), "ours", "300", "100000", "sent"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert server.requests == []
