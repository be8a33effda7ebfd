"""An output that takes no more: the batch ends, says where the answers are, and loses none that fits anywhere."""

import errno
import json
import os
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from airflow_chat_provider.batch.files import StoreError
from airflow_chat_provider.batch.output import local, store
from airflow_chat_provider.batch.output.store import Spill
from airflow_chat_provider.testing import replies
from tests.airflow.batch.conftest import fill
from tests.support.batching import lines, prompt_of


def ended(batch, **arguments):
    """The error of a batch, which may not wait for ever."""
    found: list[Exception] = []
    thread = threading.Thread(target=lambda: found.append(batch.error(**arguments)), daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive(), "it waits for ever"
    (error,) = found
    assert isinstance(error, StoreError)
    assert not error.final
    return error.message


def spilled(message):
    """The lines in the file that an error names, which is removed."""
    path = Path(message.rpartition(" ")[2])
    found = lines(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    return found


class Large:
    """Answers that come together, of 60 KB each: more than the room that was kept for them."""

    def __init__(self, batch, together=8):
        self._batch = batch
        self._together = threading.Barrier(together)

    def __call__(self, request):
        if len(self._batch.chat.requests) <= 8:
            self._together.wait(120)
        return replies.ok("x" * 60_000)


def test_a_full_disk_stops_the_batch_and_loses_no_answer(batch, small_disk, tmp_path):
    batch.texts(200)
    batch.chat.default = replies.ok("x" * 4000)
    batch.output = small_disk / "out"
    error = batch.error(max_concurrency=8, output=str(batch.output))
    assert isinstance(error, StoreError)
    assert "Make room, then run the task again" in error.message
    assert not error.final
    assert len(batch.results) == len(batch.chat.requests) < 200
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert batch.run(output=str(batch.output))["succeeded"] == 200
    assert max(batch.times.values()) == 1


def test_answers_for_which_even_the_reserve_is_too_small_are_kept_elsewhere(batch, small_disk):
    batch.texts(48)
    batch.chat.default = Large(batch)
    batch.output = small_disk / "out"
    kept = spilled(ended(batch, max_concurrency=8, output=str(batch.output)))
    assert len(batch.results) + len(kept) == len(batch.chat.requests) < 48


def test_a_full_temporary_folder_is_passed_over_for_the_next_that_has_room(batch, small_disk, full_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    monkeypatch.setenv("TMPDIR", str(full_disk))
    batch.texts(48)
    batch.chat.default = Large(batch)
    batch.output = small_disk / "out"
    message = ended(batch, max_concurrency=8, output=str(batch.output))
    assert str(full_disk) not in message
    assert len(batch.results) + len(spilled(message)) == len(batch.chat.requests) < 48
    assert [path.name for path in full_disk.iterdir()] == ["full"]


def test_where_nothing_has_room_the_batch_ends_and_names_each_place_that_was_tried(
    batch, small_disk, full_disk, monkeypatch
):
    monkeypatch.setattr(store, "places", lambda: [full_disk])
    batch.texts(48)
    batch.chat.default = Large(batch)
    batch.output = small_disk / "out"
    message = ended(batch, max_concurrency=8, output=str(batch.output))
    assert f"it cannot be written (No space left on device): {batch.output}" in message
    assert f"{full_disk} (No space left on device)" in message
    lost = len(batch.chat.requests) - len(batch.results)
    assert f"{lost} lines were lost" in message
    manifest = batch.pushed["return_value"]
    assert manifest["succeeded"] == len(batch.results) > 0
    assert manifest["usage"]["total_tokens"] == 11 * len(batch.results)


def test_a_disk_that_answers_with_eio_ends_the_batch_and_loses_no_answer(batch, broken_disk):
    batch.texts(400)
    batch.chat.default = replies.ok("x" * 60_000)
    batch.output = broken_disk / "out"
    message = ended(batch, max_concurrency=8, output=str(batch.output))
    assert "Input/output error" in message or "Read-only file system" in message
    kept = {line["index"] for line in spilled(message)}
    assert kept
    assert len({line["index"] for line in batch.results} | kept) == len(batch.chat.requests) < 400


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "Input/output error"), MemoryError(), RuntimeError("a bug")])
def test_a_writer_that_fails_leaves_nobody_waiting(batch, failure, monkeypatch):
    def fail(file, content, size):
        if len(batch.chat.requests) > 10:
            raise failure
        write(file, content, size)

    write = local._write
    monkeypatch.setattr(local, "_write", fail)
    batch.texts(100)
    kept = spilled(ended(batch, max_concurrency=4))
    assert len(batch.results) + len(kept) == len(batch.chat.requests) < 30
    manifest = batch.pushed["return_value"]
    assert (manifest["succeeded"], manifest["missing"]) == (len(batch.results), 100 - len(batch.results))


