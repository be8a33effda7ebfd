"""What a server says, without what it quotes: no piece of the prompt, no secret."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.scrub import Scrubber

PROMPT = "The patient, a kestrel of 41 years, was admitted on Tuesday with a broken wing and no insurance."
KEY = "sk-kestrel-7f3a"
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": f'{{"note": "{PROMPT}"}}'}}


def holding(text: str) -> dict[str, list[Any]]:
    """The places of a request in which a text may stand."""
    call = {"function": {"name": "f", "arguments": text}}
    return {
        "content": [{"role": "user", "content": text}],
        "part": [{"role": "user", "content": [{"type": "text", "text": text}]}],
        "arguments": [{"role": "assistant", "tool_calls": [call]}],
    }


@pytest.mark.parametrize("place", holding(""))
@given(data=st.data())
def test_no_run_of_sixteen_characters_of_the_prompt_is_left(place: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(PROMPT) - 1))
    end = data.draw(st.integers(start, len(PROMPT)))
    before, after = (data.draw(st.sampled_from(["", "Bad value: '", "input ", "The p", "..."])) for _ in range(2))
    shown = Scrubber({"messages": holding(PROMPT)[place]})(before + PROMPT[start:end] + after)
    runs = {PROMPT[i : i + 16] for i in range(len(PROMPT) - 15)}
    assert not [run for run in runs if run in shown]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"Invalid content: {PROMPT!r}.", "Invalid content: '***'."),
        (f"Invalid: {PROMPT[:30]}... and {PROMPT[-30:]}", "Invalid: ***... and ***"),
        ("Unknown field: temperatur", "Unknown field: temperatur"),
        ("a broken wing", "a broken wing"),  # too short to be a quotation
    ],
)
def test_what_the_server_says_itself_stays(said: str, shown: str) -> None:
    assert Scrubber({"messages": holding(PROMPT)["content"]})(said) == shown


@pytest.mark.parametrize(
    ("prompt", "said", "shown"),
    [
        ("my secret", "Bad input 'my secret'", "Bad input '***'"),
        ("secret", "Bad input 'secret'", "Bad input 'secret'"),  # one short word says nothing of where it came from
        ("a b", "a b", "a b"),
        ("line one\nline two\nline three", "got line one\nline two\nline three", "got ***"),
        ("\x00 a prompt with a NUL in it", "got \x00 a prompt with a NUL in it!", "got ***!"),
    ],
)
def test_short_and_odd_prompts(prompt: str, said: str, shown: str) -> None:
    assert Scrubber({"messages": [{"content": prompt}]})(said) == shown


def test_secrets_are_blanked_wherever_they_stand() -> None:
    scrub = Scrubber(None, (KEY, "", "other"))
    assert scrub(f"Incorrect API key {KEY}, {KEY}!") == "Incorrect API key ***, ***!"
    assert scrub("x" * 590 + KEY)[-3:] == "..."
    assert "kestrel" not in scrub(" " * 592 + KEY)


def test_a_long_text_is_cut_and_lines_become_one() -> None:
    assert Scrubber()("a\n\n b\t\x1b[31mc\u202e") == "a b [31mc"
    assert Scrubber()("x" * 300) == "x" * 300
    assert Scrubber()("x" * 301) == "x" * 297 + "..."


@pytest.mark.parametrize(
    "request_", [None, "text", [], {}, {"messages": None}, {"messages": "Hi"}, {"messages": [5, None]}]
)
def test_a_request_of_any_shape_does_no_harm(request_: Any) -> None:
    assert Scrubber(request_)("No such model") == "No such model"


def test_the_end_of_a_cut_quotation_is_not_left() -> None:
    said = "Bad: " + PROMPT * 20
    shown = Scrubber({"messages": [{"content": PROMPT * 20}]})(said)
    assert shown == "Bad: ***"
    secret = "kestrel falls from the tower"
    cut = Scrubber({"messages": [{"content": secret}]})("\n" * 590 + secret)
    assert cut == ""
