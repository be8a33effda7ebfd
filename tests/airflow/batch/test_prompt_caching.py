"""Prompt caching in a batch: each row is sent with its marks, and what came from a cache is counted and priced."""

from typing import Any

from airflow_chat_provider.testing import replies
from tests.support.batching import Batch

TERMS = {"type": "text", "text": "The terms of the shop, a long text.", "cache_control": {"type": "ephemeral"}}
USAGE = {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 800}}
PRICES = {"test-*": {"input": "2", "cached_input": "0.2", "output": "10"}}


def test_each_row_is_sent_with_the_marks_and_the_key(batch: Batch) -> None:
    batch.texts(2)
    content = [TERMS, {"type": "text", "text": "{{ row.text }}"}]
    batch.run(prompt=None, messages=[{"role": "user", "content": content}], request={"prompt_cache_key": "shop"})
    requests = sorted((request.json for request in batch.chat.requests), key=str)
    assert [request["prompt_cache_key"] for request in requests] == ["shop", "shop"]
    told = [request["messages"][0]["content"] for request in requests]
    assert told == [[TERMS, {"type": "text", "text": f"row {index}"}] for index in range(2)]


def test_a_row_in_the_form_of_a_batch_file_keeps_its_marks(batch: Batch) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": [TERMS]}], "prompt_cache_retention": "24h"}
    batch.write({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body})
    batch.run(prompt=None, result_format="raw")
    (request,) = batch.chat.requests
    assert request.json == body


def test_what_came_from_the_cache_and_what_it_cost_are_summed(batch: Batch, connect: Any) -> None:
    connect(batch.chat.url, extra={"model": "test-model", "prices": PRICES})
    batch.chat.default = replies.ok(usage=USAGE)
    batch.texts(3)
    usage = batch.run()["usage"]
    assert (usage["cache_read_tokens"], usage["cost"], usage["currency"]) == (2400, 0.00198, "USD")
    assert batch.results[0]["cost"] == 0.00066
