"""An input without rows: nothing new today is no failure, and whoever reads the output finds it as always."""

import gzip
import json
from typing import Any

import pytest
from airflow.sdk import task

from airflow_chat_provider.core.answer.usage import KEYS
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBatchOperator
from tests.support.batching import lines
from tests.support.running import Airflow

MARK = b"\xef\xbb\xbf"
FILES = {
    "no bytes": ("rows.jsonl", b""),
    "empty lines": ("rows.ndjson", b"\n\n  \r\n"),
    "a byte order mark": ("rows.jsonl", MARK),
    "a byte order mark and a line end": ("rows.jsonl", MARK + b"\r\n"),
    "compressed": ("rows.jsonl.gz", gzip.compress(b"")),
    "a header": ("rows.csv", b"text\n"),
    "a header without an end, and a mark": ("rows.csv", MARK + b"text,label"),
    "a header and empty lines": ("rows.tsv", b"text\tlabel\r\n\r\n\r\n"),
}


def counts(manifest):
    found = {name: manifest[name] for name in ("total", "succeeded", "failed", "missing", "incomplete", "usage")}
    return {**found, "usage": {**found["usage"], "seconds": 0}}


NO_USAGE = {**dict.fromkeys(KEYS), "requests": 0, "attempts": 0, "tool_calls": 0, "seconds": 0}
NO_USAGE |= {"errors": {}, "rejected": []}
NOTHING = {"total": 0, "succeeded": 0, "failed": {}, "missing": 0, "incomplete": 0, "usage": NO_USAGE}


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_rows_succeeds_with_a_manifest_of_zeros_and_empty_files(batch, tmp_path, name):
    file, content = FILES[name]
    (tmp_path / file).write_bytes(content)
    manifest = batch.run(input=str(tmp_path / file))
    assert counts(manifest) == NOTHING
    assert manifest["results"] == str(batch.output / "results.jsonl")
    assert json.loads((batch.output / "manifest.json").read_text()) == manifest
    assert (batch.results, batch.errors, batch.chat.requests) == ([], [], [])


@pytest.mark.parametrize(
    "arguments",
    [{}, {"max_failures": 0}, {"shard": "2/8"}, {"shard": "10:20"}, {"requests_per_minute": 1}, {"prompt": None}],
)
def test_an_empty_list_succeeds_whatever_the_other_arguments_are(batch, arguments):
    assert counts(batch.run(input=[], **arguments)) == NOTHING
    assert batch.chat.requests == []


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("rows.csv", b"", "is empty; the first line must name the columns"),
        ("rows.csv", MARK, "has an empty first line; the first line must name the columns"),
        ("rows.csv", b"\ntext\na\n", "has an empty first line; the first line must name the columns"),
        ("rows.jsonl.gz", b"", "is cut off, or is not compressed as its name says"),
    ],
)
def test_a_file_that_was_cut_off_is_refused_even_without_rows(batch, tmp_path, file, content, told):
    (tmp_path / file).write_bytes(content)
    error = batch.error(input=str(tmp_path / file))
    assert isinstance(error, InvalidRequest)
    assert told in error.message
    assert not batch.output.exists()


def test_another_try_over_nothing_succeeds_too(batch):
    batch.write()
    assert [counts(batch.run()) for _ in range(2)] == [NOTHING, NOTHING]
    (batch.output / "results.jsonl").unlink()
    assert counts(batch.run()) == NOTHING
    assert batch.results == []


def test_rows_that_come_later_are_another_input_of_the_same_output(batch):
    batch.run(input=[])
    error = batch.error(input=[{"text": "a"}])
    assert isinstance(error, InvalidRequest)
    assert "et on_changed='restart'" in error.message
    assert batch.chat.requests == []
    assert batch.run(input=[{"text": "a"}], on_changed="restart")["succeeded"] == 1
    assert "made with a different input" in batch.error(input=[]).message
    assert counts(batch.run(input=[], on_changed="restart")) == NOTHING
    assert batch.results == []


class TestUpstream:
    @pytest.fixture
    def airflow(self, run_dag):
        return Airflow(run_dag)

    def test_a_task_that_leaves_an_empty_list_makes_the_batch_a_success(self, airflow, chat, tmp_path):
        with airflow.dag():

            @task
            def rows():
                return []

            given: Any = rows()
            for name, value in {"argument": given, "template": "{{ ti.xcom_pull('rows') }}"}.items():
                given >> ChatCompletionBatchOperator(
                    task_id=name, input=value, output=str(tmp_path / name), prompt="{{ row.text }}"
                )
            ChatCompletionBatchOperator.partial(
                task_id="mapped", output=f"{tmp_path}/mapped-{{{{ ti.map_index }}}}", prompt="{{ row.text }}"
            ).expand(input=[[], [{"text": "a"}]])
        run = airflow.run()
        assert run.state == "success"
        for name in ("argument", "template"):
            assert counts(run.xcoms(name)["return_value"]) == NOTHING
            assert lines(tmp_path / name / "results.jsonl") == []
        assert [run.xcoms("mapped", index)["return_value"]["total"] for index in (0, 1)] == [0, 1]
        assert len(chat.requests) == 1

    @pytest.mark.parametrize("skips", [True, False])
    def test_a_task_that_leaves_nothing_at_all_makes_the_batch_a_failure(self, airflow, chat, capfd, tmp_path, skips):
        with airflow.dag():

            @task.short_circuit(ignore_downstream_trigger_rules=False)
            def goes_on():
                return not skips

            @task
            def rows(): ...

            given: Any = rows()
            goes_on() >> given
            ChatCompletionBatchOperator(
                task_id="bulk", input=given, output=str(tmp_path / "out"), prompt="Hi", trigger_rule="all_done"
            )
        assert airflow.run().state == "failed"
        assert "the upstream task left nothing" in "".join(capfd.readouterr())
        assert not (tmp_path / "out").exists()
        assert chat.requests == []
