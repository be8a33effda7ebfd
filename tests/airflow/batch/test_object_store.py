"""Input and output in an object store: a real fsspec file system, of which every process sees the same files."""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.dirfs import DirFileSystem

from airflow_chat_provider.batch.files import StoreError
from airflow_chat_provider.batch.output import store as output_store
from airflow_chat_provider.batch.output.object_store import ObjectStore
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.testing import replies
from tests.support.batching import Batch, in_order, lines, prompt_of


@pytest.fixture
def stored(batch, store):
    """The batch, with its input and its output in the store."""
    return Stored(batch, Path(tempfile.mkdtemp(dir=store)))


class Stored:
    def __init__(self, batch: Batch, bucket: Path) -> None:
        self.batch = batch
        self.folder = bucket / "out"
        self.url = f"memory://{bucket.name}"
        batch.input = bucket / "rows.jsonl"
        self.arguments = {"input": f"{self.url}/rows.jsonl", "output": f"{self.url}/out"}

    def run(self, **arguments):
        return self.batch.run(**self.arguments, **arguments)

    def parts(self, kind):
        return sorted(self.folder.glob(f"{kind}-*.jsonl"))

    def found(self, kind):
        return in_order(line for part in self.parts(kind) for line in lines(part))


def test_results_are_written_in_parts_of_at_most_part_rows(stored):
    stored.batch.texts(50)
    manifest = stored.run(part_rows=20, max_concurrency=4)
    assert manifest["succeeded"] == 50
    assert manifest["results"].endswith("/out/results-*.jsonl")
    sizes = [len(lines(part)) for part in stored.parts("results")]
    assert sum(sizes) == 50
    assert max(sizes) <= 24  # those under way come along
    assert json.loads((stored.folder / "manifest.json").read_text()) == manifest


def test_a_part_is_written_after_part_seconds_however_few_have_come(stored):
    stored.batch.texts(2)
    seen: list[dict[str, Any]] = []

    def answer(request):
        if prompt_of(request) == "row 1":
            for _ in range(100):
                seen[:] = stored.found("results")
                if seen:
                    break
                time.sleep(0.05)
        return replies.ok()

    stored.batch.chat.default = answer
    stored.run(part_seconds=0.1, max_concurrency=1)
    assert [line["index"] for line in seen] == [0]


def test_another_try_asks_for_failed_and_missing_rows_only_and_leaves_each_with_one_line(stored):
    batch = stored.batch
    batch.texts(10)
    batch.chat.default = lambda request: (
        replies.error(400, "no") if prompt_of(request) in ("row 3", "row 7") else replies.ok()
    )
    stored.run(max_failures=None)
    batch.chat.default = lambda request: replies.error(400, "no") if prompt_of(request) == "row 7" else replies.ok()
    assert stored.run(max_failures=None)["failed"] == {"StatusError 400": 1}
    assert {prompt for prompt, count in batch.times.items() if count > 1} == {"row 3", "row 7"}
    assert [line["index"] for line in stored.found("results")] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert [line["index"] for line in stored.found("errors")] == [7]
    batch.chat.default = replies.ok()
    assert stored.run()["succeeded"] == 10
    assert stored.found("errors") == []


def test_restart_removes_what_was_there(stored):
    stored.batch.texts(3)
    stored.run()
    stored.batch.texts(2)
    with pytest.raises(InvalidRequest, match="a different input"):
        stored.run()
    assert stored.run(on_changed="restart")["succeeded"] == 2
    assert len(stored.found("results")) == 2


def test_somebody_elses_files_are_left_alone(stored):
    stored.batch.texts(1)
    stored.folder.mkdir()
    (stored.folder / "results-2026.jsonl").write_text('{"their": "own"}\n')
    with pytest.raises(InvalidRequest, match="name another folder"):
        stored.run()
    assert [path.name for path in stored.folder.iterdir()] == ["results-2026.jsonl"]


