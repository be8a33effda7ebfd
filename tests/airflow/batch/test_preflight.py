"""A dry run of a batch: every row is read, filled in and checked, nothing is sent, and nothing is written."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset, task

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.testing import replies
from tests.support.batching import Batch
from tests.support.running import Airflow

PRICES = {"test-model": {"input": "1", "output": "4"}}
FOUR_TOKENS_AT_MOST = {"request": {"max_completion_tokens": 4}}


@pytest.fixture(autouse=True)
def no_encodings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tokens are guessed, whatever this machine has."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "no encodings"))


@pytest.fixture
def priced(batch: Batch, connect: Any) -> Any:
    """Gives the connection prices, and whatever else is in its extra."""

    def price(**extra: Any) -> None:
        connect(batch.chat.url, extra={"model": "test-model", "prices": PRICES, **extra})

    price()
    return price


def plan_of(batch: Batch, **arguments: Any) -> dict[str, Any]:
    return batch.run(dry_run=True, **arguments)


class TestNothingHappens:
    def test_nothing_is_sent_and_nothing_is_written(self, batch: Batch) -> None:
        batch.texts(3)
        plan = plan_of(batch)
        assert (plan["dry_run"], plan["rows"], plan["to_send"], plan["failed"]) == (True, 3, 3, {})
        assert batch.chat.requests == []
        assert not batch.output.exists()
        assert batch.pushed == {}

    def test_no_key_is_needed(self, batch: Batch, connect: Any) -> None:
        connect(batch.chat.url, password="", extra={"model": "m"})
        batch.texts(1)
        assert plan_of(batch)["to_send"] == 1

    def test_a_folder_with_results_stays_as_it_is(self, batch: Batch) -> None:
        batch.texts(2)
        batch.run()
        before = {file.name: file.read_bytes() for file in batch.output.iterdir()}
        plan_of(batch)
        assert {file.name: file.read_bytes() for file in batch.output.iterdir()} == before

    def test_an_object_store_stays_empty(self, batch: Batch, store: Path) -> None:
        bucket = Path(tempfile.mkdtemp(dir=store))
        batch.texts(2)
        plan = plan_of(batch, output=f"memory://{bucket.name}/out")
        assert plan["to_send"] == 2
        assert list(bucket.iterdir()) == []


class TestRows:
    def test_rows_that_have_an_answer_are_not_sent_again(self, batch: Batch) -> None:
        batch.texts(4)
        batch.chat.script(replies.ok(), replies.ok(), replies.error(400, "no"))
        batch.run(max_concurrency=1, max_failures=None)
        plan = plan_of(batch, max_failures=None)
        assert (plan["rows"], plan["answered"], plan["to_send"]) == (4, 3, 1)

    def test_the_results_of_a_folder_without_errors_are_counted(self, batch: Batch) -> None:
        batch.texts(2)
        batch.run()
        (batch.output / "errors.jsonl").unlink()
        assert plan_of(batch)["answered"] == 2

    def test_a_batch_that_would_begin_anew_has_no_answers(self, batch: Batch) -> None:
        batch.texts(2)
        batch.run()
        batch.texts(3)
        assert plan_of(batch, on_changed="restart")["answered"] == 0
        assert len(batch.results) == 2

    def test_only_the_rows_of_the_shard_are_looked_at(self, batch: Batch) -> None:
        batch.texts(5)
        assert plan_of(batch, shard="2/2")["rows"] == 2

    def test_an_input_without_rows_has_a_plan_without_a_request(self, batch: Batch) -> None:
        batch.write()
        plan = plan_of(batch)
        assert (plan["rows"], plan["to_send"], plan["first_request"]) == (0, 0, None)
        assert plan["cost"] == {"least": 0, "most": 0, "currency": "USD"}

    def test_rows_that_repeat_a_request_are_counted(self, batch: Batch) -> None:
        batch.write(*({"text": text} for text in "abab"), {"text": "a", "more": 1})
        plan = plan_of(batch)
        assert (plan["equal"], plan["to_send"]) == (3, 5)

    def test_with_deduplicate_they_are_not_sent(self, batch: Batch) -> None:
        batch.write(*({"text": text} for text in "abab"))
        plan = plan_of(batch, deduplicate=True)
        assert (plan["equal"], plan["to_send"]) == (2, 2)
        assert plan["input_tokens"] == plan_of(batch)["input_tokens"] / 2

    def test_rows_whose_answer_an_earlier_batch_has_cost_nothing(self, batch: Batch, tmp_path: Path) -> None:
        batch.write({"text": "a"}, {"text": "b"})
        batch.run()
        batch.write({"text": "b"}, {"text": "c"})
        plan = plan_of(batch, reuse=str(batch.output), output=str(tmp_path / "next"))
        assert (plan["rows"], plan["reused"], plan["to_send"]) == (2, 1, 1)
        assert not (tmp_path / "next").exists()

    def test_with_deduplicate_rows_take_answers_of_earlier_tries_too(self, batch: Batch) -> None:
        batch.write({"text": "a"}, {"text": "b"}, {"text": "a"})
        batch.chat.script(replies.ok())
        batch.chat.default = replies.error(400, "no")
        batch.run(max_concurrency=1, max_failures=None)
        plan = plan_of(batch, deduplicate=True)
        assert (plan["answered"], plan["equal"], plan["to_send"]) == (1, 1, 1)

    def test_with_deduplicate_an_answer_of_this_batch_serves_equal_rows(self, batch: Batch) -> None:
        batch.write({"text": "a"}, {"text": "b"}, {"text": "a"})
        batch.chat.script(replies.ok(), replies.error(401, "who are you?"))
        batch.error(max_concurrency=1)
        plan = plan_of(batch, deduplicate=True)
        assert (plan["equal"], plan["to_send"]) == (1, 1)


class TestFailures:
    def test_rows_that_would_fail_are_counted_by_kind_with_the_first_of_each(self, batch: Batch) -> None:
        rows = [{"text": "fine"}, "not JSON", *({"word": n} for n in range(4)), {"text": "b", "custom_id": "x"}]
        batch.write(*rows, {"text": "c", "custom_id": "x"})
        plan = plan_of(batch)
        assert plan["failed"] == {"InvalidRequest column": 4, "InvalidRequest json": 1, "InvalidRequest uniqueItems": 1}
        assert [row["index"] for row in plan["first_failures"]["InvalidRequest column"]] == [2, 3, 4]
        (twice,) = plan["first_failures"]["InvalidRequest uniqueItems"]
        assert (twice["index"], twice["id"]) == (7, "x")
        assert "rows.jsonl:8" in twice["message"]

    def test_they_say_nothing_of_what_the_row_holds(self, batch: Batch, capfd: Any) -> None:
        batch.write({"text": "fine"}, {"text": "a secret", "t": "hot as ice"})
        plan = plan_of(batch, request={"temperature": "{{ row.t if row.t is defined else 0 }}"})
        assert sum(plan["failed"].values()) == 1
        assert "secret" not in json.dumps(plan) + "".join(capfd.readouterr())
        assert "hot as ice" not in json.dumps(plan)

    def test_too_many_of_them_do_not_fail_the_dry_run(self, batch: Batch, capfd: Any) -> None:
        batch.write({"text": "fine"}, {"word": 1}, {"word": 2})
        assert plan_of(batch, max_failures=2)["would_fail"] is False
        plan = plan_of(batch, max_failures=1)
        assert (plan["would_fail"], plan["to_send"]) == (True, 1)
        assert "The task would fail" in "".join(capfd.readouterr())

    def test_there_is_a_plan_if_every_row_would_fail(self, batch: Batch) -> None:
        batch.write({"word": 1}, {"word": 2})
        plan = plan_of(batch)
        assert (plan["to_send"], plan["would_fail"], plan["first_request"]) == (0, True, None)

    @pytest.mark.parametrize(
        ("arguments", "path"),
        [
            ({"input": "missing.jsonl"}, "input"),
            ({"shard": "3/2"}, "shard"),
            ({"response_schema": {"type": "nonsense"}}, "response_schema"),
        ],
        ids=["input", "shard", "response_schema"],
    )
    def test_what_ends_a_batch_at_once_ends_a_dry_run_too(self, batch: Batch, arguments: Any, path: str) -> None:
        batch.texts(2)
        error = batch.error(dry_run=True, **arguments)
        assert isinstance(error, InvalidRequest)
        assert error.path == path

    def test_a_folder_of_something_else_is_an_error(self, batch: Batch) -> None:
        batch.texts(1)
        batch.output.mkdir()
        (batch.output / "results.jsonl").write_text("{}\n")
        assert "was not written by a batch" in batch.error(dry_run=True).message

    def test_so_are_a_file_and_the_results_of_another_request(self, batch: Batch) -> None:
        batch.texts(1)
        batch.output.write_text("mine")
        assert "is a file; name a folder" in batch.error(dry_run=True).message
        batch.output.unlink()
        batch.run()
        assert "with a different request" in batch.error(dry_run=True, prompt="Else: {{ row.text }}").message

    def test_a_file_that_cannot_be_attached_fails_its_row(self, batch: Batch, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
        batch.write({"text": "a", "image": "a.png"}, {"text": "b", "image": "b.png"})
        plan = plan_of(batch, attachments=[f"{tmp_path}/{{{{ row.image }}}}"])
        assert (plan["to_send"], plan["failed"]) == (1, {"InvalidRequest file": 1})
        assert plan["first_request"]["attachments"][0]["type"] == "image/png"
        assert "Not counted: the tokens of 1 attachment (pictures, sounds and files)" in plan["notes"]


class TestNumbers:
    def test_the_cost_is_a_range_from_the_input_alone_to_the_longest_answers(self, batch: Batch, priced: Any) -> None:
        batch.write({"text": "a" * 40}, {"text": "b" * 400})
        plan = plan_of(batch, **FOUR_TOKENS_AT_MOST)
        assert (plan["input_tokens"], plan["output_tokens"]) == (110, 8)
        assert plan["cost"] == {"least": 0.00011, "most": 0.000142, "currency": "USD"}
        assert (plan["counted_by"], plan["is_guess"]) == (["bytes"], True)
        assert "Input tokens are a guess" in plan["notes"][0]

    def test_without_a_limit_nobody_knows_the_most(self, batch: Batch, priced: Any) -> None:
        batch.texts(2)
        plan = plan_of(batch)
        assert (plan["output_tokens"], plan["cost"]["most"]) == (None, None)
        assert plan["cost"]["least"] > 0
        assert any(note.startswith("No request sets a limit to its answer") for note in plan["notes"])

    def test_without_a_price_nobody_knows_the_cost(self, batch: Batch) -> None:
        batch.texts(2)
        plan = plan_of(batch, **FOUR_TOKENS_AT_MOST)
        assert plan["cost"] == {"least": None, "most": None, "currency": "USD"}
        assert any("test-model" in note and "extra 'prices'" in note for note in plan["notes"])

    def test_rows_without_a_price_would_fail_if_the_cost_is_limited(self, batch: Batch, priced: Any) -> None:
        batch.write({"text": "a", "model": "test-model"}, {"text": "b", "model": "other"})
        plan = plan_of(batch, model="{{ row.model }}", max_cost=1)
        assert (plan["to_send"], plan["failed"]) == (1, {"InvalidRequest prices": 1})

    def test_rows_may_have_models_and_limits_of_their_own(self, batch: Batch, priced: Any) -> None:
        priced(prices={"a": {"input": "1", "output": "0"}, "b": {"input": "10", "output": "0"}})
        batch.write(*({"text": "x" * 40, "model": model, "most": 5} for model in "aab"))
        request = {"max_completion_tokens": "{{ row.most }}"}
        plan = plan_of(batch, model="{{ row.model }}", request=request)
        assert plan["cost"]["least"] == plan["cost"]["most"] == 0.00012
        assert plan["output_tokens"] == 15

    def test_a_row_that_the_batch_api_does_not_take_would_fail(self, batch: Batch) -> None:
        batch.texts(2)
        plan = plan_of(batch, via="batch_api", request={"stream": True})
        assert (plan["failed"], plan["to_send"]) == ({"InvalidRequest stream": 2}, 0)
        assert plan_of(batch, request={"stream": True})["failed"] == {}

    def test_the_batch_api_costs_what_its_discount_leaves(self, batch: Batch, priced: Any) -> None:
        batch.write({"text": "a" * 400})
        whole = plan_of(batch, **FOUR_TOKENS_AT_MOST)["cost"]["most"]
        priced(batch_discount="0.25")
        assert plan_of(batch, via="batch_api", **FOUR_TOKENS_AT_MOST)["cost"]["most"] == whole * 0.75

    def test_it_says_whether_the_limits_are_enough(self, batch: Batch, priced: Any) -> None:
        batch.write({"text": "a" * 400})  # 100 tokens, and 4 of the answer

        def fits(**limits: Any) -> list[Any]:
            found = plan_of(batch, **limits, **FOUR_TOKENS_AT_MOST)["limits"]
            return [found[name]["fits"] for name in ("max_total_tokens", "max_cost")]

        assert fits(max_total_tokens=104, max_cost="0.000116") == [True, True]
        assert fits(max_total_tokens=103, max_cost="0.000115") == [None, None]
        assert fits(max_total_tokens=99, max_cost="0.000099") == [False, False]

    def test_the_connections_limits_hold_where_the_task_has_none(self, batch: Batch, priced: Any) -> None:
        priced(max_total_tokens=5)
        batch.texts(9)
        assert plan_of(batch)["limits"] == {"max_total_tokens": {"limit": 5, "spent": 0, "fits": False}}

    def test_what_earlier_tries_have_spent_counts(self, batch: Batch, priced: Any) -> None:
        batch.texts(2)
        batch.chat.script(replies.ok(), replies.error(400, "no"))
        batch.run(max_concurrency=1, max_failures=None, **FOUR_TOKENS_AT_MOST)
        limits = plan_of(batch, max_total_tokens=15, max_cost=1, **FOUR_TOKENS_AT_MOST)["limits"]
        assert (limits["max_total_tokens"]["spent"], limits["max_total_tokens"]["fits"]) == (11, None)
        assert limits["max_cost"]["spent"] > 0

    def test_calls_for_answers_that_do_not_fit_are_said_to_be_left_out(self, batch: Batch) -> None:
        batch.texts(1)
        plan = plan_of(batch, response_schema={"type": "object", "properties": {"a": {"type": "string"}}})
        assert any("output_retries" in note for note in plan["notes"])
        assert plan["first_request"]["request"]["response_format"]["type"] == "json_schema"


class TestInAirflow:
    @pytest.fixture
    def airflow(self, run_dag: Any) -> Airflow:
        return Airflow(run_dag)

    def test_the_plan_is_the_only_xcom_and_the_log_has_it_with_the_first_request_as_a_command(
        self, airflow: Airflow, chat: Any, tmp_path: Path, capfd: Any
    ) -> None:
        with airflow.dag():
            _bulk(tmp_path, input=[{"text": "It's {{ a }}"}, {"text": "b"}])
        run = airflow.run()
        assert (run.state, set(run.xcoms("bulk")), chat.requests) == ("success", {"return_value"}, [])
        plan = run.xcoms("bulk")["return_value"]
        printed = "".join(capfd.readouterr())
        assert "# A dry run: nothing was sent, and nothing was written\n# 2 rows: 2 would be sent" in printed
        assert plan["first_request"]["curl"] in printed
        assert "It'\"'\"'s {{ a }}" in printed
        assert "sk-test-1234567890" not in printed + json.dumps(plan)

    def test_each_instance_of_a_mapped_task_has_a_plan(self, airflow: Airflow, chat: Any, tmp_path: Path) -> None:
        with airflow.dag():

            @task
            def batches() -> list[Any]:
                return [[{"text": "a"}], [{"text": "b"}, {"text": "c"}]]

            ChatCompletionBatchOperator.partial(
                task_id="bulk", output=f"{tmp_path}/{{{{ ti.map_index }}}}", prompt="{{ row.text }}", dry_run=True
            ).expand(input=batches())
        run = airflow.run()
        assert [run.xcoms("bulk", index)["return_value"]["rows"] for index in range(2)] == [1, 2]
        assert chat.requests == []

    def test_a_missing_variable_ends_it_as_it_ends_a_batch(self, airflow: Airflow, chat: Any, tmp_path: Path) -> None:
        with airflow.dag():
            _bulk(tmp_path, input=[{"text": "a"}], prompt="{{ var.value.no_such_variable }} {{ row.text }}")
        assert airflow.run().state == "failed"

    def test_its_outlets_are_not_updated(self, airflow: Airflow, chat: Any, tmp_path: Path) -> None:
        from airflow.models.asset import AssetEvent, AssetModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        asset = Asset("preflight_results", uri="file:///preflight/results")
        with airflow.dag():
            _bulk(tmp_path, input=[{"text": "a"}], outlets=[asset])
        assert airflow.run().state == "success"
        with create_session() as session:
            query = select(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            assert session.scalars(query.where(AssetModel.name == asset.name)).all() == []

    def test_a_task_that_is_ended_stops(self, batch: Batch) -> None:
        batch.texts(3)
        given = batch.task(dry_run=True)

        class Ending(dict[str, Any]):
            """A row that ends the task when it is filled in."""

            def keys(self) -> Any:
                given.on_kill()
                return super().keys()

        given.input = [{"text": "a"}, Ending(text="b"), {"text": "c"}]
        with pytest.raises(exceptions.AirflowException, match="was stopped"):
            batch.execute(given)


def _bulk(folder: Path, **arguments: Any) -> ChatCompletionBatchOperator:
    given = {"output": f"{folder}/out", "prompt": "{{ row.text }}", "dry_run": True, **arguments}
    return ChatCompletionBatchOperator(task_id="bulk", **given)
