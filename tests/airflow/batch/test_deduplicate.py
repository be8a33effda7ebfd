"""Equal requests of one batch, which are asked once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_chat_provider.testing import replies
from tests.support.batching import Batch, prompt_of


def test_equal_requests_are_asked_once_and_each_row_gets_its_line(batch: Batch) -> None:
    batch.chat.default = lambda request: replies.ok(f"echo of {prompt_of(request)}")
    batch.write(*({"custom_id": f"r{index}", "text": text} for index, text in enumerate("abaab")))
    manifest = batch.run(deduplicate=True)
    assert batch.asked == ["a", "b"]
    assert [(line["id"], line["response"], line.get("same_as")) for line in batch.results] == [
        ("r0", "echo of a", None),
        ("r1", "echo of b", None),
        ("r2", "echo of a", 0),
        ("r3", "echo of a", 0),
        ("r4", "echo of b", 1),
    ]
    assert (manifest["succeeded"], manifest["reused"], manifest["deduplicated"]) == (5, 0, 3)
    assert (manifest["usage"]["requests"], manifest["usage"]["total_tokens"]) == (2, 22)


def test_rows_share_the_failure_of_an_equal_request_and_the_next_try_asks_once_again(batch: Batch) -> None:
    batch.chat.default = replies.error(400, "no")
    batch.write(*({"text": text} for text in "aab"))
    manifest = batch.run(deduplicate=True, max_failures=None)
    assert (manifest["failed"], manifest["missing"]) == ({"StatusError 400": 3}, 0)
    assert batch.asked == ["a", "b"]
    assert [line.get("same_as") for line in batch.errors] == [None, 0, None]
    batch.chat.default = replies.ok("yes")
    manifest = batch.run(deduplicate=True)
    assert batch.asked == ["a", "a", "b", "b"]
    assert (manifest["succeeded"], manifest["deduplicated"], manifest["usage"]["requests"]) == (3, 1, 2)
    assert batch.errors == []


def test_without_the_argument_equal_requests_are_each_asked(batch: Batch) -> None:
    batch.write({"text": "a"}, {"text": "a"})
    assert batch.run()["deduplicated"] == 0
    assert batch.asked == ["a", "a"]


def test_rows_that_wait_take_up_no_slot(batch: Batch) -> None:
    batch.write(*({"text": "a"} for _ in range(50)), {"text": "b"})
    batch.chat.script(replies.delay(0.5, replies.ok()))
    assert batch.run(deduplicate=True, max_concurrency=2)["deduplicated"] == 49
    assert batch.asked == ["a", "b"]


def test_an_earlier_answer_of_the_batch_itself_is_taken_and_marked(batch: Batch) -> None:
    batch.write({"text": "a"}, {"text": "b"}, {"text": "a"})
    batch.chat.script(replies.ok("one"), replies.error(401, "who are you?"))
    batch.error(deduplicate=True, max_concurrency=1)
    assert [line["index"] for line in batch.results] == [0]
    batch.chat.default = replies.ok("two")
    manifest = batch.run(deduplicate=True)
    assert [(line["response"], line.get("same_as")) for line in batch.results] == [
        ("one", None),
        ("two", None),
        ("one", 0),
    ]
    assert (manifest["deduplicated"], manifest["usage"]["requests"]) == (1, 2)
    assert batch.times["a"] == 1


def test_a_batch_that_was_begun_without_it_can_go_on_with_it(batch: Batch) -> None:
    batch.write({"text": "a"}, {"text": "a"}, {"text": "b"}, {"text": "a"})
    batch.chat.script(replies.ok("one"), replies.ok("two"), replies.error(401, "who are you?"))
    batch.error(max_concurrency=1)
    assert batch.run(deduplicate=True)["deduplicated"] == 1
    assert [(line["response"], line.get("same_as")) for line in batch.results] == [
        ("one", None),
        ("two", None),
        ("Hello", None),
        ("one", 0),
    ]


def test_what_was_copied_stays_counted_in_the_next_try(batch: Batch) -> None:
    batch.write({"text": "a"}, {"text": "a"}, {"text": "b"})
    batch.chat.default = lambda request: replies.error(400, "no") if prompt_of(request) == "b" else replies.ok()
    first = batch.run(deduplicate=True, max_failures=None)
    second = batch.run(deduplicate=True, max_failures=None)
    assert first["deduplicated"] == second["deduplicated"] == 1
    assert first["usage"]["total_tokens"] == second["usage"]["total_tokens"] == 11
    assert second["usage"]["requests"] == 1


def test_a_failure_is_shared_as_final_as_it_is(batch: Batch) -> None:
    batch.write(*({"text": "a"} for _ in range(20)))
    batch.chat.default = replies.error(400, "no")
    error = batch.error(deduplicate=True, max_failures=10)
    assert error.final
    assert batch.asked == ["a"]
    lines = {line["index"]: line for line in batch.errors}
    assert {key: lines[5][key] for key in ("error", "asked", "same_as")} == {
        "error": lines[0]["error"],
        "asked": 0,
        "same_as": 0,
    }


def test_an_answer_of_an_earlier_batch_comes_first(batch: Batch) -> None:
    batch.write({"text": "a"}, {"text": "b"}, {"text": "a"}, {"text": "b"})
    batch.run(output=f"{batch.output}-before", shard="0:1")
    manifest = batch.run(reuse=f"{batch.output}-before", deduplicate=True)
    assert (manifest["reused"], manifest["deduplicated"]) == (2, 1)
    assert batch.asked == ["a", "b"]


def test_lines_of_a_batch_file_take_each_others_answers_and_failures(batch: Batch) -> None:
    def line(name: str, text: str) -> dict[str, object]:
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}

    batch.write(line("a1", "a"), line("a2", "a"), line("b1", "b"), line("b2", "b"))
    batch.chat.default = lambda request: replies.error(400, "no") if prompt_of(request) == "b" else replies.ok()
    manifest = batch.run(prompt=None, result_format="raw", deduplicate=True, max_failures=None)
    assert (manifest["succeeded"], manifest["failed"]) == (2, {"StatusError 400": 2})
    first, second = batch.results
    assert second == {**first, "index": 1, "id": "batch_req_1", "custom_id": "a2", "same_as": 0}
    first, second = batch.errors
    assert (second["response"], second["custom_id"], second["same_as"]) == (first["response"], "b2", 2)


def test_it_works_in_an_object_store(batch: Batch, store: Path) -> None:
    batch.write(*({"text": text} for text in "abaab"))
    there = f"memory://{batch.output.parent.name}/out"
    assert batch.run(output=there, deduplicate=True, part_rows=1)["deduplicated"] == 3
    assert batch.asked == ["a", "b"]


def test_an_incomplete_answer_fails_all_its_rows_if_such_rows_fail(batch: Batch) -> None:
    batch.write({"text": "a"}, {"text": "a"})
    batch.chat.script(replies.ok("cut", finish_reason="length"))
    manifest = batch.run(deduplicate=True, on_incomplete="fail", max_failures=None)
    assert manifest["failed"] == {"IncompleteReply 200": 2}
    assert (manifest["usage"]["requests"], manifest["usage"]["total_tokens"]) == (1, 11)


def test_rows_share_the_failure_of_this_try_not_of_an_earlier_one(batch: Batch) -> None:
    batch.write({"text": "a"}, {"text": "a"})
    batch.chat.script(replies.error(400, "first"), replies.error(422, "second"))
    assert batch.run(deduplicate=True, max_failures=None)["failed"] == {"StatusError 400": 2}
    assert batch.run(deduplicate=True, max_failures=None)["failed"] == {"StatusError 422": 2}
    assert [line["error"]["status"] for line in batch.errors] == [422, 422]


@pytest.mark.slow
def test_equal_requests_are_paid_for_once_whenever_the_process_is_killed(batch: Batch, project: Path) -> None:
    chance, texts = random.Random(16), 60
    batch.write(*({"text": f"row {index % texts}"} for index in range(600)))
    batch.chat.default = lambda _: replies.delay(0.05, replies.ok())
    command = [
        sys.executable,
        "-m",
        "tests.support.one_try",
        str(batch.input),
        str(batch.output),
        "4",
        "",
        "deduplicate",
    ]
    kills = 8
    for _ in range(kills):
        seen = len(batch.chat.requests)
        with subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            batch.chat.wait_requests(seen + chance.randint(1, 12), 20)
            process.send_signal(signal.SIGKILL)
    manifest = batch.run(deduplicate=True)
    assert manifest["succeeded"] == 600
    assert manifest["usage"]["requests"] == texts == 600 - manifest["deduplicated"]
    assert [line["index"] for line in batch.results] == list(range(600))
    assert sum(batch.times.values()) - texts <= kills * 4
