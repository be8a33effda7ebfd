"""A batch at a vendor whose process ends at any step: no row is submitted twice, nothing is paid for twice."""

import json

import pytest

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.batch.output.local import LocalStore
from airflow_chat_provider.batch.vendor import cutting
from airflow_chat_provider.batch.vendor.answers import Answers
from airflow_chat_provider.errors import ChatCompletionError
from airflow_chat_provider.testing import CallFault, replies
from tests.support.vendor import spent

STEPS = 17
"""Small files that a batch of two orders writes, and a few more."""


class Killed(BaseException):
    """Ends a process."""


@pytest.fixture
def orders(bulk, monkeypatch):
    """Two orders of three rows. One row of them is always refused."""
    monkeypatch.setattr(cutting, "MOST_REQUESTS", 3)
    bulk.vendor.answer = answer
    bulk.arguments |= {"max_failures": None}
    bulk.texts(6)
    return bulk


def answer(body):
    text = body["messages"][-1]["content"]
    return replies.error(400, "no") if text == "row 4" else replies.ok(text)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_no_row_is_submitted_twice_wherever_the_process_ends(orders, monkeypatch, step, after):
    put, steps = LocalStore.put, 0

    def kill(store, name, content):
        nonlocal steps
        steps += 1
        if steps == step and not after:
            raise Killed
        put(store, name, content)
        if steps == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put", kill)
        try:
            manifest = orders.run(cancel_on_kill=False)
        except (Killed, ChatCompletionError):
            manifest = None
    if manifest is None:
        manifest = orders.run()
    assert manifest["succeeded"] == 5
    assert spent(manifest) == orders.vendor.tokens
    answered = [name for name in orders.sent if name != "row-4"]
    assert len(answered) == len(set(answered)) == 5


@pytest.mark.parametrize("written", range(6))
def test_answers_are_counted_once_if_the_process_ends_while_they_are_written(orders, monkeypatch, written):
    take, rows = Answers._take, 0

    def kill(self, *args, **kwargs):
        nonlocal rows
        rows += 1
        if rows > written:
            raise Killed
        return take(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("airflow_chat_provider.batch.vendor.answers._AT_ONCE", 1)
        patch.setattr(Answers, "_take", kill)
        with pytest.raises(Killed):
            orders.run(cancel_on_kill=False)
    manifest = orders.run()
    assert manifest["succeeded"] == 5
    assert spent(manifest) == orders.vendor.tokens
    answered = [name for name in orders.sent if name != "row-4"]
    assert len(answered) == len(set(answered)) == 5


@pytest.mark.parametrize("written", [1, 3, 4])
def test_answers_that_do_not_fit_are_counted_once_if_the_process_ends_while_they_are_written(
    orders, monkeypatch, written
):
    take, rows = Answers._take, 0

    async def kill(self, *args, **kwargs):
        nonlocal rows
        rows += 1
        if rows > written:
            raise Killed
        return await take(self, *args, **kwargs)

    given = {"response_schema": {"type": "object"}, "result_format": "json"}
    with monkeypatch.context() as patch:
        patch.setattr("airflow_chat_provider.batch.vendor.answers._AT_ONCE", 1)
        patch.setattr(Answers, "_take", kill)
        with pytest.raises(Killed):
            orders.run(cancel_on_kill=False, **given)
    manifest = orders.run(**given)
    assert manifest["succeeded"] == 0
    assert spent(manifest) == orders.vendor.tokens > 0
    assert len(orders.errors) == 6


def test_a_run_by_calls_sends_no_row_that_is_under_way(orders):
    task = orders.task()
    with pytest.raises(exceptions.TaskDeferred):
        task.execute({"ti": orders})
    error = orders.error(via="calls")
    assert error.message.startswith("Run it with via='batch_api' first")
    assert error.final
    assert "6 rows" in error.message
    assert orders.run()["succeeded"] == 5
    assert len(orders.vendor.batches) == 2


def test_a_run_by_calls_takes_over_what_was_uploaded_but_not_started(orders):
    orders.vendor.script(CallFault("POST", "/batches", replies.error(400, "no"), None))
    orders.error()
    assert orders.run(via="calls")["succeeded"] == 5
    assert orders.vendor.batches == []
    orders.vendor._faults.clear()
    orders.run()
    assert [batch.total for batch in orders.vendor.batches] == [1], "the refused row"


def test_a_restart_for_another_input_cancels_what_is_under_way(orders):
    with pytest.raises(exceptions.TaskDeferred):
        orders.task().execute({"ti": orders})
    orders.texts(2)
    assert orders.error().keyword == "fingerprint"
    assert orders.run(on_changed="restart")["succeeded"] == 2
    assert [batch.status for batch in orders.vendor.batches] == ["cancelling", "cancelling", "completed"]


def test_a_task_that_goes_on_without_its_folder_says_where_it_must_run(orders):
    with pytest.raises(exceptions.TaskDeferred) as deferred:
        orders.task().execute({"ti": orders})
    event = orders.event_of(deferred.value)
    for file in orders.output.iterdir():
        file.unlink()
    with pytest.raises((ChatCompletionError, exceptions.AirflowFailException), match="Let the task go on where"):
        orders.task().execute_complete({"ti": orders}, event)


def test_a_folder_with_orders_that_nobody_wrote_is_refused(orders):
    with pytest.raises(exceptions.TaskDeferred):
        orders.task().execute({"ti": orders})
    (orders.output / "batch.json").write_text(json.dumps({**orders.identity, "jobs": [{"number": 1}]}), "utf-8")
    assert "has something in 'jobs' that no batch wrote" in orders.error().message


@pytest.mark.parametrize("rows", [[[0, 1]], [[2, 0]], [[0, 10**12]], []], ids=repr)
def test_an_order_with_other_rows_than_were_sent_is_refused(orders, rows):
    with pytest.raises(exceptions.TaskDeferred):
        orders.task().execute({"ti": orders})
    jobs = [{**orders.jobs[0], "rows": rows}, *orders.jobs[1:]]
    (orders.output / "batch.json").write_text(json.dumps({**orders.identity, "jobs": jobs}), "utf-8")
    assert "has something in 'jobs' that no batch wrote" in orders.error().message
    assert len(orders.vendor.batches) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"failed": {"StatusError 400": "x"}},
        {"earlier": "x"},
        {"began": "x"},
        {"expires": "x"},
        {"error": {"message": [1]}},
        {"error": {}},
        {"reasons": [1]},
    ],
    ids=repr,
)
def test_what_a_try_keeps_is_passed_over_where_somebody_has_changed_it(orders, changed):
    with pytest.raises(exceptions.TaskDeferred) as deferred:
        orders.task().execute({"ti": orders})
    event = orders.event_of(deferred.value)
    plan = {**orders.identity["plan"], **changed}
    (orders.output / "batch.json").write_text(json.dumps({**orders.identity, "plan": plan}), "utf-8")
    manifest = orders.task().execute_complete({"ti": orders}, event)
    assert (manifest["succeeded"], manifest["missing"]) == (5, 0)
