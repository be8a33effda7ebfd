"""Any list of tool calls, written in any way that a server has, comes back as it was."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_chat_provider.core.call.chunks.assembly import Assembly
from tests.support.chunks import choice
from tests.support.dialects import ANY, ARGUMENTS, IDS, NUMBERS, TYPES, Call, Dialect, read, written

VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.text('ab{}[]"\\:, é\n', max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab}:", max_size=4), inner, max_size=3),
    max_leaves=6,
)
CALL = st.tuples(
    st.sampled_from(["get_weather", "get_time", "search", "send_mail", "run"]),
    st.dictionaries(st.text("xyz", min_size=1, max_size=6), VALUE, max_size=3),
)
CALLS = st.lists(CALL, min_size=1, max_size=4, unique_by=str)
CHANCE = st.randoms(use_true_random=False)

# Each in more than one report of a real server; every number, id and type goes with each.
SEEN = [
    Dialect(numbers, ids, "head", types, arguments)
    for numbers in NUMBERS
    for ids in IDS
    for types in TYPES
    for arguments in ARGUMENTS
    if ids not in ("new", "other") or arguments in ("pieces", "whole", "after", "object")
]
SEEN += [
    Dialect(numbers, ids, "every", types, arguments)
    for numbers in NUMBERS
    for ids in IDS
    for types in TYPES
    for arguments in ("pieces", "whole", "object")
]
SEEN += [
    Dialect(numbers, ids, names, types, arguments)
    for numbers in NUMBERS
    for ids in ("head", "every", "empty", "null", "absent")
    for names in ("pieces", "so far")
    for types in TYPES
    for arguments in ("pieces", "whole", "after", "object")
    if ids == "every" or types != "every"
    if ids in ("head", "every") or types != "head" or numbers in ("own", "text")
]


def assembled(fragments: list[dict[str, Any]]) -> tuple[Any, tuple[str, ...]]:
    assembly = Assembly()
    for fragment in fragments:
        assembly.add(choice({"tool_calls": [fragment]}))
    return assembly.body()["choices"][0]["message"]["tool_calls"], assembly.doubts


@settings(max_examples=200, deadline=None)
@given(CALLS, st.sampled_from(SEEN), CHANCE)
def test_calls_come_back_from_every_way_of_writing_that_was_seen(
    calls: list[Call], dialect: Dialect, chance: random.Random
) -> None:
    made, _ = assembled(written(calls, dialect, chance))
    assert read(made) == calls


@settings(max_examples=200, deadline=None)
@given(CALLS, st.sampled_from(ANY), CHANCE)
def test_calls_in_any_way_of_writing_come_back_or_are_doubted_or_no_calls_of_these_tools(
    calls: list[Call], dialect: Dialect, chance: random.Random
) -> None:
    made, doubts = assembled(written(calls, dialect, chance))
    try:
        right = read(made) == calls
        known = {call["function"]["name"] for call in made} <= {name for name, _ in calls}
    except (ValueError, KeyError):
        return  # not JSON, or no name: whoever calls the tools sees it
    assert right or doubts or not known


@settings(max_examples=150, deadline=None)
@given(CALLS, st.sampled_from([dialect for dialect in SEEN if dialect.numbers == "own"]), CHANCE)
def test_calls_with_indexes_of_their_own_may_come_all_at_once(
    calls: list[Call], dialect: Dialect, chance: random.Random
) -> None:
    """Interleaved, each with its own fragments in order."""
    queues = [written([call], dialect, chance) for call in calls]
    for at, queue in enumerate(queues):
        for fragment in queue:
            fragment["index"] = at
            fragment.update({"id": f"{at}{fragment['id']}"} if fragment.get("id") else {})
    fragments = []
    while any(queues):
        queue = chance.choice([queue for queue in queues if queue])
        fragments.append(queue.pop(0))
    first_seen = list(dict.fromkeys(fragment["index"] for fragment in fragments))
    made, _ = assembled(fragments)
    assert read(made) == [calls[at] for at in first_seen]


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("ids", ["head", "every", "empty", "null", "absent"])
def test_a_call_that_differs_from_openais_in_one_thing_leaves_no_doubt(numbers: str, ids: str) -> None:
    calls: list[Call] = [("get_weather", {"city": "Rome"}), ("get_time", {"zone": "CET"})]
    made, doubts = assembled(written(calls, Dialect(numbers, ids), random.Random(1)))
    assert (read(made), doubts) == (calls, ())
