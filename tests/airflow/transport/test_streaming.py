"""Streamed replies: through the hook, chunk by chunk, through the operator, and the real model's beside unstreamed."""

import asyncio
import contextlib
import json

import pytest

from airflow_chat_provider.core.call import exchange
from airflow_chat_provider.errors import (
    ProtocolError,
    RateLimited,
    StatusError,
    TransportError,
    TransportTimeout,
)
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import End, replies
from tests.support.asking import killed
from tests.support.behaviours import CHUNKS, HALF
from tests.support.calling import AT_ONCE, REQUEST, both, failure

STREAM = {**REQUEST, "stream": True}


def hook(**limits):
    return ChatCompletionHook(**{"max_attempts": 1, **limits})


def streamed(chat_hook, request=REQUEST):
    """The chunks and the reply of a stream that is read as it comes."""
    with contextlib.closing(chat_hook), chat_hook.stream(request) as stream:
        chunks = list(stream)
    return chunks, stream.reply


def astreamed(chat_hook, request=REQUEST):
    async def read():
        async with chat_hook.astream(request) as stream:
            chunks = [chunk async for chunk in stream]
        return chunks, stream.reply

    return asyncio.run(read())


both_streams = pytest.mark.parametrize("stream", [streamed, astreamed], ids=["sync", "async"])


class TestWholeReplies:
    @both
    @pytest.mark.parametrize("done", [True, False])
    def test_a_stream_becomes_the_body_of_the_unstreamed_call(self, chat, create, done):
        chat.script(replies.sse(CHUNKS, done=done))
        reply = create(hook(), STREAM)
        assert (reply.status, reply.text, reply.tokens) == (200, "Hello", 11)
        assert reply.body["object"] == "chat.completion"
        assert reply.body["choices"][0]["finish_reason"] == "stop"

    @both
    def test_the_usage_of_a_stream_is_asked_for(self, chat, create):
        chat.script(replies.sse(CHUNKS), replies.sse(CHUNKS))
        create(hook(), STREAM)
        assert chat.requests[-1].json["stream_options"] == {"include_usage": True}
        create(hook(), {**STREAM, "stream_options": {"include_usage": False}})
        assert chat.requests[-1].json["stream_options"] == {"include_usage": False}

    @both
    @pytest.mark.parametrize(
        "said", ["unknown field stream_options", "Additional properties are not allowed", "extra fields not permitted"]
    )
    def test_a_server_that_refuses_stream_options_is_asked_without_and_not_again(self, chat, create, said):
        chat.script(replies.error(400, said), replies.sse(CHUNKS), replies.sse(CHUNKS))
        assert create(hook(), STREAM).text == "Hello"
        assert create(hook(), STREAM).text == "Hello"
        assert ["stream_options" in request.json for request in chat.requests] == [True, False, False]

    @both
    def test_a_refusal_of_both_requests_is_the_second_and_the_next_call_asks_for_the_usage(self, chat, create):
        chat.script(
            replies.error(400, "Additional properties are not allowed"),
            replies.error(400, "no such model"),
            replies.sse(CHUNKS),
        )
        with pytest.raises(StatusError, match="no such model"):
            create(hook(), STREAM)
        assert create(hook(), STREAM).text == "Hello"
        assert ["stream_options" in request.json for request in chat.requests] == [True, False, True]

    @both
    def test_a_refusal_of_what_the_user_wrote_is_final(self, chat, create):
        chat.script(replies.error(400, "Unrecognized request argument supplied: top_p"))
        with pytest.raises(StatusError, match="top_p"):
            create(hook(), {**STREAM, "top_p": 0.5})
        assert len(chat.requests) == 1

    @both
    def test_a_json_reply_to_a_stream_request_is_taken(self, chat, create):
        chat.script(replies.ok("plain"))
        assert create(hook(), STREAM).text == "plain"

    @both
    def test_a_stream_that_breaks_is_asked_for_again_while_nothing_was_handed_out(self, chat, create):
        broken = replies.chunked(
            [b"data: " + json.dumps(HALF[0]).encode() + b"\n\n"], content_type="text/event-stream", end=End.RESET
        )
        chat.script(broken, replies.sse(CHUNKS))
        reply = create(hook(max_attempts=2), STREAM)
        assert (reply.text, reply.attempts, len(chat.requests)) == ("Hello", 2, 2)

    @both
    @pytest.mark.parametrize(
        ("reply", "error", "says"),
        [
            (replies.sse(HALF, done=False), ProtocolError, "before every choice had a finish_reason"),
            (replies.sse([*HALF, {"error": {"message": "overloaded", "code": 529}}]), RateLimited, "overloaded"),
            (replies.sse([*HALF, b"data: {no json}\n\n"]), ProtocolError, "not JSON"),
            (replies.sse([*HALF], done=False, end=End.HANG), TransportTimeout, "stall_timeout"),
            (replies.error(429, "slow down", headers=AT_ONCE), StatusError, "slow down"),
        ],
        ids=["ends early", "an error", "not JSON", "stalls", "refused"],
    )
    def test_a_stream_that_is_no_whole_reply_is_a_typed_error_with_what_came(
        self, server, connect, create, reply, error, says, request
    ):
        connect(server.url, extra={"model": "m", "stall_timeout": 0.3})
        server.script(reply)
        with pytest.raises(error, match=says) as caught:
            create(hook(), STREAM)
        if "refused" not in request.node.callspec.id:
            assert caught.value.status == 200
            assert caught.value.body["choices"][0]["message"]["content"] == "Hel"

    @both
    def test_a_line_that_never_ends_is_refused_at_the_limit(self, server, connect, create):
        connect(server.url, extra={"model": "m", "max_response_bytes": 100_000})
        server.script(replies.sse([b"data: " + b"x" * 300_000]))
        assert isinstance(failure(lambda h: create(h, STREAM), hook()), ProtocolError)


