"""Any completion, cut into chunks anywhere, comes back whole."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_chat_provider.core.call.stream import StreamReader

TEXT = st.text(max_size=12)
NAME = st.text("abc_", min_size=1, max_size=5)
USAGE = st.none() | st.fixed_dictionaries({"total_tokens": st.integers(0, 99)})
FINISH = st.sampled_from(["stop", "length", "tool_calls"])
CALLS = st.lists(st.tuples(NAME, TEXT), min_size=1, max_size=3).map(
    lambda calls: [
        {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(calls)
    ]
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXT},
    optional={"tool_calls": CALLS, "reasoning_content": TEXT, "refusal": st.none()},
)
TOKENS = st.none() | st.fixed_dictionaries(
    {"content": st.lists(st.fixed_dictionaries({"token": TEXT, "logprob": st.floats(-9, 0)}), max_size=4)}
)
CHOICES = st.lists(
    st.fixed_dictionaries({"message": MESSAGE, "finish_reason": FINISH, "logprobs": TOKENS}), min_size=1, max_size=3
)


def pieces(value: Any, chance: random.Random) -> list[Any]:
    """A text or a list in one or more parts, some of them empty."""
    cuts = sorted(chance.randint(0, len(value)) for _ in range(chance.randint(0, 3)))
    return [value[start:end] for start, end in pairwise([0, *cuts, len(value)])]


def call_deltas(at: int, call: dict[str, Any], chance: random.Random) -> list[dict[str, Any]]:
    first, *rest = pieces(call["function"]["arguments"], chance)
    head = {**call, "function": {**call["function"], "arguments": first}}
    fragments = [head, *({"function": {"arguments": piece}} for piece in rest)]
    return [{"delta": {"tool_calls": [{"index": at, **fragment}]}} for fragment in fragments]


def choice_parts(choice: dict[str, Any], chance: random.Random) -> list[dict[str, Any]]:
    """What a server would send of one choice, in its order."""
    parts: list[dict[str, Any]] = [{"delta": {"role": "assistant"}, "logprobs": None}]
    for key, value in choice["message"].items():
        if key == "tool_calls":
            parts += [part for at, call in enumerate(value) for part in call_deltas(at, call, chance)]
        elif key != "role":
            parts += [{"delta": {key: piece}} for piece in (pieces(value, chance) if value is not None else [None])]
    if choice["logprobs"] is not None:
        parts += [
            {"delta": {}, "logprobs": {"content": part}} for part in pieces(choice["logprobs"]["content"], chance)
        ]
    return [*parts, {"delta": {}, "finish_reason": choice["finish_reason"]}]


def chunked(body: dict[str, Any], chance: random.Random) -> list[dict[str, Any]]:
    """A completion as the chunks of a stream, those of its choices mixed, each choice's own in order."""
    head = {"id": body["id"], "model": body["model"], "object": "chat.completion.chunk"}
    queues = {choice["index"]: choice_parts(choice, chance) for choice in body["choices"]}
    chunks: list[dict[str, Any]] = []
    while queues:
        index = chance.choice(list(queues))
        chunks.append({**head, "choices": [{"index": index, **queues[index].pop(0)}]})
        queues = {key: parts for key, parts in queues.items() if parts}
    return [*chunks, {**head, "choices": [], "usage": body["usage"]}] if "usage" in body else chunks


@settings(max_examples=150, deadline=None)
@given(CHOICES, USAGE, st.randoms(use_true_random=False))
def test_a_completion_cut_into_chunks_anywhere_comes_back(
    choices: list[dict[str, Any]], usage: Any, chance: random.Random
) -> None:
    body = {"id": "c", "model": "m", "object": "chat.completion", **({"usage": usage} if usage else {})}
    body["choices"] = [{"index": at, **choice} for at, choice in enumerate(choices)]
    chunks = chunked(body, chance)
    events = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode() for chunk in chunks]
    raw = b"".join(events) + b"data: [DONE]\n\n"
    reader = StreamReader(1 << 20)
    found = [chunk for piece in pieces(raw, chance) for chunk in reader.feed(piece)] + reader.end()
    assert (found, reader.problem, reader.body()) == (chunks, None, body)
