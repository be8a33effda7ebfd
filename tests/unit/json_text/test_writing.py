"""JSON as json writes it, in steps."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_chat_provider.core.json_text import writing
from airflow_chat_provider.core.json_text.writing import small, write_json

TEXTS = st.text(st.characters(exclude_categories=()), max_size=40)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(SCALARS, lambda below: st.lists(below) | st.dictionaries(TEXTS, below), max_leaves=20)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(VALUES, st.booleans())
def test_a_value_is_written_as_json_writes_it(value: Any, ascii_only: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_FEW", -1)
        patch.setattr(writing, "STEP", 3)
        written = write_json(value, ascii_only=ascii_only)
    assert written == json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))


@pytest.mark.parametrize(
    "value", [[0] * 5001, {str(n): 0 for n in range(5001)}, "x" * 100_001, [["x" * 50_001], {"a": "x" * 50_000}]]
)
def test_what_is_large_in_any_way_is_not_written_in_one_step(value: Any) -> None:
    assert not small(value)
    assert json.loads(write_json(value)) == value


def test_an_ordinary_answer_is_small() -> None:
    assert small({"choices": [{"message": {"content": "x" * 50_000}}] * 1})
