"""Answers of earlier batches, which are not bought again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.results import read_results
from airflow_chat_provider.testing import ChatServer, replies
from tests.support.batching import Batch, prompt_of

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.fixture
def earlier(tmp_path: Path, chat: ChatServer) -> Batch:
    """A batch that has not run yet, whose input is three rows. Its server answers with what it was asked."""
    chat.default = lambda request: replies.ok(f"echo of {prompt_of(request)}")
    (tmp_path / "earlier").mkdir()
    made = Batch(tmp_path / "earlier", chat)
    made.write(*({"custom_id": f"old-{index}", "text": f"row {index}"} for index in range(3)))
    return made


@pytest.fixture
def ran(earlier: Batch) -> Batch:
    """The same; it has run, and the server's requests are counted from now on."""
    earlier.run()
    earlier.chat.requests.clear()
    return earlier


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """The messages of the log that hold a text."""
    caplog.set_level("INFO", "airflow_chat_provider")
    return lambda part: [record.getMessage() for record in caplog.records if part in record.getMessage()]


def rewrite(batch: Batch, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change each line of the results."""
    file = batch.output / "results.jsonl"
    found = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(f"{json.dumps(change(line))}\n" for line in found))


def test_only_what_changed_is_asked_for(batch: Batch, ran: Batch) -> None:
    batch.write({"custom_id": "new-1", "text": "row 1"}, {"custom_id": "b", "text": "other"}, {"text": "row 0"})
    manifest = batch.run(reuse=str(ran.output))
    assert batch.asked == ["other"]
    assert [(line["id"], line["row"]["text"], line["response"], line.get("reused")) for line in batch.results] == [
        ("new-1", "row 1", "echo of row 1", True),
        ("b", "other", "echo of other", None),
        ("row-2", "row 0", "echo of row 0", True),
    ]
    assert (manifest["succeeded"], manifest["reused"], manifest["deduplicated"]) == (3, 2, 0)
    assert (manifest["usage"]["requests"], manifest["usage"]["total_tokens"]) == (1, 11)


def test_what_is_reused_does_not_count_against_limits(batch: Batch, ran: Batch) -> None:
    batch.texts(3)
    assert batch.run(reuse=str(ran.output), max_total_tokens=1)["reused"] == 3


def test_without_the_argument_each_row_is_asked_for(batch: Batch, ran: Batch) -> None:
    batch.texts(3)
    assert batch.run()["reused"] == 0
    assert len(batch.asked) == 3


def test_an_answer_that_was_reused_can_be_reused_again(batch: Batch, ran: Batch, tmp_path: Path) -> None:
    batch.texts(3)
    batch.run(reuse=str(ran.output))
    third = batch.run(reuse=str(batch.output), output=str(tmp_path / "third"))
    assert (third["reused"], third["usage"]["requests"]) == (3, 0)
    assert batch.asked == []


def test_another_try_counts_what_was_reused_and_that_it_took_nothing(batch: Batch, ran: Batch) -> None:
    batch.write({"text": "row 0"}, {"text": "refused"}, {"text": "row 2"})
    batch.chat.script(replies.error(400, "no"))
    first = batch.run(reuse=str(ran.output), max_failures=None)
    assert (first["succeeded"], first["reused"], first["usage"]["requests"]) == (2, 2, 0)
    second = batch.run(reuse=str(ran.output))
    assert (second["succeeded"], second["reused"], second["missing"]) == (3, 2, 0)
    assert (second["usage"]["requests"], second["usage"]["total_tokens"]) == (1, 11)
    assert batch.asked == ["refused", "refused"]


def test_what_a_row_took_itself_before_it_found_an_answer_stays_counted(batch: Batch, earlier: Batch) -> None:
    unfit = {"response_schema": SCHEMA, "result_format": "json", "output_retries": 0}
    batch.write({"text": "row 0"})
    batch.chat.script(replies.ok("not JSON"))
    assert batch.run(max_failures=None, **unfit)["usage"]["total_tokens"] == 11
    batch.chat.default = replies.ok('{"a": "b"}')
    earlier.run(**unfit)
    manifest = batch.run(reuse=str(earlier.output), **unfit)
    assert (manifest["succeeded"], manifest["reused"], manifest["usage"]["total_tokens"]) == (1, 1, 11)
    assert batch.run(reuse=str(earlier.output), **unfit)["usage"]["total_tokens"] == 11
    (line,) = batch.results
    assert (line["response"], line["usage"]["total_tokens"]) == ({"a": "b"}, 11)


@pytest.mark.parametrize("result_format", ["raw", "message", "text"])
def test_each_result_format_is_reused_as_it_was_kept(batch: Batch, earlier: Batch, result_format: str) -> None:
    batch.texts(3)
    earlier.run(result_format=result_format)
    manifest = batch.run(result_format=result_format, reuse=str(earlier.output))
    assert (manifest["reused"], manifest["usage"]["requests"], manifest["usage"]["total_tokens"]) == (3, 0, None)
    assert [line["response"] for line in batch.results] == [line["response"] for line in earlier.results]


def test_lines_of_a_batch_file_are_reused(batch: Batch, earlier: Batch) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    whole = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    as_they_are = {"prompt": None, "result_format": "raw"}
    earlier.write(whole)
    earlier.run(**as_they_are)
    batch.write({**whole, "custom_id": "b"})
    manifest = batch.run(reuse=str(earlier.output), **as_they_are)
    assert len(batch.chat.requests) == 1
    (old,), (new,) = earlier.results, batch.results
    assert new == {**old, "custom_id": "b", "reused": True}
    assert (manifest["reused"], manifest["usage"]["total_tokens"]) == (1, None)
    assert batch.run(reuse=str(earlier.output), **as_they_are)["usage"]["total_tokens"] is None


def test_an_answer_is_kept_under_the_key_that_this_batch_wants(batch: Batch, earlier: Batch) -> None:
    earlier.run(response_key="label")
    batch.texts(1)
    batch.run(response_key="mood", keep_row=False, reuse=str(earlier.output))
    (line,) = batch.results
    assert {key: line[key] for key in line if key != "digest"} == {
        "index": 0,
        "id": "row-0",
        "mood": "echo of row 0",
        "usage": None,
        "reused": True,
    }


def test_folders_may_be_a_list_with_manifests_and_with_what_an_upstream_task_did_not_leave(
    batch: Batch, ran: Batch, tmp_path: Path
) -> None:
    other = Batch(tmp_path, batch.chat)
    other.write({"text": "other"})
    manifest = other.run(output=str(tmp_path / "second"))
    batch.chat.requests.clear()
    batch.write({"text": "row 0"}, {"text": "other"})
    assert batch.run(reuse=[None, "", str(ran.output), manifest])["reused"] == 2
    assert batch.asked == []


@pytest.mark.parametrize("nothing", [None, "", []], ids=["none", "empty", "list"])
def test_on_the_first_day_there_may_be_nothing_to_reuse(batch: Batch, nothing: object) -> None:
    batch.texts(1)
    assert batch.run(reuse=nothing)["reused"] == 0


def test_the_shards_of_a_batch_are_one_folder(batch: Batch, earlier: Batch) -> None:
    for shard in ("1/2", "2/2"):
        earlier.run(shard=shard)
    batch.chat.requests.clear()
    batch.texts(3)
    assert batch.run(reuse=str(earlier.output))["reused"] == 3
    assert batch.asked == []


def test_a_shard_takes_the_answers_of_the_whole_batch_before(batch: Batch, ran: Batch) -> None:
    batch.texts(3)
    assert batch.run(shard="2/2", reuse=str(ran.output))["reused"] == 1


def test_its_own_output_is_left_out(batch: Batch, ran: Batch) -> None:
    batch.texts(3)
    batch.run(reuse=f"{ran.output}/../out/")
    manifest = batch.run(reuse=[str(ran.output), f"{batch.output}/"])
    assert (manifest["reused"], manifest["missing"]) == (3, 0)


def test_results_that_were_reused_are_read_back_like_others(batch: Batch, ran: Batch) -> None:
    batch.texts(3)
    manifest = batch.run(reuse=str(ran.output))
    assert [line["response"] for line in read_results(manifest, ordered=True)] == [
        f"echo of row {index}" for index in range(3)
    ]


class TestWhatIsNotReused:
    def test_a_row_that_failed(self, batch: Batch, earlier: Batch) -> None:
        batch.chat.script(replies.error(400, "no"))
        earlier.run(max_failures=None, max_concurrency=1)
        batch.chat.requests.clear()
        batch.texts(3)
        assert batch.run(reuse=str(earlier.output))["reused"] == 2
        assert batch.asked == ["row 0"]

    def test_a_failure_that_somebody_has_joined_to_the_results(self, batch: Batch, ran: Batch) -> None:
        rewrite(ran, lambda line: {**line, "asked": 1} if line["index"] == 0 else line)
        batch.texts(3)
        assert batch.run(reuse=str(ran.output))["reused"] == 2
        assert batch.asked == ["row 0"]

    def test_another_prompt_or_parameter(self, batch: Batch, ran: Batch) -> None:
        batch.texts(3)
        batch.run(reuse=str(ran.output), request={"temperature": 0})
        assert len(batch.asked) == 3

    def test_the_answer_of_another_server(self, batch: Batch, ran: Batch, connect: Callable[..., str]) -> None:
        connect(**{**batch.chat.connection, "host": batch.chat.url.replace("127.0.0.1", "localhost")})
        batch.texts(3)
        assert batch.run(reuse=str(ran.output))["reused"] == 0

    def test_an_answer_to_a_file_that_has_changed(self, batch: Batch, earlier: Batch, tmp_path: Path) -> None:
        files = [tmp_path / f"{index}.txt" for index in range(2)]
        for file in files:
            file.write_text("one")
        rows = [{"text": "What is this?", "file": str(file)} for file in files]
        given = {"attachments": ["{{ row.file }}"], "result_format": "raw"}
        batch.chat.default = replies.ok()
        earlier.write(*rows)
        earlier.run(**given)
        batch.chat.requests.clear()
        files[0].write_text("two")
        os.utime(files[0], ns=(1, 1))
        batch.write(*rows)
        assert batch.run(reuse=str(earlier.output), **given)["reused"] == 1
        (request,) = batch.chat.requests
        assert "two" in str(request.json)

    def test_an_incomplete_answer_if_such_rows_fail(self, batch: Batch, earlier: Batch) -> None:
        batch.chat.script(replies.ok("cut", finish_reason="length"))
        earlier.run(max_concurrency=1)
        batch.texts(3)
        assert batch.run(reuse=str(earlier.output))["incomplete"] == 1
        batch.chat.requests.clear()
        manifest = batch.run(reuse=str(earlier.output), on_incomplete="fail", on_changed="restart")
        assert (manifest["reused"], manifest["incomplete"]) == (2, 0)
        assert batch.asked == ["row 0"]

    def test_an_answer_that_a_class_would_refuse_now(
        self, batch: Batch, earlier: Batch, told: Callable[[str], list[str]]
    ) -> None:
        allowed = ["x", "y"]

        class Answer(BaseModel):
            a: str

            @field_validator("a")
            @classmethod
            def known(cls, value: str) -> str:
                assert value in allowed
                return value

        given: dict[str, Any] = {"response_schema": Answer, "result_format": "json"}
        batch.chat.script(replies.ok('{"a": "x"}'), replies.ok('{"a": "y"}'), replies.ok('{"a": "x"}'))
        earlier.run(max_concurrency=1, **given)
        batch.chat.requests.clear()
        allowed.remove("y")
        batch.chat.default = replies.ok('{"a": "x"}')
        batch.texts(3)
        assert batch.run(reuse=str(earlier.output), **given)["reused"] == 2
        assert batch.asked == ["row 1"]
        assert len(told("is asked for although its request was answered before")) == 1


class TestBadFolders:
    """Nothing is sent, and no output is made."""

    @pytest.fixture(autouse=True)
    def nothing_happens(self, batch: Batch, ran: Batch):
        batch.texts(3)
        yield
        assert batch.chat.requests == []
        assert not batch.output.exists()

    def test_one_that_is_missing(self, batch: Batch, tmp_path: Path) -> None:
        error = batch.error(reuse=str(tmp_path / "no"))
        assert isinstance(error, InvalidRequest)
        assert error.message.startswith(f"Correct reuse: '{tmp_path}/no' does not exist on this machine")
        assert error.path == "reuse"

    def test_a_file(self, batch: Batch, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("{}")
        assert "is a file on this machine" in batch.error(reuse=str(tmp_path / "file")).message

    def test_one_without_a_batch(self, batch: Batch, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert "holds no batch" in batch.error(reuse=str(tmp_path / "empty")).message

    @pytest.mark.parametrize("path", ["a\0b", "a\ud800b"], ids=ascii)
    def test_one_that_no_folder_can_have_as_its_name(self, batch: Batch, path: str) -> None:
        batch.texts(1)
        error = batch.error(reuse=path)
        assert isinstance(error, InvalidRequest)
        assert error.message.startswith("Correct reuse: ")

    @pytest.mark.parametrize("name", ["batch.json", "results.jsonl", "owner.json"])
    def test_somebody_elses(self, batch: Batch, tmp_path: Path, name: str) -> None:
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs" / name).write_text('{"their": "own"}\n')
        error = batch.error(reuse=str(tmp_path / "theirs"))
        assert error.message.startswith("Correct reuse: ")
        assert isinstance(error, InvalidRequest)

    def test_another_result_format(self, batch: Batch, ran: Batch) -> None:
        error = batch.error(reuse=str(ran.output), result_format="raw")
        assert error.message.startswith("Use result_format='text', or leave the folder out: ")
        assert "holds answers with 'text', and this batch wants 'raw'" in error.message

    def test_another_schema(self, batch: Batch, ran: Batch) -> None:
        error = batch.error(reuse=str(ran.output), response_schema=SCHEMA)
        assert error.message.startswith("Use the same response_schema, or leave the folder out: ")

    def test_answers_of_which_nobody_knows_whether_they_are_complete(self, batch: Batch, ran: Batch) -> None:
        file = ran.output / "batch.json"
        file.write_text(file.read_text().replace('"on_incomplete": "warn"', '"on_incomplete": "ignore"'))
        assert batch.error(reuse=str(ran.output)).message.startswith("Use on_incomplete='ignore', or leave ")

    @pytest.mark.parametrize("given", [5, {"a": "b"}, [["/a"]]], ids=["number", "dict", "lists"])
    def test_what_is_no_folder(self, batch: Batch, given: object) -> None:
        with pytest.raises(InvalidRequest, match="reuse"):
            batch.task(reuse=given)


class TestHalfWrittenFolders:
    def test_what_an_unfinished_batch_has_answered_is_used(self, batch: Batch, earlier: Batch) -> None:
        batch.chat.script(replies.ok("yes"), replies.error(401, "who are you?"))
        earlier.error(max_concurrency=1)
        batch.chat.requests.clear()
        batch.texts(3)
        assert batch.run(reuse=str(earlier.output))["reused"] == 1
        assert batch.asked == ["row 1", "row 2"]

    def test_a_folder_without_any_result_is_of_no_use_and_does_no_harm(self, batch: Batch, earlier: Batch) -> None:
        batch.chat.script(replies.error(401, "who are you?"))
        earlier.error(max_concurrency=1)
        batch.texts(1)
        assert batch.run(reuse=str(earlier.output))["reused"] == 0

    def test_a_line_that_another_run_is_writing_is_left_out(
        self, batch: Batch, ran: Batch, told: Callable[[str], list[str]]
    ) -> None:
        file = ran.output / "results.jsonl"
        file.write_bytes(file.read_bytes()[:-30])
        batch.texts(3)
        assert batch.run(reuse=str(ran.output))["reused"] == 2
        assert told("are damaged") == []

    @pytest.mark.parametrize(
        "damage",
        [lambda line: b"\0" * len(line), lambda line: line[:20] + line[40:], lambda line: b'{"index": 0}'],
        ids=["zeros", "middle", "foreign"],
    )
    def test_damaged_lines_are_skipped_with_one_warning(
        self, batch: Batch, ran: Batch, damage: Callable[[bytes], bytes], told: Callable[[str], list[str]]
    ) -> None:
        file = ran.output / "results.jsonl"
        first, second, third = file.read_bytes().splitlines()
        file.write_bytes(b"\n".join([damage(first), damage(second), third, b""]))
        batch.texts(3)
        assert batch.run(reuse=str(ran.output))["reused"] == 1
        assert len(told("are damaged")) == 1

    def test_lines_whose_keys_somebody_has_put_in_another_order_are_used(self, batch: Batch, ran: Batch) -> None:
        rewrite(ran, lambda line: dict(sorted(line.items())))
        batch.texts(3)
        assert batch.run(reuse=str(ran.output))["reused"] == 3

    @pytest.mark.parametrize(
        "digest", [5, "", "é" * 32, "x" * 32, f"-{'f' * 31}"], ids=["number", "empty", "letters", "no_hex", "sign"]
    )
    def test_a_digest_that_is_none_is_of_no_use(self, batch: Batch, ran: Batch, digest: object) -> None:
        rewrite(ran, lambda line: {**line, "digest": digest})
        batch.texts(3)
        assert batch.run(reuse=str(ran.output))["reused"] == 0

    def test_a_line_without_its_answer_is_of_no_use(self, batch: Batch, ran: Batch) -> None:
        rewrite(ran, lambda line: {key: value for key, value in line.items() if key != "response"})
        batch.texts(3)
        assert batch.run(reuse=str(ran.output))["reused"] == 0

    def test_a_folder_of_an_older_version_is_named_in_a_warning(
        self, batch: Batch, ran: Batch, told: Callable[[str], list[str]]
    ) -> None:
        identity = json.loads((ran.output / "batch.json").read_text())
        (ran.output / "batch.json").write_text(json.dumps({**identity, "answers": None}))
        batch.texts(3)
        assert batch.run(reuse=str(ran.output))["reused"] == 0
        assert len(told("an older version")) == 1

    def test_a_batch_that_an_older_version_began_is_reused_where_this_one_went_on(
        self, batch: Batch, earlier: Batch
    ) -> None:
        batch.chat.script(replies.ok("yes"), replies.error(401, "who are you?"))
        earlier.error(max_concurrency=1)
        identity = json.loads((earlier.output / "batch.json").read_text())
        del identity["answers"]
        (earlier.output / "batch.json").write_text(json.dumps(identity))
        rewrite(earlier, lambda line: {key: value for key, value in line.items() if key != "digest"})
        earlier.run()
        batch.texts(3)
        assert batch.run(reuse=str(earlier.output))["reused"] == 2


class TestManyRows:
    def test_rows_that_changed_at_the_end_are_asked_for_and_every_row_has_one_line(
        self, batch: Batch, earlier: Batch
    ) -> None:
        count, new = 4500, 70
        (earlier.output).parent.mkdir(exist_ok=True)
        earlier.write({"text": "row 0"})
        earlier.run()
        _pretend(earlier, [f"row {index}" for index in range(count - new)])
        batch.chat.requests.clear()
        batch.texts(count)
        manifest = batch.run(reuse=str(earlier.output))
        assert (manifest["succeeded"], manifest["reused"]) == (count, count - new)
        assert [line["index"] for line in batch.results] == list(range(count))
        assert len(batch.asked) == new


def _pretend(batch: Batch, prompts: list[str]) -> None:
    """Let the batch have answered these prompts."""
    from airflow_chat_provider.batch.digests import digest_of

    file = batch.output / "results.jsonl"
    (line,) = batch.results
    request = batch.chat.requests[-1].json
    with file.open("w") as out:
        for index, prompt in enumerate(prompts):
            asked = {**request, "messages": [{"role": "user", "content": prompt}]}
            line |= {"index": index, "id": f"row-{index}", "digest": digest_of(batch.chat.url, asked)}
            out.write(json.dumps(line, separators=(",", ":")) + "\n")


@pytest.mark.slow
def test_each_row_has_one_line_and_nothing_is_bought_again_whenever_the_process_is_killed(
    batch: Batch, earlier: Batch, project: Path
) -> None:
    chance, count, kills = random.Random(16), 1200, 6
    earlier.texts(count // 2)
    earlier.run()
    batch.chat.requests.clear()
    batch.texts(count)
    batch.chat.default = lambda _: replies.delay(0.02, replies.ok())
    paths = [str(path) for path in (batch.input, batch.output, earlier.output)]
    command = [sys.executable, "-m", "tests.support.one_try", *paths[:2], "4", "", "", paths[2]]
    for _ in range(kills):
        seen = len(batch.chat.requests)
        with subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            batch.chat.wait_requests(seen + chance.randint(1, 40), 20)
            process.send_signal(signal.SIGKILL)
    manifest = batch.run(reuse=str(earlier.output))
    assert (manifest["succeeded"], manifest["reused"]) == (count, count // 2)
    assert manifest["usage"]["requests"] == count // 2
    assert [line["index"] for line in batch.results] == list(range(count))
    assert len(batch.asked) - count // 2 <= kills * 4
    assert not set(batch.asked) & {f"row {index}" for index in range(count // 2)}


def test_answers_that_find_no_room_end_the_batch_and_are_there_for_the_next_try(
    batch: Batch, earlier: Batch, small_disk: Path, tmp_path: Path
) -> None:
    batch.chat.default = replies.ok("x" * 10_000)
    earlier.texts(50)
    earlier.run()
    batch.chat.requests.clear()
    batch.texts(50)
    error = batch.error(reuse=str(earlier.output), output=str(small_disk / "out"))
    assert str(small_disk) in error.message
    manifest = batch.run(reuse=str(earlier.output))
    assert (manifest["succeeded"], manifest["reused"], batch.asked) == (50, 50, [])


class TestObjectStore:
    def test_folders_may_lie_in_an_object_store(
        self, batch: Batch, earlier: Batch, store: Path, tmp_path: Path
    ) -> None:
        there = f"memory://{tmp_path.name}"
        manifest = earlier.run(output=f"{there}/one", part_rows=1)
        for shard in ("1/2", "2/2"):
            earlier.run(output=f"{there}/two", shard=shard, prompt="and {{ row.text }}")
        batch.chat.requests.clear()
        batch.write({"text": "row 0"}, {"text": "and row 0"}, {"text": "and row 1"}, {"text": "new"})
        given = [manifest, f"{there}/two/"]
        found = batch.run(output=f"{there}/three", reuse=given)
        assert (found["succeeded"], found["reused"]) == (4, 3)
        assert batch.asked == ["new"]
        assert batch.run(output=f"{there}/three", reuse=[*given, f"{there}/three"])["reused"] == 3

    def test_one_that_is_missing_there_is_an_error(self, batch: Batch, store: Path) -> None:
        batch.texts(1)
        assert "holds no batch" in batch.error(reuse="memory://nowhere/at/all").message
        assert batch.asked == []
