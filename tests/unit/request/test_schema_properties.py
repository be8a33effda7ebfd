"""What holds of every request: the new schema accepts what the old one did, and no error quotes the data."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.coerce import typed
from airflow_chat_provider.core.request.schema import SHIPPED
from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.schema import load_schema, validate_request
from tests.support.bodies import CASES, judge, leaves, replaced, shipped
from tests.support.generate import valid

QUICK = settings(
    max_examples=50,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
OPENAI = "https://api.openai.com/v1"
BODIES = [case["body"] for case in CASES]


# With no keys but those that 2023-12 knows. A key that it does not know may hold anything there: `user: 5` was no
# error of that schema and is one of 2026-11. "Accepts every body" can only be said of the keys that both know.
OLD_BODIES = valid(shipped("2023-12"), shipped("2023-12"))


def is_json(body: Any) -> bool:
    """Infinity is a number to jsonschema. JSON cannot hold it, and so it is refused here."""
    return "Infinity" not in json.dumps(body)


@QUICK
@given(OLD_BODIES)
def test_2026_11_accepts_every_body_that_2023_12_accepts(body: Any) -> None:
    assume(is_json(body))
    validate_request(body, "2023-12")
    validate_request(body, "2026-11", base_url=OPENAI)


POOL: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, 1, -3, 2.5, 5.0, 10**30, "", "text", "user", "tool", "auto", "function", "json_object"),
        *(
            [],
            [1],
            ["a"],
            [{}],
            {},
            {"type": "text"},
            {"type": "text", "text": "x"},
            {"type": "function"},
            {"type": []},
        ),
        *({"type": "allowed_tools"}, {"name": "f"}, {"role": "user", "content": "x"}, {"role": None}, {"id": "v"}),
    ]
)
ANY_BODY: st.SearchStrategy[Any] = st.sampled_from(BODIES)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A body of the collection with one or two values replaced, added or taken away."""
    body = draw(ANY_BODY)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(leaves(body)))
        body = replaced(body, path, draw(POOL | ANY_BODY))
    return body


@st.composite
def reshaped(draw: st.DrawFn) -> Any:
    """A body of the collection in which an object lost a key or won one that stands elsewhere in the collection."""
    body = draw(ANY_BODY)
    objects = [path for path in leaves(body) if isinstance(at(body, path), dict)]
    path = draw(st.sampled_from(objects))
    here = dict(at(body, path))
    if here and draw(st.sampled_from("+-")) == "-":
        del here[draw(st.sampled_from(sorted(here)))]
    else:
        here |= draw(st.dictionaries(st.sampled_from(PROPERTIES), POOL, max_size=2))
    return replaced(body, path, here)


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


PROPERTIES = sorted({key for body in BODIES for path in leaves(body) for key in path if isinstance(key, str)})


def refusal(body: Any, schema: Any, base_url: str | None = OPENAI) -> InvalidRequest | None:
    try:
        validate_request(body, schema, base_url=base_url)
    except InvalidRequest as error:
        return error
    return None


def accepts(body: Any, schema: Any, base_url: str | None = OPENAI) -> bool:
    return refusal(body, schema, base_url) is None


def without_nulls(value: Any) -> Any:
    """Nulls that are as good as nothing: those of properties, but for ``content``, which some messages must have."""
    if isinstance(value, dict):
        return {k: without_nulls(item) for k, item in value.items() if item is not None or k == "content"}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("schema", SHIPPED)
@settings(QUICK, max_examples=80)
@given(body=mutated() | reshaped() | OLD_BODIES)
def test_the_verdict_is_that_of_plain_jsonschema(schema: str, body: Any) -> None:
    assume(is_json(body))
    is_valid = judge(schema).is_valid(body)
    if schema == "2026-11" and not is_valid and accepts(body, schema):  # a null in the place of nothing
        assert without_nulls(body) != body
        assert judge(schema).is_valid(without_nulls(body))
    else:
        assert accepts(body, schema) is is_valid


@settings(QUICK, max_examples=80)
@given(body=mutated() | reshaped() | OLD_BODIES)
def test_each_server_is_sent_what_openai_is_and_open_is_sent_what_any_server_is(body: Any) -> None:
    refused = [not accepts(body, "2026-11", OPENAI), not accepts(body, "2026-11", None), not accepts(body, "open")]
    assert refused == sorted(refused, reverse=True)
    assert accepts(body, "open", OPENAI) is accepts(body, "open", None)


@settings(QUICK, max_examples=80)
@given(body=mutated() | reshaped())
def test_a_users_copy_of_a_shipped_schema_judges_as_the_shipped_one(body: Any) -> None:
    for schema in SHIPPED:
        if without_nulls(body) == body:
            assert accepts(body, shipped(schema)) is accepts(body, schema)
        else:
            assert accepts(body, shipped(schema)) <= accepts(body, schema)


CANARY = "kestrel-7f3a"


def marked(value: Any) -> Any:
    """``value`` with the canary in each text."""
    if isinstance(value, dict):
        return {key: marked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [marked(item) for item in value]
    return f"{value[: len(value) // 2]}{CANARY}{value[len(value) // 2 :]}" if isinstance(value, str) else value


@settings(QUICK, max_examples=80)
@given(body=mutated() | reshaped(), mark=st.data())
def test_no_error_quotes_a_text_of_the_request(body: Any, mark: st.DataObject) -> None:
    if mark.draw(st.booleans()):
        body = marked(body)
    else:  # the roles and types stay, so that errors deep in the right branch are seen too
        texts = [path for path in leaves(body) if isinstance(at(body, path), str)] or [()]
        path = mark.draw(st.sampled_from(texts))
        body = replaced(body, path, f"{CANARY} {at(body, path)}")
    for schema in (*SHIPPED, shipped("2026-11")):
        error = refusal(body, schema)
        assert error is None or CANARY not in str(error.to_dict())
    for name in ("2026-11", "open"):
        loaded = load_schema(name)
        assert loaded is not None
        with suppress(InvalidRequest):
            assert CANARY not in str(loaded.validate(body))


@settings(QUICK, max_examples=60)
@given(OLD_BODIES | st.sampled_from([case["body"] for case in CASES if case["valid"]]))
def test_a_valid_request_is_typed_already(body: Any) -> None:
    for name in SHIPPED:
        schema = load_schema(name)
        assert schema is not None
        if accepts(body, name):
            assert schema.typed(body) == body


@settings(QUICK, max_examples=80)
@given(body=mutated() | reshaped())
def test_typing_never_fails_never_spoils_and_is_done_after_one_pass(body: Any) -> None:
    for name in SHIPPED:
        schema = load_schema(name)
        assert schema is not None
        once = schema.typed(body)
        assert schema.typed(once) == once
        if accepts(body, name):
            assert accepts(once, name)


@settings(QUICK, max_examples=60)
@given(body=st.sampled_from([case["body"] for case in CASES if case["valid"]]), draw=st.data())
def test_a_valid_request_of_which_a_part_is_unknown_may_be_valid(body: Any, draw: st.DataObject) -> None:
    partly = replaced(body, draw.draw(st.sampled_from(leaves(body))), UNKNOWN)
    for schema in ("2026-11", shipped("2026-11")):
        validate_request(partly, schema)
        loaded = load_schema(schema)
        assert loaded is not None
        assert loaded.typed(partly) == partly


def test_typed_without_a_schema_gives_the_same_object() -> None:
    body = {"n": "1"}
    assert typed(body, None) is body
