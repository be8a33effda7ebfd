"""Tool calls from their fragments, in the ways that servers send them."""

from __future__ import annotations

import pytest

from tests.core.chunks import call, calls, fragment, message


def test_tool_calls_come_in_fragments_by_index() -> None:
    made = message(
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 0, **call("a", "f", "")}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]},
        {"tool_calls": [{"index": 1, **call("b", "g", "{")}, {"index": 0, "function": {"arguments": ": 1}"}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]},
    )
    assert made == {
        "role": "assistant",
        "content": None,
        "tool_calls": [call("a", "f", '{"x": 1}'), call("b", "g", "{}")],
    }


@pytest.mark.parametrize("identity", ["", None])
def test_gemini_sends_whole_calls_without_an_index(identity: str | None) -> None:
    whole = [call(identity, "f", "{}"), call(identity, "f", '{"x": 1}')]
    assert calls(*whole) == whole
    assert message({"tool_calls": whole})["tool_calls"] == whole


def test_calls_that_all_have_index_0_are_told_apart_by_their_id() -> None:
    made = calls(
        {"index": 0, **call("a", "f", "{")},
        fragment("}", index=0),
        {"index": 0, **call("b", "g", "[")},
        fragment("]", index=0),
        fragment("!", index=0, id="a"),
    )
    assert made == [call("a", "f", "{}!"), call("b", "g", "[]")]


def test_fragments_without_index_or_id_continue_the_last_call() -> None:
    assert calls(call("a", "f", "{"), fragment("}"), call("b", "g", "["), fragment("]", id="")) == [
        call("a", "f", "{}"),
        call("b", "g", "[]"),
    ]


def test_names_that_are_sent_with_every_chunk_are_not_joined() -> None:
    deltas = [{"role": "assistant", "tool_calls": [{"index": 0, **call("a", "f", part)}]} for part in ("{", "", "}")]
    assert message(*deltas) == {"role": "assistant", "content": None, "tool_calls": [call("a", "f", "{}")]}


def test_a_name_that_comes_late_counts() -> None:
    assert calls(fragment("", index=0, id="", name=""), {"index": 0, **call("a", "f", "{}")}) == [call("a", "f", "{}")]


def test_a_custom_tools_input_is_joined() -> None:
    made = calls(
        {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": "select"}},
        {"index": 0, "custom": {"input": " 1"}},
    )
    assert made == [{"id": "a", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}]


def test_a_legacy_function_call_is_joined() -> None:
    made = message(
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{"}},
        {"function_call": {"arguments": "}"}},
    )
    assert made["function_call"] == {"name": "f", "arguments": "{}"}
