"""How deep JSON may be nested, for every Python and from wherever it is called."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.call.chunks.assembly import Assembly
from airflow_chat_provider.core.json_text import reading
from airflow_chat_provider.core.json_text.nesting import DEPTH, TooDeep, fault, loads, too_deep
from airflow_chat_provider.core.json_text.reading import read_json
from airflow_chat_provider.core.json_text.writing import sanitize
from airflow_chat_provider.core.request.json_values import encode, plain
from airflow_chat_provider.core.request.prepare import parse_text
from airflow_chat_provider.schema import load_schema

SHAPES = [("[", "]"), ('{"a":', "}"), ('{"a":[', "]}")]


def text(levels: int, start: str, end: str) -> str:
    times, rest = divmod(levels, start.count("[") + start.count("{"))
    return "[" * rest + start * times + "1" + end * times + "]" * rest


def at_depth(frames: int, call: Callable[[], Any]) -> Any:
    """What ``call`` gives to a caller who has so many callers above."""
    return call() if frames == 0 else at_depth(frames - 1, call)


def depth_by_hand(json_text: str) -> int:
    depth = deepest = 0
    in_text = escaped = False
    for char in json_text:
        if in_text:
            in_text = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_text = True
        else:
            depth += (char in "[{") - (char in "]}")
            deepest = max(deepest, depth)
    return deepest


@pytest.mark.parametrize(("start", "end"), SHAPES)
@pytest.mark.parametrize("large", [False, True])
def test_text_may_be_nested_as_deep_as_the_limit_and_no_deeper(
    start: str, end: str, *, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(reading, "LARGE", 0)
    fits, deeper = text(DEPTH, start, end), text(DEPTH + 1, start, end)
    assert loads(fits) == read_json(fits.encode()) == parse_text(fits) == json.loads(fits)
    for read in (loads, lambda value: loads(value.encode()), lambda value: read_json(value.encode())):
        with pytest.raises(TooDeep):
            read(deeper)


@pytest.mark.parametrize("beside", ['"[[[[\\"[[{"', '"\\\\",[],{}', '"é[{😀"', "[[[[]]]],{}"])
def test_only_brackets_that_stand_in_one_another_count(beside: str) -> None:
    rows = ",".join([beside] * 300)
    assert not too_deep(f"[{rows}]")
    nested = text(DEPTH - 1, "[", "]")
    assert not too_deep(f"[{rows},{nested},{rows}]")
    assert too_deep(f"[{rows},[{nested}],{rows}]")


LEAVES = st.none() | st.sampled_from(["[", '"', "\\", '\\"{', "é]", "\ud800"])


@given(st.recursive(LEAVES, lambda below: st.lists(below) | st.dictionaries(st.sampled_from('[}"\\'), below)))
def test_the_depth_is_that_of_a_count_by_hand(value: Any) -> None:
    for ascii_only in (True, False):
        written = json.dumps(value, ensure_ascii=ascii_only)
        more = DEPTH - depth_by_hand(f"[{written}]")
        around = "[" * more + f"[{written}]" + ",[]" * 200 + "]" * more
        assert not too_deep(around)
        assert too_deep(f"[{around}]")


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ('{"a": 1,\n}', ("Expecting property name enclosed in double quotes", 2, 1)),
        ("[1, ]", ("Expecting value", 1, 5)),
        ('{"a" 1}', ("Expecting ':' delimiter", 1, 6)),
    ],
)
def test_what_is_wrong_with_a_text_is_said_alike_on_every_python(broken: str, expected: tuple[str, int, int]) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        loads(broken)
    assert fault(caught.value) == expected


def test_the_words_of_python_3_13_for_one_comma_too_many_are_those_of_the_others() -> None:
    error = json.JSONDecodeError("Illegal trailing comma before end of object", '{"a": 1,\n}', 7)
    assert fault(error) == ("Expecting property name enclosed in double quotes", 2, 1)
    error = json.JSONDecodeError("Illegal trailing comma before end of array", "[1, ]", 2)
    assert fault(error) == ("Expecting value", 1, 5)


@pytest.mark.parametrize(("start", "end"), SHAPES)
def test_what_is_as_deep_as_the_limit_is_handled_from_deep_within_a_program(start: str, end: str) -> None:
    written = text(DEPTH - 1, start, end)
    chunk = {"choices": [{"index": 0, "delta": {"x": json.loads(text(DEPTH - 5, start, end))}}]}
    schema = load_schema({"type": "object", "additionalProperties": True})
    assert schema is not None

    def assembled() -> Any:
        assembly = Assembly()
        assembly.add(chunk)
        assembly.add(chunk)
        return assembly.body()

    def handled() -> None:
        value = {"x": plain(parse_text(written))}
        schema.validate(schema.typed(value))
        assert json.loads(encode(value)) == value
        assert sanitize(read_json(written.encode()))[1]
        assert assembled()["choices"]

    at_depth(400, handled)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="json of this Python does not count its callers")
def test_a_caller_that_leaves_no_room_gets_the_error_of_too_much_nesting() -> None:
    above = len(inspect.stack(0))
    with pytest.raises(TooDeep):
        at_depth(sys.getrecursionlimit() - above - 100, lambda: loads(text(DEPTH, "[", "]")))
