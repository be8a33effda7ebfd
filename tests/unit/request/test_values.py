"""Python's everyday values where JSON is due: texts, numbers, objects, arrays; and what has no form."""

from __future__ import annotations

import json
from collections import UserString
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.coerce import Node, typed
from airflow_chat_provider.core.request.json_values import encode, plain
from airflow_chat_provider.core.request.prepare import finish, fold
from airflow_chat_provider.schema import load_schema
from tests.support.bodies import MINIMAL


class Colour(Enum):
    RED = "red"
    TWO = 2
    PAIR = ("a", "b")


@dataclass
class Message:
    content: Any
    role: str = "user"


class Part(BaseModel):
    text: str
    type: str = "text"
    file_name: str | None = Field(default=None, alias="fileName")
    at: datetime | None = None


class Scalar:
    """What numpy's scalars and arrays have in common."""

    class dtype:  # noqa: N801 - the attribute's name
        kind = "f"

    def __init__(self, value: Any, kind: str = "f") -> None:
        self.value = value
        self.dtype = type("dtype", (), {"kind": kind})  # type: ignore[misc,assignment]

    def astype(self, kind: type) -> Scalar:
        return Scalar(kind(self.value))

    def tolist(self) -> Any:
        return self.value


ID = UUID("12345678-1234-5678-1234-567812345678")
NEW_YORK = timezone(timedelta(hours=-5))

FORMS: list[tuple[Any, Any]] = [
    (datetime(2026, 11, 1, 12, 30, tzinfo=UTC), "2026-11-01T12:30:00+00:00"),
    (datetime(2026, 11, 1, 12, 30, 0, 500, tzinfo=NEW_YORK), "2026-11-01T12:30:00.000500-05:00"),
    (date(2026, 11, 1), "2026-11-01"),
    (time(12, 30), "12:30:00"),
    (timedelta(days=1, hours=2, seconds=3), "P1DT2H3S"),
    (timedelta(minutes=90), "PT1H30M"),
    (timedelta(milliseconds=1500), "PT1.5S"),
    (timedelta(days=7), "P7D"),
    (timedelta(), "PT0S"),
    (timedelta(seconds=-90), "-PT1M30S"),
    (ID, str(ID)),
    (Path("/data/a.txt"), "/data/a.txt"),
    (UserString("abc"), "abc"),
    (Colour.RED, "red"),
    (Colour.TWO, 2),
    (Colour.PAIR, ["a", "b"]),
    (Fraction(1, 4), 0.25),
    (map(str, (1, 2)), ["1", "2"]),
    ({"a": 1, "b": 2}.keys(), ["a", "b"]),
    ((letter for letter in "ab"), ["a", "b"]),
    (
        Message(Part(text="Hi", fileName="f")),
        {"content": {"text": "Hi", "type": "text", "fileName": "f"}, "role": "user"},
    ),
    (Part(text="x", at=datetime(2026, 11, 1, tzinfo=UTC)), {"text": "x", "type": "text", "at": "2026-11-01T00:00:00Z"}),
    (Scalar(0.5), 0.5),
    (Scalar([1, 2]), [1, 2]),
    (Scalar(date(2026, 11, 1), "M"), "2026-11-01"),
]


@pytest.mark.parametrize(("value", "expected"), FORMS, ids=lambda value: type(value).__name__)
def test_a_value_that_python_has_and_json_has_not_takes_its_nearest_form(value: Any, expected: Any) -> None:
    found = plain({"a": [value]})
    assert found == {"a": [expected]}
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("written", "text", "number", "integer"),
    [
        ("0.10", "0.10", 0.1, 0.1),
        ("19.90", "19.90", 19.9, 19.9),
        ("7", "7", 7, 7),
        ("7.0", "7.0", 7.0, 7),
        ("1E+3", "1000", 1000, 1000),
        ("-0.0000001", "-0.0000001", -1e-07, -1e-07),
        ("9007199254740993", "9007199254740993", 9007199254740993, 9007199254740993),
        ("9007199254740993.0", "9007199254740993.0", 9007199254740993, 9007199254740993),
    ],
)
def test_a_decimal_is_its_digits_where_text_is_due_and_a_number_elsewhere(
    written: str, text: str, number: Any, integer: Any
) -> None:
    value = plain(Decimal(written), exact=True)
    for schema, expected in [
        ({"type": "string"}, text),
        ({"type": ["string", "null"]}, text),
        ({"type": "number"}, number),
        ({"type": ["number", "string"]}, number),
        ({"type": ["integer", "null"]}, integer),
        ({}, number),
        ({"type": "array"}, number),
    ]:
        found = typed(value, Node.from_schema(schema))
        assert (found, type(found)) == (expected, type(expected))
    assert (plain(Decimal(written)), typed({"a": [value]}, None)) == (number, {"a": [number]})


