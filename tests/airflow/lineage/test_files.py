"""The files that a task reads and writes are in Airflow's hook lineage, by the URIs that ObjectStoragePath has."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath, task

from airflow_chat_provider.airflow_api.lineage import uri_of
from airflow_chat_provider.errors import ChatCompletionError
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.results import read_results
from airflow_chat_provider.testing import replies
from tests.support.batching import Batch
from tests.support.running import Airflow


@pytest.fixture
def batch(tmp_path: Path, chat) -> Batch:
    made = Batch(tmp_path, chat)
    made.texts(3)
    return made


def test_a_batch_reads_its_input_and_writes_its_results(batch, collected):
    batch.run()
    assert collected.inputs == [f"file://{batch.input}"]
    assert collected.outputs == [f"file://{batch.output}/results.jsonl"]


def test_object_storage_path_tells_of_the_same_file_by_the_same_uri(batch, collected):
    batch.run()
    for method, path in (("rb", batch.input), ("ab", batch.output / "results.jsonl")):
        with ObjectStoragePath(f"file://{path}").open(method) as file:
            file.read() if method == "rb" else file.write(b"")
    assert collected.inputs == [f"file://{batch.input}"] * 2
    assert collected.outputs == [f"file://{batch.output}/results.jsonl"] * 2


def test_rows_that_fail_are_in_a_file_of_their_own_also_if_the_task_fails_for_them(batch, collected):
    batch.chat.script(replies.ok(), replies.error(400, "no"), replies.error(400, "no"))
    with pytest.raises(ChatCompletionError):
        batch.run(max_concurrency=1)
    assert collected.outputs == [f"file://{batch.output}/{kind}.jsonl" for kind in ("errors", "results")]


def test_a_file_is_told_once_however_many_rows_it_has(batch, collected):
    batch.texts(300)
    batch.run()
    assert (len(collected.inputs), len(collected.outputs)) == (1, 1)


def test_in_an_object_store_the_output_is_the_folder(batch, store, collected):
    bucket = Path(tempfile.mkdtemp(dir=store))
    (bucket / "rows.jsonl").write_bytes(batch.input.read_bytes())
    url = f"memory://{bucket.name}"
    path = ObjectStoragePath(f"{url}/rows.jsonl")
    batch.run(input=path, output=f"{url}/out/")
    with path.open() as file:
        file.read()
    by_batch, by_path = collected.inputs
    assert by_batch == by_path
    assert collected.outputs == [by_path.replace("rows.jsonl", "out")]


def test_each_shard_has_an_output_of_its_own(batch, collected):
    batch.run(shard="1/3")
    assert collected.outputs == [f"file://{batch.output}/shard-1-of-3/results.jsonl"]


def test_rows_that_came_from_an_upstream_task_are_no_file(batch, collected):
    batch.run(input=[{"text": "Hi"}])
    assert (collected.inputs, len(collected.outputs)) == ([], 1)


def test_attachments_are_inputs_of_the_task(airflow, chat, collected, tmp_path):
    (tmp_path / "notes.txt").write_text("Notes", "utf-8")
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", attachments=[str(tmp_path / "notes.txt")])
    assert airflow.run().state == "success"
    if not airflow.deferrable:  # or the trigger, which ends this task, has no collector
        assert collected.inputs == [f"file://{tmp_path}/notes.txt"]


def test_attachments_of_a_deferred_task_are_inputs_where_a_worker_ends_it(run_dag, chat, collected, tmp_path):
    (tmp_path / "notes.txt").write_text("Notes", "utf-8")
    airflow = Airflow(run_dag, deferrable=True)
    with airflow.dag():
        ChatCompletionOperator(
            task_id="ask",
            prompt="Hi",
            attachments=[str(tmp_path / "notes.txt")],
            post_execute=lambda context, result=None: None,
        )
    airflow.run()
    assert collected.inputs == [f"file://{tmp_path}/notes.txt"]


def test_a_task_that_reads_results_back_has_the_file_that_the_batch_wrote_as_its_input(run_dag, batch, collected):
    manifest = batch.run()
    (written,) = collected.outputs

    @task
    def read() -> int:
        return len(list(read_results(manifest)))

    airflow = Airflow(run_dag)
    with airflow.dag(default_args={"deferrable": None}):
        read()
    assert airflow.run().xcoms("read")["return_value"] == 3
    assert written in collected.inputs


def test_lineage_that_airflow_does_not_take_fails_no_task(batch, collected, monkeypatch, log):
    monkeypatch.setattr(type(collected._collector), "add_input_asset", lambda *_, **__: 1 / 0)
    assert batch.run()["succeeded"] == 3
    assert "The lineage of this task lacks files" in log.text


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/data/a b.csv", "file:///data/a b.csv"),
        ("file:///data/a.csv", "file:///data/a.csv"),
        ("s3://bucket/a.csv", "s3://bucket/a.csv"),
        ("s3://conn@bucket/a.csv", "s3://conn@bucket/a.csv"),
        ("s3://key:secret@bucket/a.csv", "s3://bucket/a.csv"),
        ("https://host/a.csv?sig=secret", "https://host/a.csv"),
    ],
)
def test_a_uri_has_neither_a_password_nor_a_signature(path, uri):
    assert uri_of(path) == uri


def test_a_relative_path_is_told_from_the_root():
    assert uri_of("data/a.csv") == f"file://{Path.cwd()}/data/a.csv"
