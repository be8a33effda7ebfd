"""Streams that are not called streams, and JSON that is called one, over real sockets and in real tasks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_chat_provider.errors import ChatCompletionError, ProtocolError, TransportTimeout
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import ChatServer, End, Reply, replies
from tests.support.calling import REQUEST, both
from tests.support.mislabelled import (
    BROKEN,
    CHUNKS,
    DOCUMENTS,
    DONE,
    HALF,
    KIND,
    LINES,
    PING,
    STREAMS,
    TEXT,
    WHOLE,
    dumped,
)

STREAM = {**REQUEST, "stream": True}
JSON = "application/json"
ANY = {**STREAMS, **DOCUMENTS}


def reply(raw: bytes, kind: str | None, size: int = 61) -> Reply:
    """A 200 in pieces that end anywhere; None for no Content-Type at all."""
    if kind is None:
        return Reply(200, {}, raw)
    return replies.chunked([raw[at : at + size] for at in range(0, len(raw), size)], content_type=kind)


def hook(attempts: int = 1) -> ChatCompletionHook:
    return ChatCompletionHook(max_attempts=attempts)


def streamed(chat_hook: ChatCompletionHook) -> tuple[list[Any], Any]:
    with contextlib.closing(chat_hook), chat_hook.stream(REQUEST) as stream:
        chunks = list(stream)
    return chunks, stream.reply


def astreamed(chat_hook: ChatCompletionHook) -> tuple[list[Any], Any]:
    async def read() -> tuple[list[Any], Any]:
        async with chat_hook.astream(REQUEST) as stream:
            chunks = [chunk async for chunk in stream]
        return chunks, stream.reply

    return asyncio.run(read())


def first(chat_hook: ChatCompletionHook) -> Any:
    with contextlib.closing(chat_hook), chat_hook.stream(REQUEST) as stream:
        return next(iter(stream))


def afirst(chat_hook: ChatCompletionHook) -> Any:
    async def read() -> Any:
        async with chat_hook.astream(REQUEST) as stream:
            return await anext(aiter(stream))

    return asyncio.run(read())


both_streams = pytest.mark.parametrize("stream", [streamed, astreamed], ids=["sync", "async"])
both_firsts = pytest.mark.parametrize("begin", [first, afirst], ids=["sync", "async"])


@both
@pytest.mark.parametrize("request_", [REQUEST, STREAM], ids=["not asked to stream", "asked to stream"])
@pytest.mark.parametrize("kind", [KIND, JSON, None])
def test_any_whole_answer_is_one_however_it_is_called_and_whatever_was_asked_for(
    chat: ChatServer, create: Any, kind: str | None, request_: Any
) -> None:
    with contextlib.closing(hook()) as chat_hook:
        for raw in ANY.values():
            chat.script(reply(raw, kind))
        answers = [create(chat_hook, request_).text for _ in ANY]
    assert answers == [TEXT] * len(ANY)


@both_streams
@pytest.mark.parametrize("kind", [JSON, None])
def test_the_chunks_of_a_stream_that_is_not_called_one_are_handed_out(
    chat: ChatServer, stream: Any, kind: str | None
) -> None:
    chat.script(reply(STREAMS["one line break"], kind))
    chunks, whole = stream(hook())
    assert (chunks, whole.text) == (CHUNKS, TEXT)


@both_firsts
@pytest.mark.parametrize("raw", [HALF, HALF[:-1], LINES[0] + b"\n", PING + HALF])
def test_a_chunk_is_handed_out_while_the_server_still_thinks(chat: ChatServer, begin: Any, raw: bytes) -> None:
    chat.script(replies.chunked([raw], content_type=JSON, end=End.HANG))
    assert begin(hook()) == CHUNKS[0]


@both_streams
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_is_called_a_stream_gives_no_chunks_and_the_reply(
    chat: ChatServer, stream: Any, name: str
) -> None:
    chat.script(reply(DOCUMENTS[name], KIND))
    chunks, whole = stream(hook())
    assert (chunks, whole.body) == ([], WHOLE)


@both_streams
@pytest.mark.parametrize(
    "broken",
    [
        replies.chunked([PING], content_type=KIND, end=End.RESET),
        reply(PING, KIND),
        reply(b"\n\n", JSON),
        reply(b"", KIND),
        reply(HALF[:30], KIND),
        reply(b'data: {"error": {"code": 502, "message": "gone"}}\n\n', KIND),
    ],
    ids=["reset", "comments", "blank lines", "nothing", "half an event", "an error"],
)
def test_a_stream_that_breaks_before_its_first_chunk_is_sent_again_though_chunks_are_handed_out(
    chat: ChatServer, stream: Any, broken: Reply
) -> None:
    chat.script(broken, reply(STREAMS["CRLF"], KIND))
    chunks, whole = stream(hook(attempts=2))
    assert (chunks, whole.attempts) == (CHUNKS, 2)


@both
def test_a_stream_that_is_not_called_one_and_stands_still_names_stall_timeout(
    server: ChatServer, connect: Callable[..., str], create: Any
) -> None:
    connect(server.url, extra={"model": "m", "stall_timeout": 0.3})
    server.script(replies.chunked([HALF], content_type=JSON, end=End.HANG))
    with pytest.raises(TransportTimeout, match="stall_timeout") as caught:
        create(hook(), STREAM)
    assert caught.value.body["choices"][0]["message"]["content"] == "Hel"


@both
@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
def test_what_came_of_an_event_before_the_connection_broke_is_kept(chat: ChatServer, create: Any, end: End) -> None:
    chat.script(replies.chunked([HALF[:40]], content_type=KIND, end=end))
    with pytest.raises(ChatCompletionError) as caught:
        create(hook(), STREAM)
    assert caught.value.body == HALF[:40].decode()


@both
@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"error": {"message": "the model is asleep", "code": "asleep"}}\n\n' + DONE,
        b'event: error\ndata: {"error": {"message": "the model is asleep", "code": "asleep"}}\n\n',
        b'error: {"message": "the model is asleep", "code": "asleep"}\n\n',
        PING + b'{"error": {"message": "the model is asleep", "code": "asleep"}}',
        b'{"error": {"message": "the model is asleep", "code": "asleep"}}\n\n' + DONE,
    ],
)
@pytest.mark.parametrize("status", [400, 503])
def test_an_error_in_the_frame_of_a_stream_is_read(chat: ChatServer, create: Any, raw: bytes, status: int) -> None:
    chat.script(Reply(status, {"Content-Type": KIND}, raw))
    with pytest.raises(ChatCompletionError, match="the model is asleep") as caught:
        create(hook(), STREAM)
    assert (caught.value.status, caught.value.code) == (status, "asleep")
    assert isinstance(caught.value.body, dict)


@pytest.mark.database
def test_what_came_is_in_xcom_whatever_was_wrong_with_it(airflow: Any, chat: ChatServer) -> None:
    names = {f"task_{number}": name for number, name in enumerate(BROKEN)}

    def answer(request: Any) -> Reply:
        task_id = request.json["model"]
        return reply(BROKEN[names[task_id]].raw, KIND if task_id[-1] in "02468" else JSON)

    chat.script(*[answer] * len(names))
    with airflow.dag():
        for task_id in names:
            ChatCompletionOperator(
                task_id=task_id, model=task_id, prompt="Hi", request={"stream": True}, max_attempts=1
            )
    run = airflow.run()
    for task_id, name in names.items():
        xcoms = run.xcoms(task_id)
        assert (xcoms["status"], xcoms["body"]) == (200, BROKEN[name].body), name
        error = airflow.error(task_id)
        if error is not None:  # a trigger has ended a deferred task by itself
            assert isinstance(error, ProtocolError), name
            assert BROKEN[name].says in error.message, name


@pytest.mark.database
def test_a_stream_nobody_asked_for_leaves_what_an_unstreamed_answer_does(airflow: Any, chat: ChatServer) -> None:
    chat.script(reply(STREAMS["one line break"], None))
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", result_format="text")
    xcoms = airflow.run().xcoms()
    assert (xcoms["return_value"], json.loads(dumped(xcoms["body"]))) == (TEXT, WHOLE)