def test_a_run_that_another_one_has_taken_over_from_writes_no_more_and_says_where_its_answers_are(stored):
    batch = stored.batch
    batch.texts(20)

    def answer(request):
        if len(batch.chat.requests) == 5:
            (stored.folder / "owner.json").write_text("another")
        return replies.ok()

    batch.chat.default = answer
    with pytest.raises(StoreError, match="now writes to") as caught:
        stored.run(part_rows=2, max_concurrency=1)
    spilled = caught.value.message.rpartition(" ")[2]
    kept = stored.found("results") + lines(Path(spilled))
    assert [line["index"] for line in kept] == list(range(len(kept)))
    assert len(kept) >= 4
    Path(spilled).unlink()


def test_a_store_that_fails_ends_the_batch_and_no_answer_is_lost(stored, monkeypatch):
    from airflow_chat_provider.batch.output import object_store

    batch = stored.batch
    batch.texts(20)
    monkeypatch.setattr(object_store, "_WAITS", (0.01,))
    real, file = stored.folder.with_name("real"), stored.folder.with_name("file")
    real.mkdir()
    stored.folder.symlink_to(real)
    file.symlink_to("/dev/null")

    def answer(request):
        if len(batch.chat.requests) == 5:
            file.replace(stored.folder)  # in one step, a file where the folder was
        return replies.ok()

    batch.chat.default = answer
    with pytest.raises((StoreError, InvalidRequest)) as caught:
        stored.run(part_rows=2, max_concurrency=1)
    assert "Repair the output" in caught.value.message
    spilled = Path(caught.value.message.rpartition(" ")[2])
    written = [line for part in real.glob("results-*") for line in lines(part)]
    assert len(written) + len(lines(spilled)) == len(batch.chat.requests)
    spilled.unlink()


def broken_after(stored, count, monkeypatch):
    """A store that takes nothing more once so many requests have come, and answers each write with an error."""
    from airflow_chat_provider.batch.output import object_store

    def pipe(fs, path, content, *args, **kwargs):
        if len(stored.batch.chat.requests) > count:
            raise ConnectionError("503 Slow Down")
        return works(fs, path, content, *args, **kwargs)

    works = DirFileSystem.pipe_file
    monkeypatch.setattr(DirFileSystem, "pipe_file", pipe)
    monkeypatch.setattr(object_store, "_WAITS", (0.01,))


def test_if_this_machine_takes_no_line_either_the_error_names_both_places(stored, full_disk, monkeypatch):
    stored.batch.texts(40)
    broken_after(stored, 10, monkeypatch)
    monkeypatch.setattr(output_store, "places", lambda: [full_disk])
    with pytest.raises(StoreError) as caught:
        stored.run(part_rows=2, max_concurrency=4)
    message = caught.value.message
    # Airflow 3.1 writes such an address with one slash more.
    place = stored.url.rpartition("/")[2]
    assert "it cannot be written (ConnectionError: 503 Slow Down): memory:" in message
    assert f"{place}/out" in message
    assert f"{full_disk} (No space left on device)" in message
    lost = len(stored.batch.chat.requests) - len(stored.found("results"))
    assert f"{lost} lines were lost" in message


def test_a_full_temporary_folder_is_passed_over(stored, full_disk, monkeypatch):
    stored.batch.texts(40)
    broken_after(stored, 10, monkeypatch)
    monkeypatch.setenv("TMPDIR", str(full_disk))
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    with pytest.raises(StoreError) as caught:
        stored.run(part_rows=2, max_concurrency=4)
    spilled = Path(caught.value.message.rpartition(" ")[2])
    assert len(stored.found("results")) + len(lines(spilled)) == len(stored.batch.chat.requests)
    spilled.unlink()


def test_another_try_on_the_same_machine_takes_up_what_the_store_did_not(stored, monkeypatch):
    stored.batch.texts(40)
    with monkeypatch.context() as broken:
        broken_after(stored, 10, broken)
        with pytest.raises(StoreError) as caught:
            stored.run(part_rows=2, max_concurrency=4)
    assert stored.run()["succeeded"] == 40
    assert len(stored.batch.chat.requests) == 40
    assert [line["index"] for line in stored.found("results")] == list(range(40))
    assert not Path(caught.value.message.rpartition(" ")[2]).exists()


