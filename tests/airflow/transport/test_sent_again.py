"""Answers that broke before anybody had any of them are sent for again, and how often; the key is one for all."""

import json

import pytest

from airflow_chat_provider.errors import ProtocolError, RateLimited, StatusError
from airflow_chat_provider.testing import End, replies
from tests.airflow.transport.test_streaming import both_streams, hook
from tests.support.behaviours import CHUNKS, HALF, STREAM, held, json_text
from tests.support.calling import REQUEST, both, failure

ASKED = {**REQUEST, **STREAM["request"]}
EVENT = b"data: " + json.dumps(HALF[0]).encode()
BROKEN = {
    "cut": replies.sse(HALF, done=False),
    "cut in an event": replies.sse([EVENT[: len(EVENT) // 2]], done=False),
    "reset": replies.sse(HALF, done=False, end=End.RESET),
    "an error first": replies.sse([{"error": {"code": 502, "message": "gone"}, "choices": []}]),
    "an error without a code": replies.sse([{"error": {"message": "gone"}}]),
    "an error later": replies.sse([*HALF, {"error": {"message": "gone"}}]),
    "a named error": replies.sse([b"event: error\ndata: gone\n\n"]),
    "a rate limit first": replies.sse([{"error": {"code": "rate_limit_exceeded", "message": "slow"}}]),
    "comments alone": replies.sse([b": hi\n\n", b": hi\n\n"], done=False),
    "blank lines": json_text(b"\n\n\n"),
    "nothing": replies.Reply(200),
    "half of JSON": json_text(b'{"choices": [{"index": 0, "mess'),
    "a 200 that holds a 503": held(503),
}
KEPT = {
    "not JSON": replies.sse([*HALF, b"data: {no json}\n\n", *CHUNKS]),
    "a page": replies.text(200, "<html>Sign in</html>", "text/html"),
    "a 200 that holds a 400": held(400),
    "no money": replies.sse([{"error": {"code": "insufficient_quota", "message": "pay"}}]),
}


@both
@pytest.mark.parametrize("name", BROKEN)
def test_a_stream_that_breaks_is_sent_again_whatever_way_it_broke(chat, create, name):
    chat.script(BROKEN[name], replies.sse(CHUNKS))
    reply = create(hook(max_attempts=2), ASKED)
    assert (reply.text, reply.attempts, reply.error) == ("Hello", 2, None)
    assert len({request.headers["idempotency-key"] for request in chat.requests}) == 1


@both
@pytest.mark.parametrize("name", KEPT)
def test_what_would_be_the_same_again_is_not_sent_again(chat, create, name):
    chat.script(KEPT[name], replies.sse(CHUNKS))
    error = failure(lambda one: create(one, ASKED), hook(max_attempts=2))
    assert isinstance(error, ProtocolError | StatusError)
    assert (error.status, len(chat.requests)) == (200, 1)


@both
def test_no_more_are_sent_than_max_attempts_and_the_last_one_is_told_of(chat, create):
    chat.script(BROKEN["cut"], BROKEN["nothing"], BROKEN["a rate limit first"], replies.sse(CHUNKS))
    error = failure(lambda one: create(one, ASKED), hook(max_attempts=3))
    assert isinstance(error, RateLimited)
    assert (error.status, error.code, len(chat.requests)) == (200, "rate_limit_exceeded", 3)


@both_streams
@pytest.mark.parametrize("name", ["an error first", "comments alone", "a rate limit first", "cut in an event"])
def test_a_stream_that_breaks_before_its_first_chunk_was_handed_out_is_sent_again(chat, stream, name):
    chat.script(BROKEN[name], replies.sse(CHUNKS))
    chunks, reply = stream(hook(max_attempts=2))
    assert (chunks, reply.text, reply.attempts) == (CHUNKS, "Hello", 2)


@both_streams
def test_a_stream_that_breaks_each_time_before_its_first_chunk_raises_its_last_error(chat, stream):
    chat.script(BROKEN["comments alone"], BROKEN["an error first"], replies.sse(CHUNKS))
    with pytest.raises(StatusError, match="gone"):
        stream(hook(max_attempts=2))
    assert len(chat.requests) == 2


@both_streams
@pytest.mark.parametrize("name", ["an error later", "cut", "reset"])
def test_a_chunk_that_was_handed_out_is_not_sent_again(chat, stream, name):
    chat.script(BROKEN[name], replies.sse(CHUNKS))
    with pytest.raises(Exception, match=r"gone|finish_reason|cut off"):
        stream(hook(max_attempts=2))
    assert len(chat.requests) == 1