def test_a_writer_and_a_spill_that_both_fail_leave_nobody_waiting(batch, monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(local, "_write", fail)
    monkeypatch.setattr(Spill, "keep", fail)
    batch.texts(100)
    assert str(batch.output) in ended(batch, max_concurrency=4)


def test_lines_that_were_kept_elsewhere_count_once_they_are_added_to_the_results(batch, small_disk):
    batch.texts(48)
    batch.chat.default = Large(batch)
    batch.output = small_disk / "out"
    path = Path(ended(batch, max_concurrency=8, output=str(batch.output)).rpartition(" ")[2])
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    with (batch.output / "results.jsonl").open("ab") as file:
        file.write(path.read_bytes())
    path.unlink()
    assert batch.run(output=str(batch.output))["succeeded"] == 48
    assert max(batch.times.values()) == 1


def test_another_try_on_the_same_machine_takes_up_what_was_kept_elsewhere(batch, small_disk):
    def refuse(request):
        return replies.error(400, "no") if prompt_of(request) == "row 3" else large(request)

    batch.texts(48)
    large = Large(batch, 7)
    batch.chat.default = refuse
    batch.output = small_disk / "out"
    path = Path(ended(batch, max_concurrency=8, output=str(batch.output), max_failures=None).rpartition(" ")[2])
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    batch.chat.default = replies.ok()
    manifest = batch.run(output=str(batch.output))
    assert not path.exists()
    assert manifest["succeeded"] == 48
    assert manifest["usage"]["total_tokens"] == 11 * 48
    assert [line["index"] for line in batch.results] == list(range(48))
    assert batch.errors == []
    assert {prompt for prompt, count in batch.times.items() if count > 1} == {"row 3"}


def test_while_the_output_has_no_room_nothing_is_sent_and_spilled_lines_stay(batch, small_disk):
    batch.texts(48)
    batch.chat.default = Large(batch)
    batch.output = small_disk / "out"
    path = Path(ended(batch, max_concurrency=8, output=str(batch.output)).rpartition(" ")[2])
    asked, kept = len(batch.chat.requests), path.read_bytes()
    ended(batch, max_concurrency=8, output=str(batch.output))
    assert (len(batch.chat.requests), path.read_bytes()) == (asked, kept)
    path.unlink()


def test_another_batch_in_the_same_folder_takes_nothing_up(batch, small_disk):
    batch.texts(48)
    batch.chat.default = Large(batch)
    batch.output = small_disk / "out"
    path = Path(ended(batch, max_concurrency=8, output=str(batch.output)).rpartition(" ")[2])
    batch.texts(2)
    batch.chat.default = replies.ok("small")
    batch.run(output=str(batch.output), on_changed="restart")
    assert [line["response"] for line in batch.results] == ["small", "small"]
    path.unlink()


def test_a_link_that_somebody_put_there_is_not_followed(batch, tmp_path):
    batch.texts(2)
    batch.run()
    identity = json.loads((batch.output / "batch.json").read_text())["id"]
    (tmp_path / "theirs.jsonl").write_text("theirs")
    link = Path(tempfile.gettempdir()) / f"chat-batch-{identity}-x.jsonl"
    link.symlink_to(tmp_path / "theirs.jsonl")
    try:
        batch.run()
        assert link.is_symlink()
    finally:
        link.unlink()
    assert (tmp_path / "theirs.jsonl").read_text() == "theirs"


def test_an_output_that_is_removed_while_it_is_written_ends_the_batch(batch):
    def answer(request):
        if len(batch.chat.requests) == 5:
            batch.output.rename(gone)
        return replies.ok()

    gone = batch.output.with_name("gone")
    batch.texts(50)
    batch.chat.default = answer
    message = ended(batch, max_concurrency=1)
    assert "was removed or emptied" in message
    found = lines(gone / "results.jsonl") + spilled(message)
    assert len(found) == len(batch.chat.requests) < 10


def test_a_full_disk_before_the_first_request_may_be_retried(batch, small_disk):
    batch.texts(1)
    batch.output = small_disk / "out"
    batch.run(output=str(batch.output))
    fill(small_disk)
    ended(batch, output=str(batch.output))
    (small_disk / "full").unlink()
    assert batch.run(output=str(batch.output))["succeeded"] == 1
    assert len(batch.chat.requests) == 1


def test_lines_that_come_after_a_file_was_taken_up_go_to_a_new_one(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "places", lambda: [tmp_path])
    kept = Spill()
    kept.batch = "abc"
    kept.keep([b"first\n"])
    (path,) = kept.earlier()
    with store.taking_up(path) as found:
        assert found == [b"first\n"]
    kept.keep([b"second\n"])
    (path,) = kept.earlier()
    assert path.read_bytes() == b"second\n"


def test_a_spilled_file_stays_if_taking_it_up_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "places", lambda: [tmp_path])
    kept = Spill()
    kept.batch = "abc"
    kept.keep([b"first\n"])
    (path,) = kept.earlier()
    with pytest.raises(ZeroDivisionError), store.taking_up(path):
        raise ZeroDivisionError
    assert kept.earlier() == [path]


