"""A stream's text: in pieces, or, as some servers have it, so far with each chunk, or whole once more at the end."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_chat_provider.core.call.chunks.assembly import Assembly

SO_FAR = "Each chunk of the stream repeated the text of {} so far: the last one was taken"
AGAIN = "The last piece of {} in the stream repeated the whole text: it was taken once"
DIFFERS = (
    "Check the text of `content`: the stream sent it in pieces and in `message`, which differ: the longer was taken"
)
UNSURE = "Check the text of {}"


def assembled(*choices: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The message of the choices of chunks, and the doubts."""
    assembly = Assembly()
    for at, one in enumerate(choices):
        last = at == len(choices) - 1
        assembly.add({"id": "c", "choices": [{"index": 0, "finish_reason": "stop" if last else None, **one}]})
    message: dict[str, Any] = assembly.body()["choices"][0]["message"]
    return message, assembly.doubts


def of_deltas(*pieces: str, field: str = "content") -> tuple[Any, tuple[str, ...]]:
    made, doubts = assembled(*({"delta": {field: piece}} for piece in pieces))
    return made[field], doubts


@pytest.mark.parametrize("field", ["content", "reasoning_content", "reasoning"])
@pytest.mark.parametrize(
    "pieces",
    [
        ("Hello", "Hello wor", "Hello world", "Hello world"),
        ("", "Hello", "Hello wor", "Hello world", ""),
        ("H", "He", "Hel", "Hell", "Hello", "Hello w", "Hello world"),
        ("Hello wor", "Hello world"),
        ("\n\nHello", "\n\nHello world", "\n\nHello world"),
        tuple(accumulate(["Hello", " ", "wor", "ld"])),
    ],
)
def test_the_text_so_far_in_each_chunk_is_not_joined(pieces: tuple[str, ...], field: str) -> None:
    text, doubts = of_deltas(*pieces, field=field)
    assert text.strip() == "Hello world"
    assert doubts == (SO_FAR.format(f"`{field}`"),)


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (("Hel", "lo", " world", "Hello world"), "Hello world"),
        (("Hel", "lo", " world", "Hello world", ""), "Hello world"),
        (("Hel", "lo wor", "Hello world"), "Hello world"),
        (("Hello world, here I am", "Hello world, here I am"), "Hello world, here I am"),
    ],
)
def test_the_whole_text_once_more_at_the_end_is_taken_once(pieces: tuple[str, ...], whole: str) -> None:
    assert of_deltas(*pieces) == (whole, (AGAIN.format("`content`"),))


@pytest.mark.parametrize(
    "pieces",
    [
        ("ha", "ha", " ha"),
        ("0", "0", "0", "."),
        ("\n", "\n", "\n\n", "Hi"),
        (" ", " ", " Yes"),
        ("\n", "\n\n"),
        ("The", " cat", " and", " the", " cat"),
        ("Hello", " Hello", " Hello"),
        ("no", "no", "no", " way"),
        ("I", " think", " I", " think"),
        ("Hello", " world", "Hello"),
        ("a", "b", "ab", "c"),
    ],
)
def test_an_answer_that_repeats_itself_is_in_pieces_and_beyond_doubt(pieces: tuple[str, ...]) -> None:
    assert of_deltas(*pieces, "") == ("".join(pieces), ())


@pytest.mark.parametrize(
    "pieces",
    [
        ("Hel", "Hello"),
        ("OK", "OK"),
        ("ha", "ha", "haha"),
        ("It", "s", "Its"),
        (
            "Here is what I found in the documents: the contract",
            " ends in May.",
            "Here is what I found in the documents [1]: ",
        ),
    ],
)
def test_ambiguous_pieces_are_joined_with_a_doubt(pieces: tuple[str, ...]) -> None:
    text, doubts = of_deltas(*pieces)
    assert text == "".join(pieces)
    assert [doubt.startswith(UNSURE.format("`content`")) for doubt in doubts] == [True]


@pytest.mark.parametrize("pieces", [("0", "00"), ("ha", "haha", "hahaha")])
def test_pieces_that_grow_by_their_own_beginning_are_joined(pieces: tuple[str, ...]) -> None:
    assert of_deltas(*pieces)[0] == "".join(pieces)


def test_one_text_of_a_stream_shows_what_another_means() -> None:
    so_far = (
        {"delta": {"reasoning_content": "Hm", "content": "Hello"}},
        {"delta": {"reasoning_content": "Hm.", "content": "Hello world"}},
    )
    made, doubts = assembled(*so_far, {"delta": {"content": "Hello world"}})
    assert (made["reasoning_content"], made["content"], len(doubts)) == ("Hm.", "Hello world", 2)
    made, doubts = assembled(
        {"delta": {"reasoning": "Hm"}},
        {"delta": {"reasoning": "Hm."}},
        {"delta": {"content": "a"}},
        {"delta": {"content": "b"}},
    )
    assert (made["reasoning"], made["content"], doubts) == ("HmHm.", "ab", ())


