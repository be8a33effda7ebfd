"""One run at a time writes to a folder: by a lock, and where that does not reach, by a mark."""

import errno
import json
import threading
import time
from pathlib import Path

import pytest

from airflow_chat_provider.batch.files import StoreError
from airflow_chat_provider.batch.output import local
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.testing import replies


def test_an_owner_file_of_something_else_is_left_alone(batch):
    batch.texts(1)
    batch.output.mkdir()
    (batch.output / "owner.json").write_text('{"their": "own"}')
    error = batch.error()
    assert isinstance(error, InvalidRequest)
    assert "name another folder" in error.message
    assert (batch.output / "owner.json").read_text() == '{"their": "own"}'


def test_a_killed_run_that_had_marked_the_folder_does_not_block_the_next(batch):
    batch.texts(1)
    batch.run()
    for name in ("batch.json", "manifest.json", "results.jsonl", "errors.jsonl"):
        (batch.output / name).unlink()
    assert batch.run()["succeeded"] == 1


class TestWithoutLocks:
    """Two runs on one folder where no lock keeps the second out, as on a network file system without them."""

    @pytest.fixture(autouse=True)
    def no_locks(self, monkeypatch):
        def refuse(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", refuse)

    def test_a_single_run_continues_with_a_warning(self, batch, caplog):
        batch.texts(3)
        assert batch.run()["succeeded"] == 3
        assert "has no locks" in caplog.text

    def test_the_first_ends_as_soon_as_a_second_begins_and_no_row_is_answered_twice_in_the_output(self, batch):
        ended = threading.Event()
        found = []

        def second():
            found.append(batch.run(max_concurrency=4))
            ended.set()

        def answer(request):
            time.sleep(0.01)
            with lock:
                if len(batch.chat.requests) >= 50 and not begun:
                    begun.append(threading.Thread(target=second))
                    begun[0].start()
            return replies.ok()

        lock, begun = threading.Lock(), []
        batch.texts(200)
        batch.chat.default = answer
        error = batch.error(max_concurrency=4)
        assert isinstance(error, StoreError)
        assert not error.final
        assert "Let one run end before the next one begins: another run (process" in error.message
        assert ended.wait(180)
        assert found[0]["succeeded"] == 200
        assert [line["index"] for line in batch.results] == list(range(200))
        assert len(batch.chat.requests) <= 200 + 2 * 4  # what was under way when the mark changed, and when it was seen
        Path(error.message.rpartition(" ")[2]).unlink(missing_ok=True)  # else the second has taken it up
        manifest = json.loads((batch.output / "manifest.json").read_text())
        assert manifest["succeeded"] == 200

    def test_if_two_runs_begin_at_once_one_sends_nothing(self, batch, monkeypatch):
        def claim(store):
            works(store)
            (batch.output / "owner.json").write_text("another")

        works = local.LocalStore.claim
        monkeypatch.setattr(local.LocalStore, "claim", claim)
        batch.texts(3)
        assert isinstance(batch.error(), StoreError)
        assert batch.chat.requests == []

    def test_the_run_that_ends_leaves_the_files_of_the_other_alone(self, batch):
        def answer(request):
            (batch.output / "owner.json").write_text("another")  # nothing is stored from here on
            return replies.ok()

        batch.texts(3)
        batch.chat.script(replies.error(400, "no"))
        batch.run(max_concurrency=1, max_failures=None)
        before = {path.name: path.read_bytes() for path in batch.output.iterdir()}
        (batch.output / "results.jsonl").write_bytes(b"")
        batch.chat.default = answer
        error = batch.error(max_concurrency=1)
        Path(error.message.rpartition(" ")[2]).unlink()
        assert (batch.output / "errors.jsonl").read_bytes() == before["errors.jsonl"]
        assert (batch.output / "manifest.json").read_bytes() == before["manifest.json"]
        assert (batch.output / "results.jsonl").read_bytes() == b""

    def test_a_run_out_of_descriptors_writes_without_checking_the_mark(self, batch, monkeypatch):
        def read(path):
            if batch.chat.requests:
                raise OSError(errno.EMFILE, "Too many open files")
            return works(path)

        works = local._read
        monkeypatch.setattr(local, "_read", read)
        batch.texts(5)
        assert batch.run()["succeeded"] == 5