@pytest.mark.parametrize("schema", ["2026-11", "2023-12", None])
def test_a_request_of_python_values_is_sent_in_json(schema: str | None) -> None:
    request = {
        **MINIMAL,
        "messages": [{"role": "user", "content": datetime(2026, 11, 1, tzinfo=UTC)}],
        "temperature": Decimal("0.7"),
        "seed": Decimal("7.0"),
        "stop": Colour.PAIR,
        "user": ID,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"maximum": Decimal("1.5")}}}],
    }
    made, _ = finish(request, load_schema(schema))
    assert json.loads(encode(made)) == {
        **MINIMAL,
        "messages": [{"role": "user", "content": "2026-11-01T00:00:00+00:00"}],
        "temperature": 0.7,
        "seed": 7,
        "stop": ["a", "b"],
        "user": str(ID),
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"maximum": 1.5}}}],
    }


def test_messages_may_be_objects_of_classes_and_come_from_an_iterator() -> None:
    messages = (Message(text, role) for role, text in [("system", "Old"), ("user", "Hi")])
    folded = fold(None, messages=messages, system_prompt="New", prompt=Decimal("1.50"))
    made, _ = finish({**folded, "model": "m"}, load_schema("2026-11"))
    assert made["messages"] == [
        {"role": "system", "content": "New"},
        {"content": "Hi", "role": "user"},
        {"role": "user", "content": "1.50"},
    ]


def broken() -> Iterator[str]:
    yield "a"
    raise LookupError("the upstream's secret text")


class Unreadable(BaseModel):
    value: Any


class NotATime(date):
    def __ne__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Decimal("NaN"), "is NaN, which JSON cannot hold"),
        (Decimal("-Infinity"), "is -Infinity, which JSON cannot hold"),
        (Decimal("1E+9999"), "has too many digits"),
        (Decimal("1E-9999"), "has too many digits"),
        (Decimal("9" * 400 + ".5"), "has too many digits"),
        ({1, 2}, "is a set, which JSON cannot hold"),
        (b"bytes", "is a bytes, which JSON cannot hold"),
        (memoryview(b"bytes"), "is a memoryview, which JSON cannot hold"),
        (object(), "is an object, which JSON cannot hold"),
        (1j, "is a complex, which JSON cannot hold"),
        (Message, "is a type, which JSON cannot hold"),
        (broken(), "is a generator, and reading it failed with LookupError"),
        (Unreadable(value=object()), "is an Unreadable, and reading it failed with PydanticSerializationError"),
        (NotATime(2026, 11, 1), "which is not a time"),
        (Scalar({1}), "is a set, which JSON cannot hold"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.parametrize("exact", [True, False])
def test_what_has_no_form_in_json_is_named_with_its_path(value: Any, words: str, exact: bool) -> None:
    if isinstance(value, Iterator):
        value = broken()
    with pytest.raises(InvalidRequest) as caught:
        plain({"a": [value]}, exact=exact)
    assert caught.value.path == "$.a[0]"
    assert words in caught.value.message
    assert "secret" not in caught.value.message


def test_an_iterator_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from itertools import repeat

    from airflow_chat_provider.core.request import json_values

    monkeypatch.setattr(json_values, "_MANY", 10)
    with pytest.raises(InvalidRequest, match=r"\$\.a is a repeat of more than 10 items"):
        plain({"a": repeat("x")})
