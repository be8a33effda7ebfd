"""What a server sent, as XCom can keep it."""

from __future__ import annotations

import importlib
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_chat_provider.core.json_text.writing import _RESERVED, sanitize

NUL = "NUL or half a surrogate pair (replaced by U+FFFD)"
NAN = "NaN or infinity (kept as text)"
BIG = "an integer over 64 bits (kept as text)"
DEEP = "nesting over 60 levels (kept as JSON text)"


def key(name: str) -> str:
    return f"the key {name!r} (kept as {'_' + name!r})"


@pytest.mark.parametrize(
    ("value", "clean", "changed"),
    [
        ("a\x00b", "a\ufffdb", [NUL]),
        ("\ud83dx\udc00", "\ufffdx\ufffd", [NUL]),
        (["\x00", {"a": "\x00"}], ["\ufffd", {"a": "\ufffd"}], [NUL]),
        ({"\x00": 1}, {"\ufffd": 1}, [NUL]),
        (math.nan, "nan", [NAN]),
        ([math.inf, -math.inf], ["inf", "-inf"], [NAN]),
        (2**63, "9223372036854775808", [BIG]),
        (-(2**63) - 1, "-9223372036854775809", [BIG]),
        (16**5000, "0x1" + "0" * 5000, [BIG]),
        ({"__type": "dict", "__var": {}}, {"_" + "__type": "dict", "_" + "__var": {}}, [key("__type"), key("__var")]),
        ([{"__classname__": "x", "b": "\x00"}], [{"___classname__": "x", "b": "\ufffd"}], [key("__classname__"), NUL]),
    ],
    ids=range(11),
)
def test_what_xcom_refuses_is_replaced_and_named_once(value: Any, clean: Any, changed: list[str]) -> None:
    assert sanitize(value) == (clean, changed)
    assert sanitize(clean) == (clean, [])


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 2**63 - 1, 0.5, "", "é 😀 \u2028 \x01 \ufffd", [], {}, {"a": [{"_type": "__type"}]}],
)
def test_what_xcom_takes_stays(value: Any) -> None:
    assert sanitize(value) == (value, [])


def nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = {"a": [inner]}
    return inner


def test_only_what_is_nested_too_deep_becomes_text() -> None:
    value = nested(30, "x")
    assert sanitize(value) == (value, [])
    found, changed = sanitize(nested(30, {"b": "\x00é", "__type": 1}))
    assert (found, changed) == (nested(30, '{"b":"\\u0000é","__type":1}'), [DEEP])


@pytest.mark.parametrize("worst", [[10**5000], "deep"])
def test_what_cannot_even_be_written_as_text_is_left_out(worst: Any) -> None:
    if worst == "deep":
        for _ in range(100_000):
            worst = [worst]
    found, changed = sanitize(nested(30, worst))
    assert (found, changed) == (nested(30, "..."), [DEEP])
    while isinstance(worst, list):  # a list so deep must not be left to the interpreter's own recursion
        worst = worst.pop()


NASTY = st.text(st.characters(exclude_categories=()), max_size=4) | st.sampled_from(["\x00", "\ud800", "\udfff\ud800"])
KEYS = st.sampled_from(sorted(_RESERVED)) | NASTY
SCALARS = NASTY | st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([2**63, -(2**64), 10**30])
VALUES = st.recursive(SCALARS, lambda below: st.lists(below) | st.dictionaries(KEYS, below), max_leaves=15)


def keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(keys, value))
    return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()


@settings(max_examples=80, deadline=None, database=None)
@given(VALUES, st.integers(0, 40))
def test_any_value_can_be_written_afterwards_and_holds_no_key_of_airflow(value: Any, depth: int) -> None:
    clean, _ = sanitize(nested(depth, value))
    text = json.dumps(clean, allow_nan=False, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text.replace("\\\\", "")
    assert not keys(clean) & _RESERVED
    assert sanitize(clean) == (clean, [])


def serde() -> Any:
    for name in ("airflow.sdk.serde", "airflow.serialization.serde"):  # before Airflow 3.2 it was there
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise AssertionError("this Airflow has no serde")


@settings(max_examples=25, deadline=None, database=None)
@given(VALUES, st.integers(0, 40))
def test_airflow_gives_a_reader_exactly_what_was_written(value: Any, depth: int) -> None:
    clean, _ = sanitize(nested(depth, value))
    written = json.dumps(serde().serialize(clean), allow_nan=False)
    assert serde().deserialize(json.loads(written)) == clean


@pytest.mark.parametrize("name", sorted(_RESERVED))
def test_airflow_takes_no_text_of_a_server_for_an_object(name: str) -> None:
    hostile = {"__classname__": "airflow.sdk.definitions.connection.Connection", "__version__": 1, "__data__": {}}
    for value in ({name: "x"}, {**hostile, name: 1}, {"__type": "dict", "__var": {name: 1}}):
        clean, _ = sanitize({"body": [value]})
        assert serde().deserialize(json.loads(json.dumps(serde().serialize(clean)))) == clean


def test_sixty_levels_are_few_enough_for_airflow() -> None:
    clean, _ = sanitize(nested(500, "x"))
    assert serde().deserialize(json.loads(json.dumps(serde().serialize(clean)))) == clean