class TestChunks:
    @both_streams
    def test_chunks_come_as_the_server_sent_them_and_then_the_reply(self, chat, stream):
        chat.script(replies.sse(CHUNKS))
        chunks, reply = stream(hook())
        assert chunks == CHUNKS
        assert reply.text == "Hello"
        assert chat.requests[0].json["stream"] is True

    @both_streams
    def test_a_refusal_is_raised_before_the_first_chunk(self, chat, stream):
        chat.script(replies.error(401, "no"))
        with pytest.raises(StatusError):
            stream(hook())

    @both_streams
    def test_a_rate_limit_is_waited_for_before_the_first_chunk(self, chat, stream):
        chat.script(replies.error(429, "slow down", headers=AT_ONCE), replies.sse(CHUNKS))
        assert stream(hook(max_attempts=2))[1].attempts == 2

    @both_streams
    def test_nothing_is_sent_again_once_a_chunk_was_handed_out(self, chat, stream):
        chat.script(replies.sse(HALF, done=False), replies.sse(CHUNKS))
        with pytest.raises(ProtocolError):
            stream(hook(max_attempts=3))
        assert len(chat.requests) == 1

    @both_streams
    def test_a_json_reply_gives_no_chunks_and_the_reply(self, chat, stream):
        chat.script(replies.ok("plain"))
        chunks, reply = stream(hook())
        assert (chunks, reply.text) == ([], "plain")

    def test_leaving_early_closes_the_connection(self, chat):
        chat.script(replies.sse(HALF, done=False, end=End.HANG))
        with contextlib.closing(hook()) as chat_hook, chat_hook.stream(REQUEST) as stream:
            assert next(iter(stream)) == HALF[0]
        assert chat.wait_closed()
        with pytest.raises(RuntimeError, match="read all chunks first"):
            _ = stream.reply

    def test_leaving_early_closes_the_connection_of_an_event_loop_too(self, chat):
        chat.script(replies.sse(HALF, done=False, end=End.HANG))

        async def read():
            async with hook().astream(REQUEST) as stream:
                return await anext(aiter(stream))

        assert asyncio.run(read()) == HALF[0]
        assert chat.wait_closed()

    def test_an_abort_ends_a_stream(self, chat):
        chat.script(replies.sse(HALF, done=False, end=End.HANG))
        chat_hook = hook()

        def read():
            with contextlib.closing(chat_hook), chat_hook.stream(REQUEST) as stream:
                for _ in stream:
                    chat_hook.abort()

        with pytest.raises(TransportError):
            read()
        assert chat.wait_closed()


