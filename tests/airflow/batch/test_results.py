"""Reading back what a batch left: from its manifest or its folder, here or in an object store."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, ObjectStoragePath, task

from airflow_chat_provider.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.results import read_errors, read_results
from airflow_chat_provider.testing import replies
from tests.support.batching import Batch, prompt_of


@pytest.fixture(params=["local", "object store"])
def anywhere(request: pytest.FixtureRequest, batch: Batch) -> Batch:
    """A batch whose output is a folder on this machine, then one in an object store, with small parts."""
    if request.param == "object store":
        folder = Path(tempfile.mkdtemp(dir=request.getfixturevalue("store")))
        batch.output = folder / "out"
        batch.arguments |= {"output": f"memory://{folder.name}/out", "part_rows": 3}
    batch.chat.default = lambda asked: replies.ok(f"answer to {prompt_of(asked)}")
    return batch


def failing(batch: Batch, *prompts: str) -> None:
    def answer(asked: Any) -> Any:
        return replies.error(400, "no") if prompt_of(asked) in prompts else replies.ok(f"answer to {prompt_of(asked)}")

    batch.chat.default = answer


def indices(lines: Any) -> list[int]:
    return [line["index"] for line in lines]


def test_each_answered_row_is_read_once_as_its_line_is(anywhere: Batch) -> None:
    anywhere.texts(10)
    manifest = anywhere.run()
    found = sorted(read_results(manifest), key=lambda line: line["index"])
    assert indices(found) == list(range(10))
    assert found[7]["row"] == {"text": "row 7"}
    assert found[7]["response"] == "answer to row 7"
    assert list(read_errors(manifest)) == []


def test_ordered_results_come_in_the_order_of_the_rows(anywhere: Batch) -> None:
    anywhere.texts(200)
    manifest = anywhere.run(part_rows=20)
    assert indices(read_results(manifest, ordered=True)) == list(range(200))
    assert [line["response"] for line in read_results(manifest, ordered=True)] == [
        f"answer to row {index}" for index in range(200)
    ]


def test_failed_rows_are_read_in_the_order_of_the_rows(anywhere: Batch) -> None:
    anywhere.texts(20)
    failing(anywhere, "row 17", "row 2", "row 11")
    manifest = anywhere.run(max_failures=None)
    assert [(line["index"], line["error"]["status"]) for line in read_errors(manifest)] == [
        (2, 400),
        (11, 400),
        (17, 400),
    ]
    assert len(list(read_results(manifest))) == 17


@pytest.mark.parametrize("path", ["", "/results.jsonl", "/errors.jsonl", "/manifest.json", "/"])
@pytest.mark.parametrize("kind", [str, lambda path: f"file://{path}", ObjectStoragePath])
def test_the_path_of_the_folder_or_of_a_file_in_it_will_do(batch: Batch, path: str, kind: Any) -> None:
    batch.texts(3)
    batch.run()
    assert indices(read_results(kind(f"{batch.output}{path}"), ordered=True)) == [0, 1, 2]


def test_the_folder_may_be_a_path_object(batch: Batch) -> None:
    batch.texts(3)
    batch.run()
    assert indices(read_results(batch.output, ordered=True)) == [0, 1, 2]


def test_a_line_of_a_batch_file_is_read_as_it_is(batch: Batch) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    batch.write(line, {**line, "custom_id": "b", "url": "/v1/embeddings"})
    manifest = batch.run(prompt=None, result_format="raw", max_failures=None)
    (result,) = read_results(manifest)
    assert (result["custom_id"], result["response"]["status_code"]) == ("a", 200)
    (error,) = read_errors(manifest)
    assert (error["custom_id"], error["failure"]["class"]) == ("b", "InvalidRequest")


def test_rows_are_read_as_they_are_asked_for(batch: Batch) -> None:
    batch.texts(3)
    results = read_results(batch.run())
    with (batch.output / "results.jsonl").open("a") as file:
        file.write("{}\n")  # a line of somebody else
    assert "response" in next(results)
    next(results)
    next(results)
    with pytest.raises(InvalidRequest, match=r"does not belong to this batch \(.*results.jsonl:4\)"):
        next(results)


def test_a_folder_that_cannot_be_looked_at_is_told_as_a_missing_one_is() -> None:
    with pytest.raises(InvalidRequest, match=r"Correct manifest: .* cannot be used \(File name too long\)"):
        read_results("a" * 300)


@pytest.mark.parametrize("ordered", [False, True])
def test_a_damaged_line_is_skipped_and_named_in_the_log(batch: Batch, log: Any, ordered: bool) -> None:
    batch.texts(3)
    manifest = batch.run()
    file = batch.output / "results.jsonl"
    whole = file.read_bytes()
    file.write_bytes(b'{"index": 0, "id\n' + whole + b'{"index": 1, "i')
    assert sorted(indices(read_results(manifest, ordered=ordered))) == [0, 1, 2]
    (line,) = log.lines("these damaged lines")
    assert "results.jsonl:1" in line
    assert "results.jsonl:5" in line
    assert file.read_bytes().startswith(b'{"index": 0, "id\n'), "reading must not change the folder"
    assert file.read_bytes().endswith(b'{"index": 1, "i')


@pytest.mark.parametrize("ordered", [False, True])
def test_the_first_of_several_results_of_a_row_counts(batch: Batch, ordered: bool) -> None:
    batch.texts(2)
    manifest = batch.run()
    with (batch.output / "results.jsonl").open("a") as file:
        file.write('{"index":1,"id":"row-1","response":"another"}\n')
        file.write('{"index":0,"id":"row-0","error":{},"asked":1}\n')  # joined with the errors
    found = list(read_results(manifest, ordered=ordered))
    assert sorted((line["index"], line["response"]) for line in found) == [(0, "Hello"), (1, "Hello")]


def test_the_last_of_several_errors_of_a_row_counts(batch: Batch) -> None:
    batch.texts(2)
    failing(batch, "row 1")
    manifest = batch.run(max_failures=None)
    with (batch.output / "errors.jsonl").open("a") as file:
        file.write('{"index":1,"id":"row-1","error":{"class":"Later"},"asked":2}\n')
    assert [line["error"]["class"] for line in read_errors(manifest)] == ["Later"]


def test_a_batch_with_missing_rows_is_not_read_unless_one_asks_for_what_there_is(anywhere: Batch) -> None:
    anywhere.texts(10)
    failing(anywhere, "row 3")
    anywhere.error(max_failures=0, max_concurrency=1)
    manifest = anywhere.pushed["return_value"]
    for given in (manifest, anywhere.arguments.get("output", anywhere.output)):
        with pytest.raises(ChatCompletionError, match=r"^Run the batch again.*: 6 of 10 rows of "):
            read_results(given)
        assert sorted(indices(read_results(given, on_unfinished="ignore"))) == [0, 1, 2]
        assert indices(read_errors(given, on_unfinished="ignore")) == [3]


def test_the_error_of_a_row_that_was_answered_later_is_not_read_before_the_batch_has_ended(batch: Batch) -> None:
    batch.texts(2)
    failing(batch, "row 1")
    batch.run(max_failures=None)
    errors = (batch.output / "errors.jsonl").read_bytes()
    failing(batch)
    batch.run()
    (batch.output / "errors.jsonl").write_bytes(errors)
    (batch.output / "manifest.json").unlink()  # as it is when the batch was killed
    with pytest.raises(ChatCompletionError, match="some rows of"):
        read_errors(batch.output)
    assert list(read_errors(batch.output, on_unfinished="ignore")) == []


def test_a_batch_without_rows_has_no_results(anywhere: Batch) -> None:
    anywhere.write()
    manifest = anywhere.run()
    assert list(read_results(manifest)) == []
    assert list(read_results(manifest, ordered=True)) == []
    assert list(read_errors(manifest)) == []


def test_the_shards_of_one_input_are_read_together_in_the_order_of_the_rows(anywhere: Batch) -> None:
    anywhere.texts(10)
    failing(anywhere, "row 3", "row 8")
    manifests = [anywhere.run(shard=f"{part}/3", max_failures=None) for part in (1, 2, 3)]
    assert indices(read_results(manifests, ordered=True)) == [0, 1, 2, 4, 5, 6, 7, 9]
    assert sorted(indices(read_results(manifests))) == [0, 1, 2, 4, 5, 6, 7, 9]
    assert indices(read_errors(tuple(manifests))) == [3, 8]


def test_the_batches_of_several_inputs_are_read_one_after_the_other(batch: Batch, tmp_path: Path) -> None:
    manifests = []
    for count in (2, 3):
        batch.texts(count)
        manifests.append(batch.run(output=str(tmp_path / f"out-{count}")))
    assert indices(read_results(manifests, ordered=True)) == [0, 1, 0, 1, 2]
    assert list(read_results([], ordered=True)) == []


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (None, "not None: that task has left no manifest"),
        ({"body": {}, "status": 200}, "not a dict without the keys results and errors"),
        ({"results": "", "errors": ""}, "not a dict without the keys results and errors"),
        (7, "not an int"),
        ("", "not an empty text"),
        ([None], "not None"),
    ],
)
@pytest.mark.parametrize("read", [read_results, read_errors])
def test_what_is_not_a_manifest_is_an_error_at_once(given: Any, what: str, read: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"^Give what a ChatCompletionBatchOperator returned.*{what}"):
        read(given)


def test_a_folder_that_is_gone_is_an_error_that_names_it_and_the_machine(batch: Batch, tmp_path: Path) -> None:
    batch.texts(1)
    manifest = batch.run()
    batch.output.rename(tmp_path / "elsewhere")
    with pytest.raises(InvalidRequest, match=r"^Correct manifest: '.*/out' does not exist on this machine \(.+\)"):
        read_results(manifest)


def test_a_folder_that_holds_no_batch_is_an_error(tmp_path: Path, store: Path) -> None:
    for folder in (tmp_path, f"memory://{Path(tempfile.mkdtemp(dir=store)).name}", "memory://nowhere"):
        with pytest.raises(InvalidRequest, match="holds no batch"):
            read_results(folder)
    (tmp_path / "results.jsonl").write_text("{}\n")
    with pytest.raises(InvalidRequest, match="was not written by a batch"):
        read_results(tmp_path)
    (tmp_path / "batch.json").write_text("{}")
    with pytest.raises(InvalidRequest, match="belongs to something else"):
        read_results(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="is a file on this machine"):
        read_results(tmp_path / "file")


def test_on_unfinished_is_fail_or_ignore(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="on_unfinished must be 'fail' or 'ignore', not 'read'"):
        read_results(tmp_path, on_unfinished="read")  # type: ignore[arg-type]


def test_results_may_be_far_apart(batch: Batch) -> None:
    """A row's number may be large in the last part of a large input."""
    batch.texts(1)
    manifest = batch.run()
    with (batch.output / "results.jsonl").open("a") as file:
        file.write('{"index":900000000000,"id":"row-900000000000","response":"far"}\n')
    assert indices(read_results(manifest, ordered=True)) == [0, 900000000000]


def test_tasks_read_what_batches_before_them_left(run_dag: Any, batch: Batch) -> None:
    batch.texts(4)
    failing(batch, "row 1")
    given: dict[str, Any] = {
        "input": str(batch.input),
        "prompt": "{{ row.text }}",
        "max_attempts": 1,
        "max_failures": None,
    }
    with DAG("reading", schedule=None) as dag:
        bulk = ChatCompletionBatchOperator(task_id="bulk", output=str(batch.output), **given)
        mapped = ChatCompletionBatchOperator.partial(task_id="mapped", output=f"{batch.output}-2", **given)

        @task
        def read(manifest: Any) -> list[list[int]]:
            return [indices(read_results(manifest, ordered=True)), indices(read_errors(manifest))]

        read(bulk.output)
        read(mapped.expand(shard=["1/2", "2/2"]).output)
    run = run_dag(dag)
    assert run.state == "success"
    for name in ("read", "read__1"):
        assert run.get_task_instance(name).xcom_pull(task_ids=name) == [[0, 2, 3], [1]]
