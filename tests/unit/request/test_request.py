"""From what a task was given to the request that is sent."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict, UserList
from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.json_values import encode, plain
from airflow_chat_provider.core.request.prepare import check_known, finish, fold, mask_templates, parse_text
from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.schema import load_schema
from tests.support.bodies import MINIMAL

HI = {"role": "user", "content": "Hi"}


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        call(*arguments, **options)
    assert caught.value.keyword is not None
    return caught.value


def test_text_is_read_as_json() -> None:
    assert parse_text(' {"a": [1, 2.5, "é", null]} ') == {"a": [1, 2.5, "é", None]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Expecting value at line 1, column 1"),
        ('{"a": 1,\n "b": secret}', "Expecting value at line 2, column 7"),
        ('{"a": "x\n"}', "Invalid control character at at line 1, column 9"),
        ('{"a": 1} secret', "Extra data at line 1, column 10"),
        ('{"secret": 1, "a": {"k": 1, "k": 2}}', "it has the key 'k' twice"),
        ('{"a": 1, "a": 1}', "it has the key 'a' twice"),
        ('{"a": ' + "1" * 5000 + "}", "it holds a number with too many digits"),
        ("[" * 100_000, "it is nested too deep"),
    ],
    ids=lambda value: value[:20],
)
def test_text_that_is_no_json_is_an_error_with_the_place(text: str, words: str) -> None:
    error = refusal(parse_text, text, "request")
    assert words in str(error)
    assert "secret" not in str(error)
    assert (error.path, error.keyword) == ("request", "json")


@pytest.mark.parametrize("name", ["prompt", "system_prompt"])
def test_a_shorthand_without_a_text_is_refused(name: str) -> None:
    error = refusal(fold, None, **{name: ""})
    assert (error.path, error.message) == (name, f"Give {name} a text, or leave it out: it is empty")


class Role(StrEnum):
    USER = "user"


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2), [1, 2]),
        (Point(1, 2), [1, 2]),
        (UserList(["a"]), ["a"]),
        (range(3), [0, 1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict({"a": (1,)}), {"a": [1]}),
        (MappingProxyType({"a": {"b": ()}}), {"a": {"b": []}}),
        (Role.USER, "user"),
        (Level.LOW, 1),
        ({Role.USER: Role.USER}, {"user": "user"}),
        ([{"a": [Role.USER]}], [{"a": ["user"]}]),
    ],
)
def test_what_json_has_a_form_for_takes_it(value: Any, expected: Any) -> None:
    found = plain(value)
    assert (found, type(found)) == (expected, type(expected))
    assert json.dumps(found) == json.dumps(expected)


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 0.5, "x", [], {}, {"a": [1, {"b": None}], "c": "x"}, UNKNOWN, {"a": [UNKNOWN]}, {"n": -(2**63)}],
)
def test_what_is_plain_stays_the_same_object(value: Any) -> None:
    assert plain(value) is value


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ({"a": 1j}, "$.a", "is a complex, which JSON cannot hold"),
        ([{"a": {1, 2}}], "$[0].a", "is a set, which JSON cannot hold"),
        ({"a": frozenset()}, "$.a", "is a frozenset, which JSON cannot hold"),
        ({"a": {"b c": [0, float("nan")]}}, "$.a['b c'][1]", "is nan, which JSON cannot hold"),
        ((1, float("-inf")), "$[1]", "is -inf"),
        ({"a": b"bytes"}, "$.a", "is a bytes"),
        ({"a": bytearray()}, "$.a", "is a bytearray"),
        ({"a": Decimal("NaN")}, "$.a", "is NaN"),
        ({"a": object}, "$.a", "is a type"),
        ({"a": {1: "x"}}, "$.a", "has a key that is an int, and JSON keys are text"),
        ({"a": [{None: "x"}]}, "$.a[0]", "has a key that is a NoneType"),
        ({"a": [10**5000]}, "$.a[0]", "has too many digits"),
        (UserDict({"a": UserList([{0.5}])}), "$.a[0]", "is a set"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_json_cannot_hold_is_named_with_its_path(value: Any, path: str, words: str) -> None:
    error = refusal(plain, value)
    assert (error.path, f": {path} {words}" in str(error)) == (path, True)


def test_a_request_may_be_deep_but_not_without_end() -> None:
    def nested(depth: int) -> Any:
        return [nested(depth - 1)] if depth else []

    assert plain(nested(200)) == nested(200)
    assert "nested more than 200 levels deep" in str(refusal(plain, nested(201)))
    endless: list[Any] = []
    endless.append(endless)
    assert refusal(plain, endless).keyword == "json"


SYSTEM = {"role": "system", "content": "Be brief."}
DEVELOPER = {"role": "developer", "content": "Be brief."}


@pytest.mark.parametrize(
    ("request_", "given", "expected"),
    [
        (None, {}, {}),
        ({"n": 1}, {}, {"n": 1}),
        ({"model": "a"}, {"model": "b"}, {"model": "b"}),
        ({"model": "a"}, {"model": None}, {"model": "a"}),
        ({"messages": [SYSTEM]}, {"messages": [HI]}, {"messages": [HI]}),
        ({"messages": [SYSTEM]}, {"messages": "[]"}, {"messages": "[]"}),
        (None, {"messages": UNKNOWN}, {"messages": UNKNOWN}),
        (None, {"messages": UNKNOWN, "prompt": "Hi"}, {"messages": UNKNOWN}),
        (None, {"prompt": "Hi"}, {"messages": [HI]}),
        (None, {"prompt": UNKNOWN}, {"messages": [{"role": "user", "content": UNKNOWN}]}),
        ({"messages": [HI]}, {"prompt": "Hi"}, {"messages": [HI, HI]}),
        ({"messages": (HI,)}, {"prompt": "Hi"}, {"messages": [HI, HI]}),
        ({"messages": json.dumps([SYSTEM])}, {"prompt": "Hi"}, {"messages": [SYSTEM, HI]}),
        ({"messages": [HI]}, {"system_prompt": "Be brief."}, {"messages": [SYSTEM, HI]}),
        (
            {"messages": [{"role": "system", "content": "Be long."}, HI]},
            {"system_prompt": "Be brief."},
            {"messages": [SYSTEM, HI]},
        ),
        ({"messages": [DEVELOPER, HI]}, {"system_prompt": "Be brief."}, {"messages": [SYSTEM, DEVELOPER, HI]}),
        ({"messages": [UNKNOWN]}, {"system_prompt": "Be brief."}, {"messages": [SYSTEM, UNKNOWN]}),
        (MappingProxyType({"n": 1}), {"model": "m"}, {"n": 1, "model": "m"}),
        (UNKNOWN, {"model": "m", "prompt": "Hi"}, UNKNOWN),
    ],
)
def test_shorthands_are_folded_into_the_request(request_: Any, given: dict[str, Any], expected: Any) -> None:
    before = repr(request_)
    assert fold(request_, **given) == expected
    assert repr(request_) == before, "what an upstream task left is not changed"


@pytest.mark.parametrize(
    ("request_", "given", "path", "words"),
    [
        ("a text", {}, "$", "it is text"),
        ([HI], {}, "$", "it is a list"),
        ({"messages": {"role": "user"}}, {"prompt": "Hi"}, "$.messages", "$.messages is a dict"),
        ({"messages": '"Hi"'}, {"prompt": "Hi"}, "$.messages", "$.messages is a str"),
        ({"messages": "Hi there"}, {"prompt": "Hi"}, "messages", "Correct messages: it is not JSON (Expecting value"),
    ],
)
def test_what_cannot_be_folded_is_an_error(request_: Any, given: dict[str, Any], path: str, words: str) -> None:
    error = refusal(fold, request_, **given)
    assert (error.path, words in str(error)) == (path, True)


def test_templates_are_masked_wherever_they_stand() -> None:
    value = {"a": "{{ x }}", "b": ["y", ("{{ z }}", 1)], "c": {"d": None}}
    masked = mask_templates(value, lambda leaf: isinstance(leaf, str) and "{{" in leaf)
    assert masked == {"a": UNKNOWN, "b": ["y", [UNKNOWN, 1]], "c": {"d": None}}


def test_finish_gives_what_is_sent_and_a_warning_for_each_doubt() -> None:
    request, warnings = finish(
        {**MINIMAL, "temperature": "0.5", "top_p": 0.5, "stop": ("a",)}, load_schema("2026-11"), base_url=None
    )
    assert request == {**MINIMAL, "temperature": 0.5, "top_p": 0.5, "stop": ["a"]}
    assert len(warnings) == 1
    assert "top_p" in warnings[0]


def test_without_a_schema_finish_converts_nothing() -> None:
    request, _ = finish({**MINIMAL, "temperature": "0.5"}, None)
    assert request["temperature"] == "0.5"


@pytest.mark.parametrize(
    ("request_", "schema", "path"),
    [
        ({**MINIMAL, "temperature": "warm"}, "2026-11", "$.temperature"),
        ({**MINIMAL, "n": float("nan")}, "2026-11", "$.n"),
        ({**MINIMAL, "n": float("nan")}, None, "$.n"),
        ({**MINIMAL, "max_tokens": 0}, "2026-11", "$.max_tokens"),
        ("text", None, "$"),
        ([], "2026-11", "$"),
        ([], {}, "$"),
    ],
)
def test_finish_refuses_what_schema_rules_or_json_do_not_take(request_: Any, schema: Any, path: str | None) -> None:
    error = refusal(finish, request_, load_schema(schema))
    assert path in (None, error.path)


def test_before_rendering_only_what_is_known_is_checked() -> None:
    schema = load_schema("2026-11")
    check_known(UNKNOWN, schema)
    check_known({"model": UNKNOWN, "messages": UNKNOWN, "n": "3"}, schema)
    check_known({"temperature": "warm"}, None)
    assert refusal(check_known, {"messages": UNKNOWN}, schema).keyword == "required"
    assert refusal(check_known, {**MINIMAL, "n": "three"}, schema).path == "$.n"
    assert "did you mean 'temperature'" in str(refusal(check_known, {**MINIMAL, "tempreture": UNKNOWN}, schema))
    assert refusal(check_known, {"n": {1}}, None).path == "$.n"


def test_the_bytes_are_utf_8_without_needless_escapes() -> None:
    assert encode({"a": "é \u2028 \x00", "b": [1, 0.5, None, True]}) == (
        '{"a":"é \u2028 \\u0000","b":[1,0.5,null,true]}'.encode()
    )


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        ({"messages": [HI, {"role": "user", "content": "x\ud83dx"}]}, "$.messages[1].content"),
        ({"messages": [{"a b": "\udc00"}]}, "$.messages[0]['a b']"),
        ({"logit_bias": {"\ud800": 1}}, "$.logit_bias"),
    ],
)
def test_half_a_surrogate_pair_is_an_error_with_its_path(request_: Any, path: str) -> None:
    error = refusal(encode, request_)
    assert (error.path, error.keyword) == (path, "json")
    str(error).encode()


def test_a_whole_surrogate_pair_in_json_text_is_a_character() -> None:
    assert encode(parse_text('{"a": "\\ud83d\\ude00"}')) == '{"a":"😀"}'.encode()