def test_a_doubt_quotes_neither_the_answer_nor_a_field_that_the_server_made_up() -> None:
    _, doubts = of_deltas("Secret", "Secret wor", "Secret world", field="x-secret")
    assert doubts == (SO_FAR.format("a text field"),)


WORDS = st.lists(st.sampled_from([" a", " b", "ha", "\n", " the", "0", " "]), max_size=12)


@settings(max_examples=200, deadline=None)
@given(WORDS)
def test_pieces_of_an_answer_are_joined_or_doubted(pieces: list[str]) -> None:
    text, doubts = of_deltas(*pieces, "") if pieces else ("", ())
    assert text == "".join(pieces) or doubts


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=6), min_size=3, max_size=9))
def test_a_text_so_far_is_never_joined_without_a_doubt(pieces: list[str]) -> None:
    """Unless it is blank, or grows by its own beginning, which an answer may do."""
    so_far = list(accumulate(pieces))
    text, doubts = of_deltas(*so_far)
    grows = all(
        not new.startswith(old) and not old.startswith(new) for old, new in zip(so_far, pieces[1:], strict=False)
    )
    assert text == so_far[-1] or doubts or not grows or not so_far[-2].strip()


class TestMessages:
    """`message` beside a delta, or in its place: the text so far, the whole at the end, or, rarely, a piece."""

    def test_a_message_beside_each_delta_is_the_text_so_far(self) -> None:
        made, doubts = assembled(
            {"message": {"role": "assistant", "content": "Hello"}, "delta": {"role": "assistant", "content": "Hello"}},
            {"message": {"role": "assistant", "content": "Hello world"}, "delta": {"content": " world"}},
            {"message": {"role": "assistant", "content": "Hello world"}, "delta": {"content": ""}},
        )
        assert (made, doubts) == ({"role": "assistant", "content": "Hello world"}, ())

    @pytest.mark.parametrize(
        "pieces",
        [
            ("Hello", "Hello wor", "Hello world"),
            ("Hello world",),
            ("", "Hello", "Hello world", "Hello world"),
            ("Hello world", "Hello world"),
            ("Hello", " world", "Hello world"),
        ],
    )
    def test_messages_instead_of_deltas_may_be_the_text_so_far(self, pieces: tuple[str, ...]) -> None:
        made, doubts = assembled(*({"message": {"role": "assistant", "content": piece}} for piece in pieces))
        assert (made, doubts) == ({"role": "assistant", "content": "Hello world"}, ())

    @pytest.mark.parametrize("empty", [{}, {"content": ""}, {"role": "assistant", "content": None}, None])
    def test_a_message_beside_empty_deltas_counts(self, empty: Any) -> None:
        made, doubts = assembled(
            *({"delta": empty, "message": {"role": "assistant", "content": text}} for text in ("Hello", "Hello world"))
        )
        assert (made["content"], doubts) == ("Hello world", ())

    def test_messages_in_pieces_are_joined_with_a_doubt(self) -> None:
        made, doubts = assembled({"message": {"content": "Hello"}}, {"message": {"content": " world"}})
        assert made["content"] == "Hello world"
        assert doubts == (
            "Check the text of `content`: the stream seems to have sent it in `message` in pieces: they were joined",
        )

    @pytest.mark.parametrize(
        "last",
        [
            {"message": {"role": "assistant", "content": "Hello world"}},
            {"message": {"role": "assistant", "content": "Hello world"}, "delta": {}},
            {"message": {"role": "assistant", "content": "Hello world"}, "delta": None},
            {"message": {"role": "assistant", "content": None}, "delta": {}},
            {"message": {}, "delta": {}},
            {"message": None},
        ],
    )
    def test_a_whole_message_at_the_end_agrees_with_the_deltas(self, last: dict[str, Any]) -> None:
        made, doubts = assembled({"delta": {"content": "Hello"}}, {"delta": {"content": " world"}}, last)
        assert (made, doubts) == ({"role": "assistant", "content": "Hello world"}, ())

    def test_a_whole_message_shows_that_deltas_were_the_text_so_far(self) -> None:
        made, doubts = assembled(
            {"delta": {"content": "Hi"}}, {"delta": {"content": "Hi!"}}, {"delta": {}, "message": {"content": "Hi!"}}
        )
        assert (made["content"], doubts) == ("Hi!", ())

    def test_a_whole_message_shows_that_deltas_were_pieces(self) -> None:
        made, doubts = assembled(
            {"delta": {"content": "Hel"}},
            {"delta": {"content": "Hello"}},
            {"delta": {}, "message": {"content": "HelHello"}},
        )
        assert (made["content"], doubts) == ("HelHello", ())

    @pytest.mark.parametrize("whole", ["Hello there", "Hello", "Hello world, and all"])
    def test_a_whole_message_that_differs_from_the_deltas_leaves_a_doubt(self, whole: str) -> None:
        made, doubts = assembled(
            {"delta": {"content": "Hello"}}, {"delta": {"content": " world"}}, {"message": {"content": whole}}
        )
        assert made["content"] == max("Hello world", whole, key=len)
        assert doubts == (DIFFERS,)

    @pytest.mark.parametrize(("whole", "doubted"), [("Hello world", False), ("Hello", True)])
    def test_a_message_of_parts_is_compared_with_deltas_of_text(self, whole: str, *, doubted: bool) -> None:
        parts = [{"type": "text", "text": whole}]
        deltas = {"delta": {"content": "Hello"}}, {"delta": {"content": " world"}}
        made, doubts = assembled(*deltas, {"delta": {}, "message": {"content": parts}})
        assert (made["content"], bool(doubts)) == ("Hello world", doubted)

    def test_role_and_name_of_messages_are_not_joined(self) -> None:
        made, doubts = assembled(
            *(
                {"message": {"role": role, "name": "ab"[at], "content": "Hi"}}
                for at, role in enumerate(["assistant"] * 2)
            )
        )
        assert (made, doubts) == ({"role": "assistant", "name": "b", "content": "Hi"}, ())

    def test_fields_that_only_a_message_has_are_taken(self) -> None:
        calls = [{"id": "a", "type": None, "function": {"name": "f", "arguments": {"x": 1}}}]
        made, doubts = assembled(
            {"delta": {"content": "Hi"}},
            {"delta": {}, "message": {"content": "Hi", "tool_calls": calls, "reasoning": "hm", "refusal": None}},
        )
        call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
        assert made == {
            "role": "assistant",
            "content": "Hi",
            "tool_calls": [call],
            "reasoning": "hm",
            "refusal": None,
        }
        assert doubts == ()

    @pytest.mark.parametrize(("arguments", "doubted"), [('{"x": 1}', False), ('{"x":1}', False), ('{"x": 2}', True)])
    def test_calls_of_a_message_are_compared_with_those_of_the_deltas(self, arguments: str, *, doubted: bool) -> None:
        def call(text: str) -> list[dict[str, Any]]:
            return [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": text}}]

        more = [{"index": 0, "function": {"arguments": "1}"}}]
        made, doubts = assembled(
            {"delta": {"tool_calls": call('{"x": ')}},
            {"delta": {"tool_calls": more}},
            {"delta": {}, "message": {"tool_calls": call(arguments)}},
        )
        assert [one["function"]["arguments"] for one in made["tool_calls"]] == ['{"x": 1}']
        assert bool(doubts) == doubted

    def test_calls_of_messages_may_grow_with_each_chunk(self) -> None:
        def call(name: str, text: str) -> dict[str, Any]:
            return {"id": name, "type": "function", "function": {"name": name, "arguments": text}}

        made, doubts = assembled(
            {"message": {"tool_calls": [call("f", '{"x"')]}},
            {"message": {"tool_calls": [call("f", '{"x": 1}')]}},
            {"message": {"tool_calls": [call("f", '{"x": 1}'), call("g", "{}")]}},
        )
        assert (made["tool_calls"], doubts) == ([call("f", '{"x": 1}'), call("g", "{}")], ())

    def test_calls_of_messages_may_come_one_by_one(self) -> None:
        calls = [{"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in "fg"]
        made, _ = assembled(*({"message": {"tool_calls": [call]}} for call in calls))
        assert made["tool_calls"] == calls


class TestBareTexts:
    """A text in place of a delta or of its content."""

    def test_a_delta_may_be_a_text(self) -> None:
        made, doubts = assembled({"delta": "Hello"}, {"delta": " world"}, {"delta": None})
        assert (made, doubts) == ({"role": "assistant", "content": "Hello world"}, ())

    def test_a_chunk_of_the_old_completions_has_text(self) -> None:
        made, doubts = assembled({"text": "Hello"}, {"text": " world"}, {"text": ""})
        assert (made, doubts) == ({"role": "assistant", "content": "Hello world"}, ())

    def test_the_same_text_beside_the_delta_counts_once(self) -> None:
        made, doubts = assembled(*({"text": text, "delta": {"content": text}} for text in ("Hello", " world", "")))
        assert (made, doubts) == ({"role": "assistant", "content": "Hello world"}, ())

    def test_another_text_beside_the_delta_is_doubted(self) -> None:
        made, doubts = assembled({"text": "Bye", "delta": {"content": "Hello"}})
        assert (made["content"], len(doubts)) == ("Hello", 1)

    def test_a_delta_of_another_type_is_ignored_with_a_doubt(self) -> None:
        made, doubts = assembled({"delta": {"content": "Hello"}}, {"delta": [1]})
        assert made["content"] == "Hello"
        assert doubts == ("A part of the stream was ignored: a delta that is neither an object nor a text",)