@pytest.mark.parametrize("batch_id", ["", "../../etc", "*", "a/b", "a b"])
def test_a_batch_id_that_is_not_alphanumeric_finds_no_files(tmp_path, monkeypatch, batch_id):
    monkeypatch.setattr(store, "places", lambda: [tmp_path])
    kept = Spill()
    kept.batch = batch_id
    kept.keep([b"first\n"])
    assert len(list(tmp_path.iterdir())) == 1
    assert kept.earlier() == []


class TestPlaces:
    def test_lines_go_to_temporary_folders_airflows_the_current_one_then_memory(self, tmp_path, monkeypatch):
        for name in ("temporary", "airflow", "current"):
            (tmp_path / name).mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
        monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
        monkeypatch.chdir(tmp_path / "current")
        monkeypatch.setattr(tempfile, "tempdir", None)
        found = store.places()
        assert found[0] == tmp_path / "temporary"
        assert found[-3:-1] == [tmp_path / "airflow", tmp_path / "current"]
        assert found[-1] == Path("/dev/shm")

    def test_a_missing_folder_is_not_a_place(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
        monkeypatch.setenv("AIRFLOW_HOME", "~nobody-has-this-name/airflow")
        monkeypatch.chdir(tmp_path)
        assert all(place.is_dir() for place in store.places())

    def test_lines_that_fit_are_kept_where_others_do_not(self, small_disk, full_disk, monkeypatch):
        monkeypatch.setattr(store, "places", lambda: [full_disk, small_disk])
        kept = Spill()
        kept.keep([b"a" * 100_000 + b"\n", b"b" * 100_000 + b"\n", b"c" * 100_000 + b"\n"])
        (path,) = small_disk.iterdir()
        assert path.read_bytes() == b"a" * 100_000 + b"\n" + b"b" * 100_000 + b"\n"
        told = kept.summary()
        assert "1 line was lost" in told
        assert str(path) in told
        assert os.fspath(full_disk) in told
