"""What a server says, without what it quotes: no piece of the prompt, no secret."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.server.scrub import Scrubber

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
        ("secret", "Bad input 'secret', secretly", "Bad input '***', secretly"),
        (" secret\n", "Bad input 'secret'", "Bad input '***'"),
        ("4711", "no 4711, 47110 or 14711", "no ***, 47110 or 14711"),
        ("the", "the model that you named", "the model that you named"),  # shorter than four letters
        ("a", "a model", "a model"),
        ("user", "the user's role", "the ***'s role"),
        ("héros", "trop de héros, héroïsme", "trop de ***, héroïsme"),
        ("\u4f60\u597d", "\u8f93\u5165\u4f60\u597d\u65e0\u6548", "\u8f93\u5165***\u65e0\u6548"),
        ("a\\b (c", "got a\\b (c", "got ***"),
        ("a b", "a b", "a b"),
        ("line one\nline two\nline three", "got line one\nline two\nline three", "got ***"),
        ("line one\nline two", 'got "line one\\nline two"', 'got "***"'),  # as JSON has it
        ("\x00 a prompt with a NUL in it", "got \x00 a prompt with a NUL in it!", "got ***!"),
    ],
)
def test_short_and_odd_prompts_are_blanked_where_they_say_something(prompt: str, said: str, shown: str) -> None:
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
def test_a_request_of_any_shape_can_be_looked_through(request_: Any) -> None:
    assert Scrubber(request_)("No such model") == "No such model"


def test_the_end_of_a_cut_quotation_is_not_left() -> None:
    said = "Bad: " + PROMPT * 20
    shown = Scrubber({"messages": [{"content": PROMPT * 20}]})(said)
    assert shown == "Bad: ***"
    secret = "kestrel falls from the tower"
    cut = Scrubber({"messages": [{"content": secret}]})("\n" * 590 + secret)
    assert cut == ""


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "Hi"},
        {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "Hi"},
        {"role": "assistant", "tool_calls": [{"id": "call_1", "function": {"name": "weather", "arguments": "{}"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"detail": "high"}}]},
    ],
)
def test_the_words_that_every_request_has_stay(message: dict[str, Any]) -> None:
    said = "role user or tool: call_1 of weather, type image_url, detail high"
    assert Scrubber({"messages": [message]})(said) == said


def test_the_name_of_who_speaks_and_a_prediction_are_blanked() -> None:
    request = {
        "messages": [{"role": "user", "name": "kestrel", "content": "Hi"}],
        "prediction": {"type": "content", "content": "wing"},
    }
    assert Scrubber(request)("'kestrel' or 'wing' of the content") == "'***' or '***' of the content"


@pytest.mark.parametrize("length", [1 << 16, (1 << 16) + 1, 200_003])
@pytest.mark.parametrize("edge", [0, 8, 16, (1 << 16) - 9, 1 << 16, -1])
def test_a_quotation_is_found_wherever_it_stands_in_a_long_prompt(length: int, edge: int) -> None:
    letters = "".join(chr(0x4E00 + at % 20_000) for at in range(length))
    start = min(edge % length, length - 16)
    shown = Scrubber({"messages": [{"content": letters}]})(f"Bad: {letters[start : start + 16]}!")
    assert shown == "Bad: ***!"


def test_the_work_for_a_long_prompt_is_a_look_at_each_eighth_of_its_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search for each run of the server's text in it would be a hundred times as much."""
    from airflow_chat_provider.core.server import scrub

    pieces = []
    hide = scrub._Blanks._hide_runs

    def noted(*arguments: Any) -> None:
        pieces.append(1)
        hide(*arguments)

    monkeypatch.setattr(scrub._Blanks, "_hide_runs", noted)
    Scrubber({"messages": [{"content": "x" * (1 << 20)}]})("a" * 600)
    assert len(pieces) == (1 << 20) // scrub._PIECE


def test_a_request_too_long_to_be_looked_through_shows_nothing_of_the_servers_text() -> None:
    from airflow_chat_provider.core.server import scrub

    prompt = "x" * (scrub._WALKED + 1)
    assert Scrubber({"messages": [{"content": prompt}]})(f"Bad: {PROMPT}").startswith("(not shown")


def test_a_servers_code_holds_no_secret_and_no_whole_prompt() -> None:
    scrub = Scrubber({"messages": [{"content": "hunter2"}, {"content": PROMPT}]}, (KEY,))
    assert scrub.name("rate_limit_exceeded") == "rate_limit_exceeded"
    assert scrub.name("hunter2") == "***"
    assert scrub.name(f"req-{KEY}") == "req-***"
    assert scrub.name(f"a\x1b[31m\u202e {PROMPT}") == "a [31m ***"
