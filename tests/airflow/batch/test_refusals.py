"""What a server says against a request, as a batch takes it: it waits, ends, or fails the row alone."""

import pytest

from airflow_chat_provider.errors import StatusError
from airflow_chat_provider.testing import replies
from tests.support.behaviours import CHUNKS, HALF, held, json_text


def soon(reply):
    return replies.Reply(reply.status, {**reply.headers, "retry-after-ms": "50"}, reply.body)


@pytest.mark.parametrize(
    "reply",
    [
        soon(held(429)),
        soon(held("rate_limit_exceeded")),
        soon(held(503, choices=[])),
        soon(replies.json_reply(200, {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}})),
        replies.json_reply(429, [{"error": {"message": "slow", "details": [{"retryDelay": "0.05s"}]}}]),
        replies.json_reply(503, {"error": "The model is loading", "estimated_time": 0.05}),
    ],
)
def test_a_rate_limit_in_any_words_slows_the_batch_and_fails_no_row(batch, reply):
    batch.texts(8)
    batch.chat.script(*[reply] * 4)
    manifest = batch.run(max_attempts=1, max_concurrency=2)
    assert (manifest["succeeded"], manifest["failed"]) == (8, {})
    assert len(batch.chat.requests) == 12


@pytest.mark.parametrize(
    "reply",
    [
        replies.error(429, "Insufficient balance or no resource package. Please recharge.", "1113"),
        replies.error(500, "insufficient balance (1008)"),
        replies.json_reply(403, {"code": "team:spending-limit", "error": "Your team has used all available credits"}),
        replies.json_reply(200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
        held(401),
        held(402),
    ],
)
def test_an_account_without_money_ends_the_batch_at_once(batch, reply):
    batch.texts(3)
    batch.chat.default = reply
    error = batch.error(max_attempts=3, max_concurrency=1, max_failures=None)
    assert isinstance(error, StatusError)
    assert error.final
    assert (len(batch.chat.requests), batch.errors) == (1, [])


def test_a_row_larger_than_the_limit_fails_alone(batch):
    batch.texts(3)

    def answer(request):
        large = "row 1" in request.json["messages"][0]["content"]
        said = "Request too large for m: Limit 30000, Requested 36278."
        return replies.error(429, said, "rate_limit_exceeded") if large else replies.ok()

    batch.chat.default = answer
    manifest = batch.run(max_attempts=3, max_failures=None)
    assert (manifest["succeeded"], manifest["failed"]) == (2, {"StatusError 429": 1})
    assert batch.times["row 1"] == 1
    assert "Send a smaller request" in batch.errors[0]["error"]["message"]


@pytest.mark.parametrize(
    "broken",
    [
        replies.sse(HALF, done=False),
        replies.sse([{"error": {"code": 502, "message": "gone"}}]),
        replies.sse([{"error": {"message": "gone"}}]),
        json_text(b"\n\n"),
    ],
)
def test_a_row_whose_stream_broke_is_sent_again_by_the_same_key(batch, broken):
    batch.texts(1)
    batch.chat.script(broken, replies.sse(CHUNKS))
    manifest = batch.run(max_attempts=2, request={"stream": True})
    assert (manifest["succeeded"], manifest["failed"]) == (1, {})
    assert len({request.headers["idempotency-key"] for request in batch.chat.requests}) == 1
