"""Whoever watches a batch sees how far it is and which rows failed first, and the batch never waits for that."""

import logging
import threading
import time

import pytest
from airflow.sdk import task

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.batch import engine
from airflow_chat_provider.batch.output.first_failures import FirstFailures
from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.testing import replies
from tests.support.batching import prompt_of
from tests.support.running import Airflow


@pytest.fixture
def often(monkeypatch):
    """Progress is renewed all the time."""
    monkeypatch.setattr(engine, "_RENEWED", 0.01)


def refusing(*numbers, status=400):
    """Refuses the rows of these numbers."""

    def answer(request):
        number = int(prompt_of(request).split()[1])
        return replies.error(status, f"no {number}") if number in numbers else replies.ok()

    return answer


def numbers(manifest):
    return {kind: [row["index"] for row in rows] for kind, rows in manifest["first_failures"].items()}


class TestFirstFailures:
    def test_three_rows_of_each_kind_are_named(self, batch):
        batch.write(*({"text": f"row {index}", "custom_id": f"id-{index}"} for index in range(8)))
        batch.chat.default = refusing(*range(1, 8))
        manifest = batch.run(max_failures=None, max_concurrency=1)
        assert manifest["failed"] == manifest["usage"]["errors"] == {"StatusError 400": 7}
        rows = manifest["first_failures"]["StatusError 400"]
        assert [row["index"] for row in rows] == [1, 2, 3]
        assert rows[0] == {"index": 1, "id": "id-1", "message": batch.errors[0]["error"]["message"]}

    def test_a_row_without_an_id_of_its_own_has_none(self, batch):
        batch.texts(1)
        batch.chat.default = refusing(0)
        (row,) = batch.run(max_failures=None)["first_failures"]["StatusError 400"]
        assert set(row) == {"index", "message"}

    def test_a_line_of_the_batch_file_format_has_its_custom_id(self, batch):
        body = {"model": "m", "messages": [{"role": "user", "content": "row 0"}]}
        batch.write({"custom_id": "mine", "method": "POST", "url": "/v1/chat/completions", "body": body})
        batch.chat.default = refusing(0)
        for _ in range(2):  # the second one reads the first one's line
            manifest = batch.run(prompt=None, result_format="raw", max_failures=None)
            assert manifest["first_failures"]["StatusError 400"][0]["id"] == "mine"

    def test_a_row_that_is_answered_by_another_try_is_named_no_more(self, batch):
        batch.texts(6)
        batch.chat.default = refusing(1, 2, 3)
        assert numbers(batch.run(max_failures=None, max_concurrency=1)) == {"StatusError 400": [1, 2, 3]}
        batch.chat.default = refusing(3, status=404)
        assert numbers(batch.run(max_failures=None, max_concurrency=1)) == {"StatusError 404": [3]}
        batch.chat.default = replies.ok()
        assert numbers(batch.run()) == {}

    def test_a_row_that_failed_in_an_earlier_try_and_was_not_asked_for_again_is_still_named(self, batch):
        batch.texts(3)
        batch.chat.default = refusing(2)
        batch.run(max_failures=None)
        batch.chat.default = replies.error(401, "who are you?")
        batch.error(max_failures=None)
        assert numbers(batch.pushed["return_value"]) == {"StatusError 400": [2]}

    def test_a_damaged_or_changed_line_names_nothing(self, batch):
        batch.texts(1)
        batch.chat.default = refusing(0)
        batch.run(max_failures=None)
        line = (batch.output / "errors.jsonl").read_text()
        for changed in ('"class":5', '"class":"not a name"', '"class":"' + "x" * 100_000 + '"'):
            (batch.output / "errors.jsonl").write_text(line.replace('"class":"StatusError"', changed))
            batch.chat.default = replies.error(401, "who are you?")
            batch.error(max_failures=None)
            assert len(str(batch.pushed["return_value"]["first_failures"])) < 1000

    def test_messages_and_kinds_are_bounded_and_safe(self):
        first = FirstFailures()
        for index in range(1000):
            first.note(f"Kind {index % 100}", index, "\ud800" * 1000, "\x00" * 1000)
        found = first.to_dict()
        assert (len(found), {len(rows) for rows in found.values()}) == (20, {3})
        row = found["Kind 0"][0]
        assert (len(row["id"]), row["message"]) == (500, "\ufffd" * 500)
        for index in range(1000):
            first.forget(index)
        assert first.to_dict() == {}


