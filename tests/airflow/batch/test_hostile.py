"""Rows and answers on which our own code fails: the row fails with what came for it, and the batch goes on."""

import os
import stat

import pytest
from pydantic import BaseModel

from airflow_chat_provider.batch import caller
from airflow_chat_provider.batch.output.lines import Shape
from airflow_chat_provider.batch.pace import Gate
from airflow_chat_provider.core.answer.dialogue import Dialogue
from airflow_chat_provider.core.call import exchange
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.testing import replies
from airflow_chat_provider.transport import server_memory


class Verdict(BaseModel):
    good: bool


class Bug(Exception):
    """Nobody expects it; its text is of the answer."""


LOOKERS = [(Dialogue, "take"), (Shape, "success"), (server_memory, "learn"), (Gate, "_learn"), (caller, "note_refusal")]


@pytest.mark.parametrize(("owner", "name"), LOOKERS, ids=[name for _, name in LOOKERS])
@pytest.mark.parametrize("error", [Bug("secret"), InvalidRequest("secret"), RecursionError("secret"), ValueError()])
def test_a_bug_met_by_one_answer_keeps_the_answer_and_does_not_stop_the_batch(batch, owner, name, error, monkeypatch):
    calls = 0

    def fail(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise error
        return works(*args, **kwargs)

    works = getattr(owner, name)
    monkeypatch.setattr(owner, name, fail)
    batch.texts(4)
    manifest = batch.run(max_concurrency=1, max_failures=1)
    assert (manifest["succeeded"], manifest["failed"]) == (3, {"InvalidOutput 200": 1})
    assert manifest["usage"]["total_tokens"] == 44
    (line,) = batch.errors
    assert line["body"] == replies.completion()
    assert (line["usage"]["total_tokens"], line["asked"]) == (11, 1)
    assert "secret" not in line["error"]["message"]
    assert batch.run()["succeeded"] == 4
    keys = [request.headers["idempotency-key"] for request in batch.chat.requests]
    assert len(keys) == len(set(keys)) == 5


def test_a_call_that_ends_in_a_bug_fails_its_row_alone(batch, monkeypatch):
    calls = 0

    def fail(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Bug("secret")
        return works(*args, **kwargs)

    works = exchange.exchange
    monkeypatch.setattr(caller, "exchange", fail)
    batch.texts(4)
    assert batch.run(max_concurrency=1, max_failures=1)["failed"] == {"ChatCompletionError": 1}
    assert "secret" not in batch.errors[0]["error"]["message"]
    assert batch.errors[0]["error"]["code"] == "Bug"


def test_an_answer_with_what_is_not_text_is_shown_to_the_model_again_as_text_and_counted(batch):
    batch.texts(2)
    batch.chat.script(replies.ok('{"good": "\ud83d"}'))
    batch.chat.default = replies.ok('{"good": true}')
    manifest = batch.run(response_schema=Verdict, result_format="json")
    assert (manifest["succeeded"], manifest["usage"]["total_tokens"]) == (2, 33)
    assert len(batch.chat.requests) == 3


class Odd:
    """A value of an upstream task's that has no text."""

    def __str__(self):
        raise Bug("secret")

    __repr__ = __str__


@pytest.mark.parametrize(
    "row",
    [
        {"text": "x", "custom_id": 10**5000},
        {"text": "x", "n": 10**5000},
        {"text": "x", "odd": Odd()},
        {"text": "x", "inside": [{"of": [Odd()]}]},
        {"text": "x", "half": "\ud800", "nan": float("nan")},
        {"text": "x", "bytes": b"\xff", 7: 8, None: 9, (1, 2): 3},
    ],
    ids=["id", "number", "object", "inside", "text", "keys"],
)
def test_a_row_of_an_upstream_task_that_json_cannot_hold_is_answered_and_its_answer_kept(batch, row):
    for _ in range(2):
        task = batch.task(input=[{}])
        task.input = [row, {"text": "y"}]  # as rendering leaves it
        assert batch.execute(task)["succeeded"] == 2
    assert batch.asked == ["x", "y"]
    assert [line["response"] for line in batch.results] == ["Hello", "Hello"]


def test_a_row_that_cannot_become_a_request_fails_alone(batch, monkeypatch):
    def fail(request, *args, **kwargs):
        if "row 1" in str(request):
            raise Bug("secret")
        return works(request, *args, **kwargs)

    works = server_memory.begin
    monkeypatch.setattr(server_memory, "begin", fail)
    batch.texts(3)
    assert batch.run(max_failures=1)["failed"] == {"InvalidRequest": 1}
    (line,) = batch.errors
    assert line["error"]["message"] == "Correct rows.jsonl:2: no request can be built from it (Bug)"
    assert line["asked"] == 0


class TestModes:
    @pytest.fixture(autouse=True)
    def umask(self):
        before = os.umask(0o022)
        yield
        os.umask(before)

    def modes(self, batch):
        return {path.name: stat.S_IMODE(path.stat().st_mode) for path in batch.output.iterdir()}

    def run(self, batch, **arguments):
        batch.texts(2)
        batch.chat.script(replies.ok(), replies.error(400, "no"))
        batch.run(max_concurrency=1, max_failures=None, **arguments)
        batch.run(**arguments)
        return self.modes(batch)

    def test_only_the_user_can_read_new_files(self, batch):
        seen = {}

        def answer(request):
            seen.update(self.modes(batch))
            return replies.ok()

        batch.chat.default = answer
        found = self.run(batch)
        assert set(found) == {"results.jsonl", "errors.jsonl", "manifest.json", "batch.json", "owner.json"}
        assert set(found.values()) == set(seen.values()) == {0o600}
        assert ".reserve" in seen

    @pytest.mark.parametrize(
        ("file_mode", "expected"), [(0o640, 0o640), ("0664", 0o664), ("0o600", 0o600), (None, 0o644)]
    )
    def test_file_mode_or_the_umask_decides(self, batch, file_mode, expected):
        assert set(self.run(batch, file_mode=file_mode).values()) == {expected}

    def test_existing_files_keep_their_mode(self, batch):
        batch.texts(2)
        batch.chat.script(replies.error(400, "no"))
        batch.run(max_concurrency=1, max_failures=None)
        for name in ("errors.jsonl", "manifest.json", "results.jsonl"):
            (batch.output / name).chmod(0o640)
        batch.run()
        assert {mode for name, mode in self.modes(batch).items() if name not in ("batch.json", "owner.json")} == {0o640}

    @pytest.mark.parametrize("file_mode", [640, "rw-r-----", 0o400, 0o755, True, -1, 1.5, "", "06400"])
    def test_a_wrong_file_mode_breaks_the_import(self, batch, file_mode):
        with pytest.raises(InvalidRequest) as caught:
            batch.task(file_mode=file_mode)
        assert caught.value.path == "file_mode"
