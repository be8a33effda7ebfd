"""How a batch at a vendor's is ended: by Airflow, by its time limit, and by hand."""

import asyncio
import datetime as dt
import signal

import pytest
from airflow.sdk import DAG

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.testing import CallFault, replies
from airflow_chat_provider.triggers import ChatCompletionBatchTrigger
from tests.airflow.batch.test_killed import alarm
from tests.support.vendor import spent


@pytest.fixture
def slow(bulk):
    """Its vendor would take a thousand looks."""
    bulk.vendor.polls = 1000
    bulk.texts(4)
    return bulk


def deferred(bulk, **arguments):
    with pytest.raises(exceptions.TaskDeferred) as found:
        bulk.task(**arguments).execute({"ti": bulk})
    return found.value


@pytest.mark.parametrize("cancel", [True, False], ids=["cancelled", "left"])
def test_a_task_that_is_ended_while_it_waits_cancels_its_batch_unless_told_not_to(slow, cancel):
    task = slow.task(deferrable=False, cancel_on_kill=cancel)

    def end(*_):
        if [job["state"] for job in slow.jobs] == ["started"]:
            task.on_kill()
        else:  # the first task of a process has much to import
            signal.setitimer(signal.ITIMER_REAL, 0.2)

    with alarm(0.5, end), pytest.raises(exceptions.AirflowException, match="continues from here"):
        slow.execute(task)
    (batch,) = slow.vendor.batches
    assert (batch.status == "cancelling") is cancel
    batch.patience, slow.vendor.polls = batch.polls, 1
    manifest = slow.run()
    assert manifest["succeeded"] == 4
    assert spent(manifest) == slow.vendor.tokens
    assert len(slow.vendor.batches) == 1 + cancel


@pytest.mark.parametrize("cancel", [True, False], ids=["cancelled", "left"])
def test_the_time_limit_ends_a_task_that_waits_in_the_triggerer(slow, cancel):
    limit = dt.timedelta(seconds=2)
    with pytest.raises(exceptions.AirflowTaskTimeout, match="Raise execution_timeout"):
        slow.run(execution_timeout=limit, cancel_on_kill=cancel)
    assert slow.events[-1]["state"] == "timed_out"
    (batch,) = slow.vendor.batches
    assert (batch.status == "cancelling") is cancel


@pytest.mark.parametrize("cancel", [True, False], ids=["cancelled", "left"])
def test_a_task_that_is_cleared_while_it_waits_in_the_triggerer_cancels_its_batch_unless_told_not_to(slow, cancel):
    trigger = deferred(slow, cancel_on_kill=cancel).trigger
    asyncio.run(trigger.on_kill())
    (batch,) = slow.vendor.batches
    assert (batch.status == "cancelling") is cancel


def test_a_triggerer_that_restarts_cancels_nothing(slow):
    found = deferred(slow)
    trigger = found.trigger

    async def restart():
        run = asyncio.create_task(anext(trigger.run()))
        await asyncio.sleep(0.5)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await trigger.cleanup()

    asyncio.run(restart())
    (batch,) = slow.vendor.batches
    assert batch.status != "cancelling"
    batch.patience = batch.polls
    assert slow.event_of(found)["state"] == "ended"


def test_the_trigger_holds_ids_alone(slow):
    path, arguments = deferred(slow).trigger.serialize()
    assert path == "airflow_chat_provider.triggers.ChatCompletionBatchTrigger"
    assert arguments == {
        "conn_id": "chat_default",
        "batches": [slow.vendor.batches[0].id],
        "any_one": False,
        "at_most": None,
        "expires": None,
        "cancel_on_kill": True,
    }


def test_a_trigger_that_cannot_read_its_connection_ends_with_an_event(slow, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_CHAT_DEFAULT")
    trigger = ChatCompletionBatchTrigger(conn_id="chat_gone", batches=["batch_1"])

    async def events():
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(events())
    assert event == {"version": 1, "state": "failed", "error": "InvalidConnection"}


def test_a_task_whose_trigger_failed_says_so_and_the_next_try_goes_on(bulk):
    bulk.texts(2)
    deferred(bulk)
    with pytest.raises(Exception, match="the wait for the batch API failed"):
        bulk.task().execute_complete({"ti": bulk}, {"version": 1, "state": "failed", "error": "KeyError"})
    assert bulk.run()["succeeded"] == 2
    assert len(bulk.vendor.batches) == 1


def test_a_batch_that_cannot_be_cancelled_is_named(slow, log):
    slow.vendor.script(CallFault("POST", "/batches/{id}/cancel", replies.error(400, "no"), None))
    asyncio.run(deferred(slow).trigger.on_kill())
    assert f"Cancel batch {slow.vendor.batches[0].id} at the vendor yourself" in log.text


def test_a_real_task_waits_in_its_trigger(bulk, run_dag):
    bulk.texts(3)
    with DAG("bulk_by_batch_api", schedule=None) as dag:
        ChatCompletionBatchOperator(
            task_id="bulk",
            input=str(bulk.input),
            output=str(bulk.output),
            prompt="{{ row.text }}",
            result_format="text",
            via="batch_api",
        )
    assert run_dag(dag).state == "success"
    assert [line["response"] for line in bulk.results] == ["row 0", "row 1", "row 2"]
    assert len(bulk.vendor.batches) == 1
