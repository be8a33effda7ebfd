"""A connection as Settings, however it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_chat_provider.core.connection.base_url import DEFAULT_BASE_URL, is_loopback
from airflow_chat_provider.core.connection.settings import Settings, settings_from
from airflow_chat_provider.core.errors import InvalidConnection

KEY = "sk-kestrel-7f3a"


def refusal(**parts: Any) -> InvalidConnection:
    with pytest.raises(InvalidConnection) as caught:
        settings_from("mine", **parts)
    assert str(caught.value).startswith(f"Correct connection 'mine': {caught.value.field} ")
    return caught.value


BASE_URLS: list[tuple[dict[str, Any], str]] = [
    ({}, DEFAULT_BASE_URL),
    ({"host": ""}, DEFAULT_BASE_URL),
    ({"host": "  "}, DEFAULT_BASE_URL),
    ({"host": "https://api.example.com/v1"}, "https://api.example.com/v1"),
    ({"host": "https://api.example.com/v1/"}, "https://api.example.com/v1"),
    ({"host": " https://api.example.com/v1// "}, "https://api.example.com/v1"),
    ({"host": "HTTPS://API.example.com/V1"}, "https://api.example.com/V1"),
    ({"host": "http://api.example.com:8080/a/b"}, "http://api.example.com:8080/a/b"),
    ({"host": "http://api.example.com", "port": 8080}, "http://api.example.com:8080"),
    ({"host": "http://api.example.com:8080", "port": 8080}, "http://api.example.com:8080"),
    ({"host": "http://api.example.com/v1", "port": 8080}, "http://api.example.com:8080/v1"),
    ({"host": "api.example.com"}, "https://api.example.com"),
    ({"host": "api.example.com/v1"}, "https://api.example.com/v1"),
    ({"host": "api.example.com:8443/v1/"}, "https://api.example.com:8443/v1"),
    ({"host": "api.example.com", "port": 8443, "schema": "https"}, "https://api.example.com:8443"),
    ({"host": "api.example.com", "schema": "http"}, "http://api.example.com"),
    ({"host": "api.example.com", "schema": "HTTP"}, "http://api.example.com"),
    ({"host": "api.example.com/v1", "schema": "http"}, "http://api.example.com/v1"),
    ({"host": "http://api.example.com", "schema": "https"}, "http://api.example.com"),
    # As the URI chat://host:8080/v1 is read: the path is the schema.
    ({"host": "api.example.com", "port": 8080, "schema": "v1"}, "https://api.example.com:8080/v1"),
    ({"host": "localhost", "port": 8080, "schema": "v1"}, "http://localhost:8080/v1"),
    ({"host": "api.example.com", "schema": "openai/v1/"}, "https://api.example.com/openai/v1"),
    ({"host": "http://api.example.com", "schema": "v1"}, "http://api.example.com/v1"),
    ({"host": "api.example.com", "schema": "ä b"}, "https://api.example.com/%C3%A4%20b"),
    ({"host": "localhost:11434/v1"}, "http://localhost:11434/v1"),
    ({"host": "model.localhost"}, "http://model.localhost"),
    ({"host": "127.0.0.1", "port": 8000}, "http://127.0.0.1:8000"),
    ({"host": "10.0.0.7", "port": 8000}, "https://10.0.0.7:8000"),
    ({"host": "::1", "port": 8000}, "http://[::1]:8000"),
    ({"host": "2001:db8::7"}, "https://[2001:db8::7]"),
    ({"host": "[2001:db8::7]", "port": 8000, "schema": "v1"}, "https://[2001:db8::7]:8000/v1"),
    ({"host": "[::1]:8000/v1"}, "http://[::1]:8000/v1"),
    ({"host": "http://[2001:db8::7]:8000/v1"}, "http://[2001:db8::7]:8000/v1"),
    ({"host": "model_server.internal"}, "https://model_server.internal"),
    ({"host": "https://bücher.example/v1"}, "https://bücher.example/v1"),
    ({"host": "https://api.example.com/v1?"}, "https://api.example.com/v1"),
    ({"host": "https://api.example.com/chat/completions/v1"}, "https://api.example.com/chat/completions/v1"),
    ({"host": "https://api.example.com/v1/x", "extra": '{"endpoint": "/"}'}, "https://api.example.com/v1/x"),
]


@pytest.mark.parametrize(("parts", "base_url"), BASE_URLS, ids=str)
def test_the_base_url_is_kept_however_it_was_written(parts: dict[str, Any], base_url: str) -> None:
    assert settings_from("mine", **parts).base_url == base_url


NEARLY: list[tuple[str, str, str]] = [
    ("https://https://api.x.com/v1", "has two schemes", "https://api.x.com/v1"),
    ("http://https://api.x.com/v1", "has two schemes", "https://api.x.com/v1"),
    ("HTTPS://HTTP://api.x.com:8000", "has two schemes", "http://api.x.com:8000"),
    ("https://https//api.x.com/v1", "has two schemes", "https://api.x.com/v1"),
    ("https://https:/api.x.com/v1", "has two schemes", "https://api.x.com/v1"),
    ("https//api.x.com/v1", "has https// instead of https://", "https://api.x.com/v1"),
    ("http//localhost:8000", "has http// instead of http://", "http://localhost:8000"),
    ("https:/api.x.com/v1", "has https:/ instead of https://", "https://api.x.com/v1"),
    ("https:api.x.com/v1", "has https: instead of https://", "https://api.x.com/v1"),
    ("https;//api.x.com/v1", "has https;// instead of https://", "https://api.x.com/v1"),
    ("https:\\\\api.x.com\\v1", "contains a backslash", "https://api.x.com/v1"),
    ("https://api.x.com\\v1", "contains a backslash", "https://api.x.com/v1"),
    ("https://api.x.com/v1/v1", "has /v1 twice", "https://api.x.com/v1"),
    ("https://api.x.com/v1beta/v1beta/openai", "has /v1beta twice", "https://api.x.com/v1beta/openai"),
    ("https://api.x.com/v1/v1/chat/completions", "has /v1 twice", "https://api.x.com/v1"),
    ("https://api.x.com/v1/completions", "ends in /completions", "https://api.x.com/v1"),
    ("https://api.x.com/v1/responses/", "ends in /responses", "https://api.x.com/v1"),
    ("https://api.x.com/v1/embeddings", "ends in /embeddings", "https://api.x.com/v1"),
    ("https://api.x.com/v1/messages", "ends in /messages", "https://api.x.com/v1"),
    ("https://api.x.com/v1/models", "ends in /models", "https://api.x.com/v1"),
    ("https://api.x.com/v1/chat", "ends in /chat", "https://api.x.com/v1"),
    ("api.x.com/v1/chat/completions/", "ends in /chat/completions", "https://api.x.com/v1"),
    (
        "https://api.x.com:8443/v1/chat/completions?api-version=1",
        "the extra 'query', and remove /chat/completions",
        "https://api.x.com:8443/v1",
    ),
    ("https://api.x.com/v1/models?key=" + KEY, "the extra 'query', and remove /models", "https://api.x.com/v1"),
    ("https://api.x.com/v1?a=1", "the extra 'query'", "https://api.x.com/v1"),
]


@pytest.mark.parametrize(("host", "words", "right"), NEARLY)
def test_a_base_url_that_is_nearly_right_is_answered_with_the_right_one(host: str, words: str, right: str) -> None:
    error = refusal(host=host)
    assert error.field == "host"
    assert words in str(error)
    assert str(error).endswith(f"; write {right}")
    assert settings_from("mine", host=right).base_url == right


@pytest.mark.parametrize(
    "host",
    [
        "httpbin.org/v1",
        "https.example.com",
        "http:8080/v1",
        "https://x.services.ai.azure.com/models",
        "https://h/v1/my-gateway/v1",
        "https://h/v10/v1",
        "https://h/chat/v1",
        "https://h/api",
    ],
)
def test_a_base_url_that_only_looks_wrong_is_accepted(host: str) -> None:
    assert settings_from("mine", host=host).base_url.endswith(host)


@pytest.mark.parametrize(
    "host", [f"https:/{KEY}@h", f"https://https://{KEY}@h", f"https://h\\v1?{KEY}", f"https//h#{KEY}"]
)
def test_an_error_does_not_quote_a_url_that_may_hold_a_key(host: str) -> None:
    assert KEY not in str(refusal(host=host).to_dict())


def test_a_version_in_both_the_base_url_and_the_endpoint_is_an_error() -> None:
    error = refusal(host="https://h/v1", extra='{"endpoint": "/v1/chat/completions"}')
    assert (error.field, str(error).endswith("but the base URL ends in it; write /chat/completions")) == (
        "endpoint",
        True,
    )
    own = settings_from("mine", host="https://h", extra='{"endpoint": "/v1/chat/completions"}')
    assert own.url(own.endpoint) == "https://h/v1/chat/completions"


def test_the_base_url_may_end_in_an_endpoint_if_the_connection_has_another() -> None:
    assert (
        settings_from("mine", host="https://h/v1/messages", extra='{"endpoint": "/x"}').base_url
        == "https://h/v1/messages"
    )


BAD_HOSTS: list[tuple[dict[str, Any], str, str]] = [
    ({"host": "https://"}, "host", "does not name a host"),
    ({"host": "https:///v1"}, "host", "does not name a host"),
    ({"host": "https:// api.example.com"}, "host", "does not name a host: it contains a space"),
    ({"host": "'https://api.example.com/v1'"}, "host", "begins with a quotation mark"),
    ({"host": "htps://api.example.com"}, "host", "has the scheme 'htps': use http:// or https://"),
    ({"port": 8080}, "host", "does not name a host"),
    ({"schema": "v1"}, "host", "does not name a host"),
    ({"host": "api example.com"}, "host", "does not name a host"),
    ({"host": "api,example.com"}, "host", "does not name a host"),
    ({"host": "https://" + "x" * 70 + ".com"}, "host", "does not name a host"),
    ({"host": "ftp://api.example.com"}, "host", "has the scheme 'ftp': use http:// or https://"),
    ({"host": "chat://api.example.com"}, "host", "has the scheme 'chat'"),
    ({"host": f"https://{KEY}@api.example.com"}, "host", "put the API key into password"),
    ({"host": f"https://user:{KEY}@api.example.com"}, "host", "put the API key into password"),
    ({"host": f"user:{KEY}@api.example.com"}, "host", "put the API key into password"),
    ({"host": f"https://api.example.com/v1?key={KEY}"}, "host", "put its parameters into the extra 'query'"),
    ({"host": "https://api.example.com/v1#top"}, "host", "contains a query"),
    ({"host": "https://api.example.com/ü"}, "host", "not ASCII"),
    ({"host": "https://api.example.com/a b"}, "host", "a space"),
    ({"host": "https://api.example.com:port"}, "host", "is not a URL"),
    ({"host": "https://api.example.com:70000"}, "host", "is not a URL"),
    ({"host": "https://[::1"}, "host", "is not a URL"),
    ({"host": "[::1"}, "host", "is not a URL"),
    ({"host": "https://[::x]"}, "host", "is not a URL"),
    ({"host": "api.example.com", "port": 70000}, "port", "is 70000, but a port is between 1 and 65535"),
    ({"host": "api.example.com", "port": -1}, "port", "is -1"),
    ({"host": "https://api.example.com:1", "port": 2}, "port", "is 2, but host names port 1"),
    ({"host": "https://api.example.com/v1/chat/completions"}, "host", "ends in /chat/completions: remove it"),
    ({"host": "https://api.example.com/v1/chat/completions/"}, "host", "ends in /chat/completions"),
    ({"host": "api.example.com", "schema": "v1/chat/completions"}, "host", "ends in /chat/completions"),
    ({"host": "https://h/v1/messages", "extra": '{"endpoint": "messages"}'}, "host", "ends in /messages"),
    ({"login": "me"}, "login", "put the API key into password"),
    ({"password": f"{KEY}\n{KEY}"}, "password", "has a line break"),
    ({"password": f"{KEY}ü"}, "password", "not ASCII"),
    ({"password": f"{KEY}\x00"}, "password", "has a line break"),
]


@pytest.mark.parametrize(("parts", "field", "words"), BAD_HOSTS, ids=str)
def test_an_error_names_the_field_and_never_quotes_a_key(parts: dict[str, Any], field: str, words: str) -> None:
    error = refusal(**parts)
    assert (error.field, words in str(error)) == (field, True)
    assert KEY not in str(error.to_dict())


def test_a_key_loses_the_blanks_around_it_and_is_not_in_the_repr() -> None:
    settings = settings_from(
        "mine",
        password=f" {KEY}\n",
        extra=json.dumps({"headers": {"x-a": KEY}, "query": {"k": KEY}, "proxy": f"http://u:{KEY}@proxy.example.com"}),
    )
    assert settings.api_key == KEY
    assert KEY not in repr(settings)


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        (Settings(), {}),
        (Settings(api_key=KEY), {"authorization": f"Bearer {KEY}"}),
        (Settings(api_key=KEY, auth="api-key"), {"api-key": KEY}),
        (Settings(api_key=KEY, auth="none"), {}),
        (Settings(auth="api-key"), {}),
        (Settings(organization="o", project="p"), {"openai-organization": "o", "openai-project": "p"}),
        (Settings(api_key=KEY, headers={"Authorization": "Basic x"}), {"authorization": "Basic x"}),
        (Settings(api_key=KEY, auth="none", headers={"X-A": "1"}), {"x-a": "1"}),
        (Settings(api_key=KEY, headers={"authorization": ""}), {}),
    ],
)
def test_the_key_goes_into_the_header_that_auth_names(settings: Settings, headers: dict[str, str]) -> None:
    assert settings.request_headers() == headers


def test_a_url_has_base_path_and_query() -> None:
    settings = Settings(base_url="https://h/v1", query={"api-version": "2026-10-01", "a b": "ü&"})
    assert settings.url("/models") == "https://h/v1/models?api-version=2026-10-01&a+b=%C3%BC%26"
    assert Settings(base_url="https://h/v1").url("chat/completions") == "https://h/v1/chat/completions"


@pytest.mark.parametrize(
    ("values", "exposed"),
    [
        ({"base_url": "http://h/v1", "api_key": KEY}, True),
        ({"base_url": "http://h/v1", "headers": {"x-key": KEY}}, True),
        ({"base_url": "http://10.0.0.7/v1", "api_key": KEY}, True),
        ({"base_url": "https://h/v1", "api_key": KEY}, False),
        ({"base_url": "http://h/v1"}, False),
        ({"base_url": "http://h/v1", "api_key": KEY, "auth": "none"}, False),
        ({"base_url": "http://localhost:1/v1", "api_key": KEY}, False),
        ({"base_url": "http://[::1]:1/v1", "api_key": KEY}, False),
        ({"base_url": "http://127.8.8.8/v1", "api_key": KEY}, False),
    ],
)
def test_exposes_key_for_a_key_over_plain_http_to_another_machine(values: dict[str, Any], exposed: bool) -> None:
    assert Settings(**values).exposes_key is exposed


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost.com", False),
        ("", False),
    ],
)
def test_is_loopback_knows_the_names_of_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_an_override_replaces_the_limits_that_are_not_none() -> None:
    settings = Settings(timeout=10.0, max_attempts=2)
    assert settings.override(timeout=None, max_attempts=None) is settings
    changed = settings.override(timeout="1.5", max_attempts=5, deadline=None)
    assert (changed.timeout, changed.max_attempts, changed.deadline) == (1.5, 5, 1800.0)


@pytest.mark.parametrize("given", [{"timeout": 0}, {"deadline": "soon"}, {"max_attempts": 0}, {"max_attempts": 2.5}])
def test_an_ill_typed_override_is_an_error_that_names_it(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidConnection) as caught:
        Settings().override(**given)
    assert caught.value.field == next(iter(given))


def test_the_secrets_are_the_key_the_proxys_password_and_values_with_secret_names() -> None:
    settings = Settings(
        api_key="key-1",
        headers={"X-Title": "my pipeline", "x-portkey-provider": "openai", "X-Auth-Token": "header-1"},
        proxy="http://user:p%40sswd@proxy:3128",
        query={"api-version": "2024-10-21", "api_key": "query-1"},
    )
    assert set(settings.secrets) == {"key-1", "header-1", "p@sswd", "p%40sswd", "query-1"}


@pytest.mark.parametrize("value", ["", "k", "none", "test", "EMPTY", "dummy", "ollama", "sk-no-key-required"])
def test_short_keys_and_placeholders_are_not_secrets(value: str) -> None:
    settings = Settings(api_key=value, headers={"Authorization": f"Bearer {value}", "x-key": value})
    assert settings.secrets == ()


def test_only_headers_and_query_parameters_that_are_secret_by_name_count_as_keys_in_clear() -> None:
    assert not Settings(base_url="http://h/v1", headers={"X-Title": "my pipeline"}).exposes_key
    assert Settings(base_url="http://h/v1", query={"api_key": KEY}).exposes_key
