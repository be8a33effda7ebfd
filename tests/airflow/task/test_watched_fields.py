"""What a task's fields were is kept as an outline, by which any later change in them is seen."""

import copy

import pytest

from airflow_chat_provider.task.rendering import outline, unchanged

VALUE = {"messages": [{"role": "user", "content": ["a", ("b", "c")]}], "stop": ["x"], "seed": 7}


def value():
    """A value with containers of its own."""
    return copy.deepcopy(VALUE)


def test_a_value_is_unchanged_as_long_as_nobody_touches_it():
    given = value()
    assert unchanged(given, outline(given))


def test_a_copy_of_the_containers_is_unchanged():
    given = value()
    was = outline(given)
    assert unchanged({**given, "messages": [dict(message) for message in given["messages"]]}, was)


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given.update(seed=8),
        lambda given: given.pop("seed"),
        lambda given: given.update(top_p=1),
        lambda given: given.update(other=given.pop("seed")),
        lambda given: given["stop"].append("y"),
        lambda given: given["messages"][0].update(role="system"),
        lambda given: given["messages"][0]["content"].insert(0, "b"),
        lambda given: given["messages"][0].update(content=("a", ("b", "c"))) or given.update(stop="x"),
    ],
)
def test_a_change_at_any_depth_is_seen(change):
    given = value()
    was = outline(given)
    change(given)
    assert not unchanged(given, was)


def test_the_outline_is_not_touched_by_a_change():
    given = value()
    was = outline(given)
    given["messages"].clear()
    assert was["messages"][0]["role"] == "user"


def test_a_value_that_contains_itself_has_an_outline():
    given = value()
    given["messages"].append(given)
    was = outline(given)
    assert unchanged(given, was)
    given["stop"].append("y")
    assert not unchanged(given, was)


def test_depth_is_not_limited_by_python_s_stack():
    deep: list[object] = ["bottom"]
    for _ in range(100_000):
        deep = [deep]
    assert unchanged(deep, outline(deep))
    while len(deep) == 1 and isinstance(deep[0], list):  # taken apart by hand: Python's own way is recursive
        deep = deep[0]
