"""The extras of a connection, each well and badly written."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from airflow_chat_provider.core.connection.fields import FIELDS
from airflow_chat_provider.core.connection.settings import Settings, settings_from
from airflow_chat_provider.core.cost.prices import Rates
from airflow_chat_provider.core.errors import InvalidConnection

KEY = "sk-kestrel-7f3a"

GOOD: list[tuple[str, Any, Any]] = [
    ("model", " gpt-5 ", "gpt-5"),
    ("auth", "api-key", "api-key"),
    ("organization", "org-1", "org-1"),
    ("project", "p", "p"),
    ("headers", {"X-A": "1", "x-b": 2, "x-c": 0.5, "x-d": ""}, {"X-A": "1", "x-b": "2", "x-c": "0.5", "x-d": ""}),
    ("headers", '{"X-A": "1"}', {"X-A": "1"}),
    ("query", {"api-version": "2026-10-01"}, {"api-version": "2026-10-01"}),
    ("query", {"ü": "ü"}, {"ü": "ü"}),
    ("endpoint", "responses/chat", "/responses/chat"),
    ("endpoint", "//a", "/a"),
    ("request_schema", "2023-12", "2023-12"),
    ("request_schema", "/schemas/mine.json", "/schemas/mine.json"),
    ("request_schema", {"type": "object"}, {"type": "object"}),
    ("request_schema", ' {"type": "object"}', {"type": "object"}),
    ("request_schema", "none", None),  # to send unchecked
    ("timeout", 30, 30.0),
    ("timeout", "30.5", 30.5),
    ("connect_timeout", 0.5, 0.5),
    ("deadline", 1e6, 1e6),
    ("stall_timeout", "5", 5.0),
    ("max_attempts", "4", 4),
    ("max_attempts", 4.0, 4),
    ("max_response_bytes", 1024, 1024),
    ("proxy", "http://proxy.example.com:3128", "http://proxy.example.com:3128"),
    ("proxy", "socks5h://u:p@proxy.example.com", "socks5h://u:p@proxy.example.com"),
    ("verify", False, False),
    ("verify", "FALSE", False),
    ("verify", "true", True),
    ("verify", "/etc/ca.pem", "/etc/ca.pem"),
    ("client_cert", "/etc/cert.pem", "/etc/cert.pem"),
    ("prices", {" gpt-5* ": {"input": "0.25", "output": 2}}, {"gpt-5*": Rates(Decimal("0.25"), Decimal(2))}),
    ("prices", '{"m": {"input": 0.1, "output": "0", "cached_input": null}}', {"m": Rates(Decimal("0.1"), Decimal(0))}),
    (
        "prices",
        {"m": {"input": "1", "output": "2", "cached_input": "0.1", "cache_write": "1.25"}},
        {"m": Rates(Decimal(1), Decimal(2), Decimal("0.1"), Decimal("1.25"))},
    ),
    ("currency", " eur ", "EUR"),
    ("batch_discount", "0.5", Decimal("0.5")),
    ("batch_discount", 0, Decimal(0)),
    ("batch_discount", 1, Decimal(1)),
    ("max_total_tokens", 0, 0),
    ("max_total_tokens", "1000000", 1_000_000),
    ("max_total_tokens", 5.0, 5),
    ("max_cost", "0.10", Decimal("0.10")),
    ("max_cost", 0.1, Decimal("0.1")),
    ("max_cost", 0, Decimal(0)),
]

SECONDS = "must be a number of seconds above 0"
WHOLE = "must be a whole number above 0"
TEXTS = "must be a JSON object of names and texts"
SPANS = ("timeout", "connect_timeout", "deadline", "stall_timeout")
NO_SECONDS: list[Any] = [0, -1, "soon", True, [1], "nan", "inf", {}]
NO_NUMBERS: list[Any] = [0, -1, 2.5, "many", True, [1], 10**30]
NO_OBJECTS: list[tuple[Any, str]] = [(5, "like"), (["m"], "like"), ({}, "like"), ("[]", "like"), ("{m:", "of prices")]
NO_NAMES = ("", " ", "a\nb")
AMOUNTS_ALONE: list[Any] = [
    *(-1, "-0.01", "much", "0,25", "1_000", "0x1", "٣", True, [1], {}, 10**400, 1e10, "1e99", "NaN", "inf"),
    *(float("nan"), float("inf"), "1" * 65),
]
NO_AMOUNTS = ["", *AMOUNTS_ALONE]
BAD: list[tuple[str, Any, str]] = [
    ("model", 5, "must be a single line of text"),
    ("model", "a\nb", "must be a single line of text"),
    ("auth", "basic", "must be one of bearer, api-key, none"),
    ("auth", ["bearer"], "must be one of"),
    ("organization", "ü", "must be ASCII text"),
    ("project", {"a": 1}, "must be a single line of text"),
    ("headers", ["x"], TEXTS),
    ("headers", "x: y", TEXTS),
    ("headers", {"x y": "1"}, "must not contain 'x y', which is not the name of a header"),
    ("headers", {"": "1"}, "must not contain ''"),
    ("headers", {"Content-Type": "text/plain"}, "must not contain 'Content-Type': the provider sets it"),
    ("headers", {"x": "a\r\nb: c"}, "must have a single line of text for 'x'"),
    ("headers", {"x": True}, "must have a single line of text for 'x'"),
    ("headers", {"x": None}, "must have a single line of text for 'x'"),
    ("headers", {"x": KEY + "ü"}, "must have ASCII text for 'x'"),
    ("query", {"": "1"}, "must not contain a parameter without a name"),
    ("query", 5, TEXTS),
    ("endpoint", "https://h/v1", "must be a path like /chat/completions"),
    ("endpoint", "/a?b=c", "must be a path like /chat/completions"),
    ("endpoint", "/ü", "must be a path like /chat/completions"),
    ("endpoint", 5, "must be a single line of text"),
    ("request_schema", 5, "must be the name of a schema"),
    ("request_schema", "{type: object}", "must be JSON: Expecting property name"),
    *((name, value, SECONDS) for name in SPANS for value in NO_SECONDS),
    *((name, value, WHOLE) for name in ("max_attempts", "max_response_bytes") for value in NO_NUMBERS),
    ("proxy", "proxy.example.com:3128", "must be a URL like http://proxy.example.com:3128"),
    ("proxy", "ftp://proxy.example.com", "must be a URL like"),
    ("proxy", "http://", "must be a URL like"),
    ("proxy", f"http://u:{KEY}\u2100@proxy.example.com", "must be a URL like"),
    ("proxy", f"http://proxy.example.com:{KEY}", "must be a URL like"),
    ("proxy", f"http://u:{KEY}@[::1", "must be a URL like"),
    ("proxy", 5, "must be a single line of text"),
    ("verify", 1, "must be true, false or the path of a CA file"),
    ("verify", "a\nb", "must be a single line of text"),
    ("client_cert", 5, "must be a single line of text"),
    ("client_key", "a\nb", "must be a single line of text"),
    ("client_key", "/etc/key.pem", "needs client_cert as well"),
    *(("prices", value, f"must be a JSON object {words}") for value, words in NO_OBJECTS),
    *(
        ("prices", {name: {"input": 1, "output": 1}}, "must have the name of a model, or a pattern")
        for name in NO_NAMES
    ),
    *(("prices", {"m": value}, "must have an object of prices for 'm'") for value in (None, 5, "0.25", ["1"], True)),
    *(("prices", {"m": value}, "must have the price ") for value in ({}, {"input": 1}, {"output": 1, "input": None})),
    ("prices", {"m": {"input": 1, "output": 1, "cached": 1}}, "must not have 'cached' for 'm': the prices of a model"),
    ("prices", {"m": {"input": 1, "output": 1, "": 1}}, "must not have '' for 'm'"),
    ("prices", {"m": {"input": 1, "output": 1}, " m": {"input": 2, "output": 1}}, "must have 'm' once"),
    *(
        ("prices", {"m": {"input": value, "output": 1}}, "must have a number of 0 or more for 'input' for 'm', per mil")
        for value in NO_AMOUNTS
    ),
    *(
        ("prices", {"m": {"input": 1, "output": 1, "cache_write": value}}, "must have a number of 0 or more for 'cache")
        for value in NO_AMOUNTS
    ),
    *(("currency", value, "must be the three letters of a currency") for value in ("US", "EURO", "$", "U D", "üüü")),
    *(("currency", value, "must be a single line of text") for value in (5, True, ["USD"], "US\nD")),
    *(("batch_discount", value, "must be a number from 0 to 1") for value in (*AMOUNTS_ALONE, 1.01, 50, "50 %")),
    *(("max_cost", value, "must be an amount of money of 0 or more") for value in AMOUNTS_ALONE),
    *(("max_total_tokens", value, "must be a whole number of 0 or more") for value in (*NO_NUMBERS[1:], "1,000")),
]


def settings(extra: str | None) -> Settings:
    return settings_from("mine", password=KEY, extra=extra)


def refusal(extra: str) -> InvalidConnection:
    with pytest.raises(InvalidConnection) as caught:
        settings(extra)
    assert KEY not in str(caught.value.to_dict())
    return caught.value


def test_each_extra_has_a_good_and_a_bad_case_here_and_is_a_setting() -> None:
    assert {name for name, *_ in GOOD} | {"client_key"} == {name for name, *_ in BAD} == set(FIELDS)
    assert set(FIELDS) <= set(Settings._fields)


@pytest.mark.parametrize(("name", "value", "expected"), GOOD, ids=str)
def test_a_valid_extra_is_read(name: str, value: Any, expected: Any) -> None:
    found = getattr(settings(json.dumps({name: value})), name)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(("name", "value", "words"), BAD, ids=str)
def test_an_ill_typed_extra_is_an_error_that_names_it(name: str, value: Any, words: str) -> None:
    error = refusal(json.dumps({name: value}))
    assert error.field == name
    assert str(error).startswith(f"Correct connection 'mine': {name} {words}")


@pytest.mark.parametrize(
    ("extra", "field", "words"),
    [
        ("{", "extra", "is not JSON"),
        (f"key={KEY}", "extra", "is not JSON"),
        ("[]", "extra", "is not a JSON object"),
        ('"x"', "extra", "is not a JSON object"),
        ('{"time_out": 5}', "time_out", "is not an extra of a chat connection; did you mean 'timeout'?"),
        ('{"Authorization": "x"}', "Authorization", "did you mean 'organization'?"),
        ('{"zzz": 5}', "zzz", "the extras are auth, batch_discount, "),
    ],
)
def test_text_that_is_not_an_object_and_unknown_extras_are_errors(extra: str, field: str, words: str) -> None:
    error = refusal(extra)
    assert (error.field, words in str(error)) == (field, True)


@pytest.mark.parametrize("extra", [None, "", "  ", "{}", "null-like"])
def test_without_extras_the_settings_are_the_defaults(extra: str | None) -> None:
    empty = json.dumps(dict.fromkeys(FIELDS)) if extra == "null-like" else extra
    assert settings(empty) == Settings(conn_id="mine", api_key=KEY)


@pytest.mark.parametrize("name", FIELDS)
def test_an_empty_field_of_the_form_is_unset(name: str) -> None:
    assert settings(json.dumps({name: ""})) == Settings(conn_id="mine", api_key=KEY)


def test_client_certificate_and_key_go_together() -> None:
    found = settings('{"client_cert": "c.pem", "client_key": "k.pem"}')
    assert (found.client_cert, found.client_key) == ("c.pem", "k.pem")