def test_the_manifest_counts_what_is_stored_and_nothing_else(stored, monkeypatch):
    stored.batch.texts(40)
    broken_after(stored, 10, monkeypatch)
    with pytest.raises(StoreError) as caught:
        stored.run(part_rows=2, max_concurrency=4)
    there = len(stored.found("results"))
    manifest = stored.batch.pushed["return_value"]
    assert (manifest["succeeded"], manifest["missing"]) == (there, 40 - there)
    assert manifest["usage"]["total_tokens"] == 11 * there
    Path(caught.value.message.rpartition(" ")[2]).unlink()


def test_damaged_lines_of_a_part_are_named_and_the_others_count(stored, caplog):
    stored.batch.texts(6)
    stored.run(part_rows=3, max_concurrency=1)
    first, second = stored.parts("results")
    (stored.folder / second.name).write_bytes(b"\n" + second.read_bytes()[:-20])
    manifest = stored.run(max_concurrency=1)
    assert manifest["succeeded"] == 6
    assert {prompt for prompt, count in stored.batch.times.items() if count == 2} == {"row 5"}
    (told,) = [record.getMessage() for record in caplog.records if "damaged lines" in record.getMessage()]
    assert f"{second.name}:1, " in told
    assert f"{second.name}:4. " in told
    assert first.name not in told


def test_a_run_that_was_taken_over_from_leaves_errors_and_manifest_alone(stored):
    batch = stored.batch
    batch.texts(2)
    batch.chat.default = replies.error(400, "no")
    stored.run(max_failures=None)
    before = {path.name: path.read_bytes() for path in stored.folder.iterdir()}

    def answer(request):
        (stored.folder / "owner.json").write_text("another")
        return replies.ok()

    batch.chat.default = answer
    with pytest.raises(StoreError) as caught:
        stored.run()
    after = {path.name: path.read_bytes() for path in stored.folder.iterdir()}
    assert after == {**before, "owner.json": b"another"}
    Path(caught.value.message.rpartition(" ")[2]).unlink()


@pytest.mark.slow
def test_a_killed_batch_loses_no_more_than_the_open_part(stored, project, store):
    batch, chance = stored.batch, random.Random(5)
    batch.texts(300)
    command = [sys.executable, "-m", "tests.support.one_try", *stored.arguments.values(), "4", str(store)]

    def answer(request):
        time.sleep(0.02)
        return replies.ok()

    batch.chat.default = answer
    for _ in range(4):
        seen, before = len(batch.chat.requests), {line["row"]["text"] for line in stored.found("results")}
        with subprocess.Popen(command, cwd=project, stderr=subprocess.DEVNULL) as process:
            assert batch.chat.wait_requests(seen + chance.randint(10, 60), 180)
            process.send_signal(signal.SIGKILL)
        asked = set(map(prompt_of, batch.chat.requests[seen:]))
        recorded = {line["row"]["text"] for line in stored.found("results")}
        assert before <= recorded
        assert not before & asked
        assert len(asked - recorded) <= 4 + 2 * 10
    assert stored.run()["succeeded"] == 300
    assert [line["index"] for line in stored.found("results")] == list(range(300))


def test_the_parts_of_another_folder_with_the_same_beginning_are_not_its_own(stored):
    stored.batch.texts(1)
    other = ObjectStore(f"{stored.url}/out-2", 1, 1.0)
    other.claim()
    other.put("results-1.jsonl", b"{}\n")
    assert stored.run()["succeeded"] == 1


def test_an_input_without_rows_leaves_a_manifest_and_no_part(stored):
    stored.batch.write()
    manifest = stored.run()
    assert (manifest["total"], manifest["missing"]) == (0, 0)
    assert json.loads((stored.folder / "manifest.json").read_text()) == manifest
    assert (stored.found("results"), stored.found("errors"), stored.parts("results")) == ([], [], [])
    assert stored.run()["total"] == 0
    assert stored.batch.chat.requests == []


def test_an_empty_compressed_input_is_refused_as_cut_off(stored):
    compressed = stored.batch.input.with_suffix(".jsonl.gz")
    compressed.touch()
    stored.arguments["input"] += ".gz"
    with pytest.raises(InvalidRequest, match="is cut off"):
        stored.run()
