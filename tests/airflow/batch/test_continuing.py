"""Another try of a batch: what has a result is not asked for again, and every row ends with one line."""

import json

import pytest

from airflow_chat_provider.errors import InvalidRequest, StatusError
from airflow_chat_provider.testing import replies
from tests.support.batching import prompt_of


def refusing(*prompts):
    """A server that refuses these prompts."""
    return lambda request: replies.error(400, "no") if prompt_of(request) in prompts else replies.ok()


class TestAgain:
    def test_a_finished_batch_sends_nothing_more_and_returns_the_same_manifest(self, batch):
        batch.texts(3)
        first = batch.run()
        again = batch.run()
        assert batch.asked == ["row 0", "row 1", "row 2"]
        assert again["succeeded"] == first["succeeded"]
        assert again["usage"] == first["usage"] | {"seconds": again["seconds"]}

    def test_only_failed_and_missing_rows_are_asked_for(self, batch):
        batch.texts(10)
        batch.chat.default = refusing("row 3", "row 7")
        assert batch.run(max_failures=None)["failed"] == {"StatusError 400": 2}
        batch.chat.default = replies.ok()
        manifest = batch.run()
        assert (manifest["succeeded"], manifest["failed"], manifest["usage"]["total_tokens"]) == (10, {}, 110)
        assert {prompt: count for prompt, count in batch.times.items() if count > 1} == {"row 3": 2, "row 7": 2}
        assert [line["index"] for line in batch.results] == list(range(10))
        assert batch.errors == []

    def test_a_row_that_fails_again_has_one_line_the_last(self, batch):
        batch.texts(2)
        batch.chat.script(replies.error(400, "first"), replies.error(400, "first"))
        batch.run(max_failures=None)
        batch.chat.script(replies.error(400, "second"), replies.ok())
        batch.run(max_failures=None, max_concurrency=1)
        (line,) = batch.errors
        assert "second" in line["error"]["message"]
        assert len(batch.results) == 1

    def test_half_a_line_at_the_end_is_dropped_and_its_row_asked_for_again(self, batch):
        batch.texts(3)
        batch.run(max_concurrency=1)
        file = batch.output / "results.jsonl"
        file.write_bytes(file.read_bytes()[:-20])
        batch.run()
        assert batch.times == {"row 0": 1, "row 1": 1, "row 2": 2}
        assert [line["index"] for line in batch.results] == [0, 1, 2]

    def test_calls_that_may_be_the_same_share_their_key_and_others_do_not(self, batch):
        batch.texts(2)
        batch.chat.default = refusing("row 1")
        batch.run(max_failures=None)
        (batch.output / "results.jsonl").write_bytes(b"")  # as if it had been killed before anything was written
        batch.run(max_failures=None)
        keys: dict[str, list[str]] = {"row 0": [], "row 1": []}
        for request in batch.chat.requests:
            keys[prompt_of(request)].append(request.headers["idempotency-key"])
        assert len(set(keys["row 0"])) == 1
        assert len(set(keys["row 1"])) == 2

    def test_ids_of_earlier_runs_count_too(self, batch):
        batch.write({"custom_id": "a", "text": "1"}, {"custom_id": "b", "text": "2"})
        batch.run()
        batch.write({"custom_id": "a", "text": "1"}, {"custom_id": "b", "text": "2"}, {"custom_id": "a", "text": "3"})
        file = batch.output / "results.jsonl"
        kept = file.read_bytes()
        batch.run(on_changed="restart", max_failures=None)
        file.write_bytes(kept)
        batch.run(max_failures=None)
        assert "row 0 (counted from 0) has the same id" in batch.errors[0]["error"]["message"]


class TestChanged:
    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"prompt": "Other: {{ row.text }}"}, "request"),
            ({"model": "other"}, "request"),
            ({"result_format": "raw"}, "output"),
        ],
    )
    def test_another_request_is_an_error_that_says_so_before_anything_is_sent(self, batch, change, what):
        batch.texts(2)
        batch.run()
        error = batch.error(**change)
        assert isinstance(error, InvalidRequest)
        assert f"a different {what}" in error.message
        assert len(batch.chat.requests) == 2

    def test_another_input_is_an_error_that_says_so(self, batch):
        batch.texts(2)
        batch.run()
        batch.texts(3)
        assert "a different input" in batch.error().message

    def test_restart_begins_anew(self, batch):
        batch.texts(2)
        batch.run()
        batch.texts(3)
        assert batch.run(on_changed="restart")["succeeded"] == 3
        assert batch.times == {"row 0": 2, "row 1": 2, "row 2": 1}
        assert len(batch.results) == 3

    def test_restart_continues_if_nothing_changed(self, batch):
        batch.texts(2)
        batch.run()
        batch.run(on_changed="restart")
        assert len(batch.chat.requests) == 2


