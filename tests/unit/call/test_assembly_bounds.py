"""What a stream costs: time by its length, and memory by what an answer can hold."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from airflow_chat_provider.core.call.chunks import tool_calls
from airflow_chat_provider.core.call.chunks.assembly import Assembly
from airflow_chat_provider.core.call.chunks.pieces import Overfull
from airflow_chat_provider.core.call.chunks.readings import Progress
from airflow_chat_provider.core.call.stream import StreamReader
from tests.support.chunks import call, choice


def streamed(*chunks: bytes, choices: int = 1) -> StreamReader:
    reader = StreamReader(64 << 20, choices=choices)
    reader.feed(b"".join(b"data: " + chunk + b"\n\n" for chunk in chunks))
    reader.end()
    return reader


class Counted(int):
    """A number that counts how often it is compared."""

    compared = 0
    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == other


@pytest.mark.parametrize(
    "delta",
    [
        lambda n: {"tool_calls": [{"index": Counted(n), **call(f"id{n}", "f", "")}]},
        lambda n: {"tool_calls": [{"index": Counted(n), "function": {"name": "f", "arguments": ""}}]},
        lambda n: {"content": [{"index": Counted(n), "type": "text", "text": "x"}]},
    ],
    ids=["calls with ids", "calls with an index", "parts with an index"],
)
def test_a_fragment_is_not_searched_for_among_all_that_came_before(delta: Any) -> None:
    made, Counted.compared = Assembly(), 0
    for number in range(2000):
        made.add(choice(delta(number)))
    assert Counted.compared < 10_000


def test_an_object_that_grows_is_not_copied_with_each_chunk() -> None:
    made = Assembly()
    first = {"n0": 0}
    made.add(choice({}, filters=first))
    for number in range(1, 3000):
        made.add(choice({}, filters={f"n{number}": 0}))
    assert len(made.body()["choices"][0]["filters"]) == 3000
    assert first == {"n0": 0}, "the chunk was the caller's"


def test_more_choices_than_a_request_can_ask_for_are_refused_and_those_before_kept() -> None:
    reader = streamed(*(b'{"choices":[{"index":%d,"delta":{"content":"x"}}]}' % n for n in range(200)))
    assert reader.problem == "the stream has more than 128 choices"
    assert len(reader.body()["choices"]) == 128


def test_as_many_choices_as_the_request_asks_for_are_taken() -> None:
    end = b'"delta":{"content":"x"},"finish_reason":"stop"'
    reader = streamed(*(b'{"choices":[{"index":%d,%s}]}' % (n, end) for n in range(200)), choices=200)
    assert reader.problem is None
    assert len(reader.body()["choices"]) == 200


def test_more_tool_calls_than_a_message_can_hold_are_refused_and_those_before_kept() -> None:
    one = b'{"choices":[{"delta":{"tool_calls":[{"index":%d,"id":"c%d","function":{"arguments":"{}"}}]}}]}'
    reader = streamed(*(one % (n, n) for n in range(5000)))
    assert reader.problem == f"the stream has more than {tool_calls._MOST} tool calls"
    assert len(reader.body()["choices"][0]["message"]["tool_calls"]) == tool_calls._MOST


@pytest.mark.parametrize(
    "chunk",
    [
        b'{"choices":[{"delta":{"x":[%s]}}]}',
        b'{"choices":[{"logprobs":{"x":[[%s]]}}]}',
        b'{"choices":[{"x":[%s]}]}',
        b'{"x":[%s]}',
    ],
    ids=["chained", "in a list", "of a choice", "at the top"],
)
def test_lists_of_nothing_are_refused_before_they_fill_the_memory(chunk: bytes) -> None:
    items = b",".join([b"[]"] * 20_000)
    tracemalloc.start()
    try:
        reader = streamed(*(chunk.replace(b"x", b"x%d" % n) % items for n in range(20)))
        assert tracemalloc.get_traced_memory()[0] < 16 << 20
    finally:
        tracemalloc.stop()
    assert reader.problem is not None
    assert "more values" in reader.problem


@pytest.mark.slow
def test_a_value_that_replaces_another_is_not_counted_twice() -> None:
    usage = b'{"choices":[],"usage":{"total_tokens":%d,"details":[1,2,3,4,5,6,7,8]},"x":{"y":[1,2,3]}}'
    reader = streamed(*(usage % n for n in range(30_000)))
    assert reader.body()["usage"]["total_tokens"] == 29_999


@pytest.mark.slow
def test_log_probabilities_of_a_long_answer_are_taken() -> None:
    token = b'{"token":"abc","logprob":-0.1,"bytes":[97,98,99]}'
    one = b'{"token":"abc","logprob":-0.1,"bytes":[97,98,99],"top_logprobs":[%s]}' % b",".join([token] * 20)
    chunk = b'{"choices":[{"index":0,"delta":{"content":"abc"},"logprobs":{"content":[%s]}}]}' % one
    reader = streamed(*[chunk] * 2000)
    assert len(reader.body()["choices"][0]["logprobs"]["content"]) == 2000


def test_one_chunk_too_full_raises_and_keeps_what_came() -> None:
    made = Assembly()
    made.add({"id": "c"})
    with pytest.raises(Overfull):
        made.add({"x": [0] * 300_000}, 10)
    assert made.body()["id"] == "c"


def tool(arguments: str, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, **more, "function": {"name": "f", "arguments": arguments}}]}


@pytest.mark.parametrize(
    "delta",
    [
        lambda n: tool("ab" if n else '{"x', id=None),
        lambda n: tool("ab" if n else '{"x', id=f"c{n}"),
        lambda n: {"tool_calls": [{"index": 0, "id": f"c{n}", "function": {"arguments": "ab" if n else '{"x'}}]},
        lambda n: {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "ab"}]},
        lambda n: {"annotations": [n]},
    ],
    ids=["a name", "a name and an id", "an id", "reasoning", "a list of whole things"],
)
def test_twenty_thousand_fragments_that_need_a_look_take_linear_time(delta: Any) -> None:
    made = Assembly()
    for number in range(20_000):
        made.add(choice(delta(number)))
    message = made.body()["choices"][0]["message"]
    assert [len(calls) for key, calls in message.items() if key == "tool_calls"] in ([], [1])


def test_a_text_so_far_in_many_chunks_takes_linear_time() -> None:
    made = Assembly()
    for number in range(1, 3000):
        made.add(choice({"content": f"Of {'all ' * number}"}), 4 * number)
    assert made.body()["choices"][0]["message"]["content"] == f"Of {'all ' * 2999}"


def test_arguments_of_many_megabytes_are_not_looked_through_for_their_end() -> None:
    made = Assembly()
    made.add(choice(tool("", id="a")))
    for _ in range(40):
        made.add(choice({"tool_calls": [{"index": 0, "function": {"arguments": "[{" * 100_000}}]}), 200_000)
    progress: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "_mark", lambda _, mark: progress.append(mark))
        for number in range(20):
            made.add(choice(tool("[", id=f"b{number}")))
    assert len(progress) < 100


@pytest.mark.parametrize(
    ("chunk", "count"),
    [
        (
            b'{"choices":[{"delta":{"tool_calls":[{"index":%d,"id":"c%d","function":{"name":"f","arguments":"{}"}}]}}]}',
            4000,
        ),
        (b'{"choices":[{"delta":{"tool_calls":[{"index":%d,"function":{"name":"f%d","arguments":"x"}}]}}]}', 4000),
        (b'{"choices":[{"index":0,"message":{"content":"%d%d"}}]}', 20_000),
        (b'{"choices":[{"index":%d,"delta":{"a%d":1}}]}', 128),
    ],
    ids=["calls", "calls without ids", "messages", "choices"],
)
def test_what_is_kept_of_a_stream_is_not_larger_than_what_it_weighs(chunk: bytes, count: int) -> None:
    made = Assembly(limit=1 << 40)
    chunks = [chunk % (number, number) for number in range(count)]
    tracemalloc.start()
    try:
        for one in chunks:
            made.add(json.loads(one), 1 << 20)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 60 * made._merger.weight + (1 << 16)


def test_messages_are_refused_before_they_fill_the_memory() -> None:
    items = b",".join([b"[]"] * 20_000)
    reader = streamed(*(b'{"choices":[{"message":{"x%d":[%s]}}]}' % (n, items) for n in range(20)))
    assert reader.problem is not None
    assert "more values" in reader.problem
