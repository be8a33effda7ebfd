"""Tool calls from their fragments, in the ways that servers send them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.call.chunks.assembly import Assembly
from tests.support.chunks import call, calls, choice, fragment, message


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


WEATHER = [call("call_a", "get_weather", '{"city": "Rome"}')]


def test_an_id_that_changes_after_the_first_fragment_starts_no_call() -> None:
    made = calls(
        {"index": 0, **call("call_a", "get_weather", "")},
        fragment('{"city"', index=0, id="call_b"),
        fragment(': "Rome"}', index=0, id="call_b"),
    )
    assert made == WEATHER


def test_an_id_and_a_name_with_every_fragment_are_one_call() -> None:
    made = calls(
        *(
            {"index": 0, **call(f"call_{at}", "get_weather", part)}
            for at, part in zip("abc", ('{"city"', ': "Rome"', "}"), strict=True)
        )
    )
    assert made == WEATHER


@pytest.mark.parametrize("kind", [{"type": ""}, {"type": None}, {}])
def test_a_call_without_a_type_is_a_function(kind: dict[str, Any]) -> None:
    head = {"index": 0, "id": "call_a", **kind, "function": {"name": "get_weather", "arguments": ""}}
    assert calls(head, fragment('{"city": "Rome"}', index=0, **kind)) == WEATHER


@pytest.mark.parametrize("kind", [{"type": ""}, {}])
def test_a_custom_tool_without_a_type_is_custom(kind: dict[str, Any]) -> None:
    assert calls({"index": 0, "id": "a", **kind, "custom": {"name": "sql", "input": "x"}})[0]["type"] == "custom"


@pytest.mark.parametrize("parts", [("get_", "weather"), ("get_", "get_weather"), ("get_weather", "get_weather")])
def test_a_name_may_come_in_pieces_or_so_far_or_again(parts: tuple[str, ...]) -> None:
    first, *rest = parts
    made = calls(
        {"index": 0, **call("call_a", first, "")},
        *({"index": 0, "function": {"name": part}} for part in rest),
        fragment('{"city": "Rome"}', index=0),
    )
    assert made == WEATHER


@pytest.mark.parametrize("identity", ["", None])
@pytest.mark.parametrize("index", [0, "0", None, -1, 0.0])
def test_whole_calls_of_one_index_stay_separate(identity: str | None, index: Any) -> None:
    whole = [call(identity, "f", '{"x": 1}'), call(identity, "g", "{}"), call(identity, "f", '{"x": 2}')]
    assert calls(*({"index": index, **one} for one in whole)) == whole
    assert message({"tool_calls": [{"index": index, **one} for one in whole]})["tool_calls"] == whole


@pytest.mark.parametrize("identity", ["", None, "a"])
def test_whole_calls_without_parameters_stay_separate(identity: str | None) -> None:
    whole = [call(identity, "get_time", ""), call(identity and "b", "get_date", "")]
    assert calls(*({"index": 0, **one} for one in whole)) == whole


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([{"city": "Rome"}], '{"city":"Rome"}'),
        ([{}, {"city": "Rome"}], '{"city":"Rome"}'),
        ([{"city": "Ro"}, {"city": "Rome"}], '{"city":"Rome"}'),
        ([{"city": "Rome"}, {"days": 3}], '{"city":"Rome","days":3}'),
        (["", {"city": "Rome"}], '{"city":"Rome"}'),
        ([{"city": "Rome"}, ""], '{"city":"Rome"}'),
        ([{}, '{"city": "Rome"}'], '{"city": "Rome"}'),
        ([{"city": "é"}], '{"city":"é"}'),
    ],
)
def test_arguments_that_are_an_object_become_its_text(pieces: list[Any], text: str) -> None:
    first, *rest = pieces
    head = {"index": 0, "id": "a", "function": {"name": "f", "arguments": first}}
    made = calls(head, *({"index": 0, "function": {"arguments": piece}} for piece in rest))
    assert [one["function"]["arguments"] for one in made] == [text]


@pytest.mark.parametrize(
    "pieces",
    [
        ['{"city"', ': "Rome"}', '{"city": "Rome"}'],
        ['{"city": "Rome"}', '{"city": "Rome"}', '{"city": "Rome"}'],
        ['{"city": ', '{"city": "Rome"', '{"city": "Rome"}'],
        ["{}", '{"city": ', '"Rome"}'],
        ['{"city": "Rome"}', "{}"],
        ['{"city": "Rome"}', '"{\\"city\\": \\"Rome\\"}"'],
        ['{"city": ', '"Rome"}', '{"city":"Rome"}'],
    ],
)
@pytest.mark.parametrize("identity", [{}, {"id": "call_a"}])
def test_arguments_that_come_again_or_so_far_count_once(pieces: list[str], identity: dict[str, Any]) -> None:
    first, *rest = pieces
    made = calls(
        {"index": 0, **call("call_a", "get_weather", first)}, *(fragment(piece, index=0, **identity) for piece in rest)
    )
    assert made == WEATHER


def test_a_fragment_of_a_number_that_no_call_has_continues_the_last() -> None:
    made = calls(
        {"index": 0, **call("call_a", "get_weather", "")}, fragment('{"city"', index=1), fragment(': "Rome"}', index=2)
    )
    assert made == WEATHER


def test_fragments_without_a_number_are_told_apart_by_their_place() -> None:
    heads = [call("a", "f", ""), call("b", "g", "")]
    rest = [[fragment('{"x"'), fragment('{"y"')], [fragment(": 1}"), fragment(": 2}")]]
    made = message({"tool_calls": heads}, *({"tool_calls": one} for one in rest))["tool_calls"]
    assert made == [call("a", "f", '{"x": 1}'), call("b", "g", '{"y": 2}')]


def test_one_id_for_all_calls_does_not_make_them_one() -> None:
    made = calls(
        {"index": 0, **call("x", "f", "")},
        fragment('{"x": 1}', index=0),
        {"index": 1, **call("x", "g", "")},
        fragment('{"y": 2}', index=1),
    )
    assert made == [call("x", "f", '{"x": 1}'), call("x", "g", '{"y": 2}')]


def test_an_empty_fragment_at_the_end_adds_no_call() -> None:
    assert (
        calls({"index": 0, **WEATHER[0]}, {"index": 1, "id": "", "function": {"name": "", "arguments": ""}}) == WEATHER
    )


def test_one_call_may_stand_outside_a_list() -> None:
    made = message({"tool_calls": {"index": 0, **WEATHER[0]}})
    assert made["tool_calls"] == WEATHER


def test_a_signature_beside_a_call_is_kept_and_not_doubled() -> None:
    signature = {"extra_content": {"google": {"thought_signature": "s=="}}}
    made = calls({"index": 0, **call("a", "f", ""), **signature}, {**fragment("{}", index=0), **signature})
    assert made == [{**call("a", "f", "{}"), **signature}]


@pytest.mark.parametrize(
    "fragments",
    [
        [{"index": 0, **call("", "f", '{"x": 1}')}, {"index": 0, **call("", "f", '{"x": 1}')}],
        [call(None, "f", '{"x": 1}'), call(None, "f", '{"x": 1}')],
        [{"index": 0, **call("", "f", "")}, {"index": 0, **call("", "f", "")}],
        [{"index": 0, **call("a", "f", '{"x": 1}')}, {"index": 0, **call("b", "f", "")}],
        [{"index": 0, **call("a", "f", '{"x":')}, fragment("1", index=0, id="b")],
        [{"index": 0, **call("a", "f", '{"x":')}, {"index": 0, **call("a", "g", "1}")}],
        [
            {"index": 0, **call("a", "f", "")},
            {"index": 0, "function": {"arguments": {"x": 1}}},
            fragment('{"x": 2}', index=0),
        ],
    ],
)
def test_ambiguous_calls_leave_a_doubt(fragments: list[dict[str, Any]]) -> None:
    assembly = Assembly()
    for one in fragments:
        assembly.add(choice({"tool_calls": [one]}))
    assembly.body()
    assert len(assembly.doubts) == 1
    assert assembly.doubts[0].startswith("Check the ")


@pytest.mark.parametrize(
    "pieces",
    [
        [{"name": "get_weather", "arguments": {"city": "Rome"}}],
        [{"name": "get_", "arguments": ""}, {"name": "weather"}, {"arguments": '{"city":"Rome"}'}],
        [{"name": "get_weather", "arguments": '{"city"'}, {"name": "get_weather", "arguments": ':"Rome"}'}],
        [{"name": "get_weather", "arguments": '{"city":"Rome"}'}, {"arguments": '{"city":"Rome"}'}],
    ],
)
def test_a_legacy_function_call_may_be_written_in_each_of_these_ways(pieces: list[dict[str, Any]]) -> None:
    made = message(*({"function_call": piece} for piece in pieces))
    assert made["function_call"] == {"name": "get_weather", "arguments": '{"city":"Rome"}'}