class TestOperator:
    def test_a_streamed_request_leaves_the_same_as_an_unstreamed_one(self, airflow, chat):
        chat.script(replies.sse(CHUNKS))
        with airflow.dag():
            ChatCompletionOperator(task_id="ask", prompt="Hi", request={"stream": "{{ true }}"}, result_format="text")
        run = airflow.run()
        xcoms = run.xcoms()
        assert xcoms["return_value"] == "Hello"
        assert xcoms["messages"][-1] == {"role": "assistant", "content": "Hello"}
        if not airflow.deferrable:  # in dag.test() a worker renders anew, although the trigger has ended the task
            assert run.rendered()["request"] == chat.requests[0].json

    def test_what_came_of_a_broken_stream_is_kept(self, airflow, chat):
        chat.script(replies.sse(HALF, done=False))
        with airflow.dag():
            ChatCompletionOperator(task_id="ask", prompt="Hi", request={"stream": True}, max_attempts=1)
        run = airflow.run()
        assert run.state == "failed"
        assert run.xcoms()["status"] == 200
        assert run.xcoms()["body"]["choices"][0]["message"]["content"] == "Hel"

    def test_on_kill_closes_a_stream(self, chat):
        chat.script(replies.sse(HALF, done=False, end=End.HANG))
        operator = ChatCompletionOperator(task_id="ask", prompt="Hi", request={"stream": True}, do_xcom_push=False)
        assert isinstance(killed(operator, chat), TransportError)


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    from airflow_chat_provider.local_server import LocalServer

    with LocalServer(port=0) as running:
        yield running


@pytest.mark.model
class TestRealModel:
    @pytest.mark.parametrize(
        "extra",
        [
            {},
            {"n": 2},
            {"logprobs": True, "top_logprobs": 2},
            {"max_tokens": 5},
            {"response_format": {"type": "json_object"}, "messages": [{"role": "user", "content": "Any JSON object"}]},
        ],
        ids=["text", "two choices", "log-probabilities", "cut off", "JSON"],
    )
    def test_a_streamed_body_equals_the_unstreamed_one(self, model, connect, extra):
        connect(model.url, password="", extra={"model": model.model})
        request = {
            "messages": [{"role": "user", "content": "Name three colours."}],
            "temperature": 0,
            "seed": 1,
            "max_tokens": 24,
            **extra,
        }
        with contextlib.closing(hook()) as chat_hook:
            plain = chat_hook.create(request).body
            whole = chat_hook.create({**request, "stream": True}).body
        for body in (plain, whole):
            for volatile in ("id", "created", "timings"):
                body.pop(volatile, None)
            body["usage"].pop("prompt_tokens_details")  # how much of the prompt was cached: more at the second call
        assert whole.pop("usage") == plain.pop("usage")
        assert whole == plain


@both
def test_what_came_is_kept_where_reading_it_fails_by_a_fault_of_ours(create, chat, monkeypatch):
    def fail(*_arguments, **_more):
        raise KeyError("canary")

    monkeypatch.setattr(exchange, "judge", fail)
    error = failure(create, ChatCompletionHook())
    assert isinstance(error, ProtocolError)
    assert "failed to read it (KeyError)" in error.message
    assert "canary" not in error.message
    assert json.loads(error.body)["choices"][0]["message"]["content"] == "Hello"
