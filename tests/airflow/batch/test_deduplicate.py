"""Equal requests of one batch, which are asked once."""

from __future__ import annotations

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