class TestFailures:
    def test_the_task_fails_over_max_failures_and_keeps_all_results(self, batch):
        batch.texts(20)
        batch.chat.default = refusing("row 1", "row 2")
        error = batch.error(max_failures="5%", max_concurrency=1)
        assert error.final
        assert "2 of 20 rows failed" in error.message
        assert "StatusError 400: 2" in error.message
        assert batch.pushed["return_value"]["failed"] == {"StatusError 400": 2}
        assert batch.pushed["return_value"]["missing"] == 17
        assert [line["index"] for line in batch.results] == [0]
        batch.chat.default = replies.ok()
        assert batch.run(max_failures="5%")["succeeded"] == 20
        assert batch.times["row 0"] == 1

    @pytest.mark.parametrize("allowed", ["10%", 2, "2", None])
    def test_as_many_rows_as_max_failures_says_may_fail(self, batch, allowed):
        batch.texts(20)
        batch.chat.default = refusing("row 1", "row 2")
        assert batch.run(max_failures=allowed)["succeeded"] == 18

    @pytest.mark.parametrize(
        "reply",
        [
            replies.error(401, "who are you?", "invalid_api_key"),
            replies.error(402, "pay"),
            replies.error(429, "you exceeded your quota", "insufficient_quota"),
        ],
    )
    def test_a_key_or_quota_error_stops_the_batch_at_once_and_fails_no_row(self, batch, reply):
        batch.texts(50)
        batch.chat.script(replies.ok(), replies.ok())
        batch.chat.default = reply
        error = batch.error(max_concurrency=1, max_failures=None)
        assert isinstance(error, StatusError)
        assert error.final
        assert len(batch.chat.requests) == 3
        assert len(batch.results) == 2
        assert batch.errors == []
        assert batch.pushed["return_value"]["missing"] == 48
        batch.chat.default = replies.ok()
        assert batch.run()["succeeded"] == 50
        assert batch.times["row 0"] == 1

    def test_a_failing_server_is_asked_as_often_as_max_attempts_says(self, batch):
        batch.texts(1)
        batch.chat.script(replies.error(500, "oops"), replies.error(500, "oops"), replies.ok())
        assert batch.run(max_attempts=3)["succeeded"] == 1
        keys = {request.headers["idempotency-key"] for request in batch.chat.requests}
        assert len(keys) == 1

    def test_an_answer_that_is_cut_off_fails_its_row_with_on_incomplete_fail(self, batch):
        batch.texts(2)
        batch.chat.script(replies.ok("Hel", finish_reason="length"))
        manifest = batch.run(on_incomplete="fail", max_failures=None, max_concurrency=1)
        assert manifest["failed"] == {"IncompleteReply 200": 1}

    def test_an_answer_that_is_cut_off_is_kept_marked_and_counted_by_default(self, batch):
        batch.texts(2)
        batch.chat.script(replies.ok("Hel", finish_reason="length"))
        manifest = batch.run(max_concurrency=1)
        assert (manifest["succeeded"], manifest["incomplete"]) == (2, 1)
        assert "length" in batch.results[0]["incomplete"]

    def test_an_input_that_shrinks_while_it_is_read_fails_the_batch(self, batch):
        batch.write(*({"text": "long " * 4000} for _ in range(300)))  # more than is read ahead

        def answer(request):
            batch.texts(1)
            return replies.ok()

        batch.chat.default = answer
        assert "while it was read" in batch.error(max_concurrency=1).message


class TestManifest:
    def test_the_manifest_has_paths_counts_usage_and_speed(self, batch):
        batch.texts(3)
        manifest = batch.run()
        assert manifest["seconds"] > 0
        assert manifest["rows_per_second"] > 0
        assert manifest | {"seconds": 0, "rows_per_second": 0} == {
            "results": str(batch.output / "results.jsonl"),
            "errors": str(batch.output / "errors.jsonl"),
            "total": 3,
            "succeeded": 3,
            "failed": {},
            "missing": 0,
            "incomplete": 0,
            "reused": 0,
            "deduplicated": 0,
            "first_failures": {},
            "usage": {
                "requests": 3,
                "input_tokens": 27,
                "output_tokens": 6,
                "total_tokens": 33,
                "cache_read_tokens": None,
                "cache_write_tokens": None,
                "reasoning_tokens": None,
                "tool_calls": 0,
                "cost": None,
                "model": "test-model",
                "attempts": 3,
                "seconds": manifest["seconds"],
                "request_id": None,
                "errors": {},
                "rejected": [],
                "currency": None,
            },
            "seconds": 0,
            "rows_per_second": 0,
        }
        assert json.loads((batch.output / "manifest.json").read_text()) == manifest


class TestShards:
    def test_shards_share_the_rows_and_each_has_a_folder(self, batch):
        batch.texts(10)
        for shard in ("1/3", "2/3", "3/3"):
            batch.run(shard=shard)
        assert batch.asked == sorted(f"row {index}" for index in range(10))
        assert sorted(path.name for path in batch.output.iterdir()) == ["shard-1-of-3", "shard-2-of-3", "shard-3-of-3"]

    def test_a_range_has_the_rows_that_it_says(self, batch):
        batch.texts(10)
        assert batch.run(shard="2:4")["total"] == 2
        assert batch.asked == ["row 2", "row 3"]

    def test_a_shard_without_rows_is_a_finished_batch(self, batch):
        batch.texts(1)
        assert batch.run(shard="2/2")["total"] == 0