class TestProgress:
    def test_it_is_renewed_while_the_batch_runs_and_once_at_its_end(self, batch, often):
        batch.texts(5)
        seen = threading.Event()

        def push(key, value):
            batch.pushes.append((key, value))
            if key == "progress" and value["succeeded"] == 3:
                seen.set()

        def answer(request):
            if prompt_of(request) in ("row 0", "row 1", "row 2"):
                return replies.ok()
            return replies.ok() if seen.wait(10) else replies.error(500, "nobody has seen the progress")

        batch.xcom_push, batch.chat.default = push, answer
        manifest = batch.run()
        assert (seen.is_set(), manifest["succeeded"]) == (True, 5)
        shown = [value for key, value in batch.pushes if key == "progress"]
        assert {one["state"] for one in shown[:-1]} == {"running"}
        assert shown[-1] == {**manifest, "state": "ended"}
        assert set(shown[0]) == set(shown[-1])
        assert shown[0]["total"] == 5

    def test_a_batch_that_ends_soon_shows_its_end_alone(self, batch):
        batch.texts(1)
        batch.run()
        assert [(key, value.get("state")) for key, value in batch.pushes] == [("usage", None), ("progress", "ended")]

    def test_an_airflow_that_does_not_answer_holds_up_no_row_and_the_end_comes_last(self, batch, often):
        batch.texts(20)
        answered, hangs = threading.Event(), threading.Event()

        def push(key, value):
            if key == "progress" and value["state"] == "running":
                hangs.set()
                answered.wait(10)
                time.sleep(0.5)  # the batch ends meanwhile
            batch.pushes.append((key, value))

        def answer(request):
            if prompt_of(request) == "row 19":
                answered.set()
            else:
                hangs.wait(10)
            return replies.ok()

        batch.xcom_push, batch.chat.default = push, answer
        assert batch.run(max_concurrency=2)["succeeded"] == 20
        assert hangs.is_set()
        assert [value["state"] for key, value in batch.pushes if key == "progress"] == ["running", "ended"]

    def test_what_goes_wrong_with_it_is_told_once_and_fails_nothing(self, batch, often, caplog):
        batch.texts(3)

        def push(key, value):
            if key == "progress":
                raise RuntimeError("secret")

        batch.xcom_push = push
        batch.chat.default = replies.delay(0.2, replies.ok())
        with caplog.at_level(logging.DEBUG, "airflow_chat_provider"):
            assert batch.run(max_concurrency=1)["succeeded"] == 3
        told = [record for record in caplog.records if "progress" in record.getMessage()]
        assert [record.levelname for record in told] == ["DEBUG"]
        assert "secret" not in caplog.text

    def test_where_threads_cannot_reach_airflow_only_the_end_is_shown(self, batch, often, monkeypatch):
        monkeypatch.setattr("airflow_chat_provider.batch.xcoms.threads_reach_airflow", lambda: False)
        batch.texts(3)
        batch.chat.default = replies.delay(0.1, replies.ok())
        batch.run(max_concurrency=1)
        assert [value["state"] for key, value in batch.pushes if key == "progress"] == ["ended"]

    def test_do_xcom_push_false_leaves_it_out(self, batch, often):
        batch.texts(3)
        batch.run(do_xcom_push=False)
        assert batch.pushes == []

    def test_a_batch_inside_another_task_leaves_it_out(self, run_dag, chat, tmp_path):
        airflow = Airflow(run_dag)
        with airflow.dag():

            @task
            def outer():
                inner = ChatCompletionBatchOperator(
                    task_id="inner", input=[{"text": "row 0"}], prompt="{{ row.text }}", output=str(tmp_path / "out")
                )
                return inner.execute({})["succeeded"]

            outer()
        run = airflow.run()
        assert run.xcoms("outer") == {"return_value": 1}

    def test_a_batch_that_is_stopped_leaves_what_it_has(self, batch):
        batch.texts(3)
        task = batch.task(max_concurrency=1)

        def answer(request):
            if prompt_of(request) == "row 1":
                task.on_kill()
            return replies.ok()

        batch.chat.default = answer
        with pytest.raises(exceptions.AirflowException, match="was stopped"):
            batch.execute(task)
        assert batch.pushed["progress"] == {**batch.pushed["return_value"], "state": "ended"}
        assert batch.pushed["usage"]["requests"] == batch.pushed["return_value"]["succeeded"] >= 1

    def test_a_failure_to_store_the_manifest_does_not_hide_why_the_batch_failed(self, batch):
        batch.texts(1)
        batch.chat.default = refusing(0)

        def push(key, value):
            raise RuntimeError("no room")

        batch.xcom_push = push
        assert "no 0" in batch.error(max_failures=0).message
