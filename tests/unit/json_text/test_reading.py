"""What a server sent, read in steps that are short, and only as far as it is worth the memory."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_chat_provider.core.json_text import reading
from airflow_chat_provider.core.json_text.reading import TooMuch, allowance, read_json, read_text, weight

TOKEN = {"token": "abc", "logprob": -0.125, "bytes": [97, 98, 99]}
LOGPROBS = [{**TOKEN, "top_logprobs": [TOKEN] * 20}] * 400


@pytest.fixture(params=[1 << 18, 16], ids=["large steps", "small steps"])
def _by_steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is read as a long one."""
    monkeypatch.setattr(reading, "LARGE", 0)
    monkeypatch.setattr(reading, "_STEP", request.param)
    monkeypatch.setattr(reading, "_WINDOW", request.param)


def read(data: bytes) -> Any:
    try:
        return read_json(data)
    except (ValueError, RecursionError):
        return "not JSON"


def expected(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8", "replace").removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return "not JSON"


TEXTS = st.text(st.characters(exclude_categories=()), max_size=60) | st.text('\\\n"é😀\ud83d\ude00', max_size=40)
SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda below: st.lists(below) | st.dictionaries(TEXTS, below), max_leaves=20)
SOUP = st.text('{}[],:"\\0aeu1-.+Entrufalse \nd8Dcé😀\x00', max_size=14)


@pytest.mark.usefixtures("_by_steps")
class TestJson:
    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(VALUES, st.booleans(), st.sampled_from([None, 2]))
    def test_any_json_is_read_as_json_itself_reads_it(self, value: Any, ascii_only: bool, indent: int | None) -> None:
        text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
        data = text.encode("utf-8", "surrogatepass")
        assert read(data) == expected(data)

    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(SOUP)
    @example("")
    @example("[1,]")
    @example('{"a":1,}')
    @example('["a\n"]')
    @example("[01]")
    @example("[-]")
    @example("[1.]")
    @example('["\\u12"]')
    @example('["\\x"]')
    @example("[1] 2")
    @example('{"a" 1}')
    @example("{1: 2}")
    def test_what_is_not_json_is_refused_as_json_itself_refuses_it(self, text: str) -> None:
        for data in (text.encode(), f"[{text}]".encode(), f'["{text}"]'.encode()):
            assert repr(read(data)) == repr(expected(data))

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.sampled_from([b"A", b"\xff", b"\xc3", b"\xa9", b"\xf0\x9f", b"\x98\x80", b"\xe4"]), max_size=60))
    def test_bytes_that_are_no_text_are_replaced_wherever_a_step_ends(self, parts: list[bytes]) -> None:
        data = b'["' + b"".join(parts) + b'"]'
        assert read(data) == expected(data)

    def test_a_pair_of_surrogates_is_one_character_wherever_a_step_ends(self) -> None:
        for before in range(40):
            data = ('["' + "x" * before + "\\ud83d\\ude00" * 9 + '\\ud83d"]').encode()
            assert read(data) == ["x" * before + "😀" * 9 + "\ud83d"]

    def test_the_byte_order_mark_and_white_space_are_passed_over(self) -> None:
        assert read(b"\xef\xbb\xbf" + b" \n" * 100_000 + b"[ 1 ]" + b"\t" * 70_000) == [1]

    def test_numbers_are_read_as_json_reads_them_and_long_ones_stay_text(self) -> None:
        not_a_number, *others = read_json(b"[NaN, -Infinity, 1e999, -0, 1E-2, %s, %s]" % (b"1" * 64, b"1" * 65))
        assert math.isnan(not_a_number)
        assert others == [-math.inf, math.inf, 0, 0.01, int("1" * 64), "1" * 65]

    def test_nesting_without_an_end_is_refused(self) -> None:
        assert read(b"[" * 100_000) == "not JSON"
        assert read(b'{"a":' * 100_000) == "not JSON"

    def test_log_probabilities_of_hundreds_of_tokens_are_read(self) -> None:
        data = json.dumps(LOGPROBS * 2, separators=(",", ":")).encode()
        assert weight(LOGPROBS * 2) > 100_000
        assert read_json(data) == LOGPROBS * 2


@pytest.mark.slow
@pytest.mark.parametrize("item", [b"{}", b"[]", b"1", b'{"a":{}}'])
def test_more_values_than_a_text_is_worth_are_refused_before_they_are_made(
    item: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_FREE", 1000)
    data = b"[" + (item + b",") * 300_000 + item + b"]"
    with pytest.raises(TooMuch):
        read_json(data)


def test_the_allowance_grows_with_the_size_and_ends() -> None:
    assert 0 < allowance(0) < allowance(1 << 20) < allowance(1 << 23) == allowance(1 << 40)


def test_a_connection_that_takes_larger_answers_takes_more_values() -> None:
    assert allowance(1 << 30, 256 << 20) == 4 * allowance(1 << 30)
    assert allowance(10, 1) == allowance(0)


def test_a_wide_text_that_is_too_long_to_be_moved_in_one_step_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_WIDEST", 400_000)
    ascii_only, wide = b"x" * 500_000, "é".encode() * 500_000
    assert read_json(b'["' + ascii_only + b'"]') == [ascii_only.decode()]
    with pytest.raises(TooMuch):
        read_json(b'["' + wide + b'"]')
    assert read_text(ascii_only) == ascii_only.decode()
    assert read_text(wide) == "é" * 400_000


def test_no_step_in_a_long_text_is_longer_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What json may read in one step is a window: the rest goes token by token."""
    seen = []
    scan = reading._scan_once

    def noted(text: str, at: int) -> Any:
        seen.append(len(text))
        return scan(text, at)

    monkeypatch.setattr(reading, "_scan_once", noted)
    data = json.dumps({"a": LOGPROBS, "b": "x" * (1 << 20)}).encode()
    assert read_json(data)["a"] == LOGPROBS
    assert seen
    assert max(seen) <= reading._WINDOW


def test_what_is_looked_at_in_vain_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that each pass the window, one in the other: to try json at each would take the square of their size."""
    looked = []
    scan = reading._scan_once

    def noted(text: str, at: int) -> Any:
        looked.append(len(text) - at)
        return scan(text, at)

    monkeypatch.setattr(reading, "_scan_once", noted)
    data = b'{"a":' * 190 + b'"' + b"x" * (1 << 19) + b'"' + b"}" * 190
    read_json(data)
    assert sum(looked) < 4 * len(data)


@pytest.mark.parametrize(
    "charset", ["", "utf-8", "ascii", "latin-1", "utf-16", "utf-16be", "punycode", "rot13", "idna"]
)
def test_any_bytes_are_a_text_in_any_charset(charset: str) -> None:
    chance = random.Random(7)
    for _ in range(200):
        assert isinstance(read_text(chance.randbytes(chance.randint(0, 40)), charset), str)


def test_a_text_in_steps_is_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "aé😀\u4e00" * 50
    monkeypatch.setattr(reading, "_STEP", 7)
    assert read_text(text.encode()) == text
    assert read_text(text.encode("utf-16"), "utf-16") == text
    assert read_text(text.encode("utf-16-be"), "utf-16be") == text
    assert read_text("aé".encode("latin-1") * 50, "latin-1") == "aé" * 50
