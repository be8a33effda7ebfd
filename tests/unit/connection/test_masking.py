"""Which headers and query parameters are secret, and what of their values is."""

from __future__ import annotations

import pytest

from airflow_chat_provider.core.connection.settings import SHORTEST_SECRET, is_secret_name, maskable, secret_values
from airflow_chat_provider.core.server.scrub import Scrubber


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "PROXY-AUTHORIZATION",
        "Cookie",
        "api-key",
        "X-Api-Key",
        "x_goog_api_key",
        "apikey",
        "subscriptionKey",
        "Ocp-Apim-Subscription-Key",
        "x-portkey-api-key",
        "x-portkey-virtual-key",
        "X-Auth-Token",
        "x-access-token",
        "x-amz-security-token",
        "CF-Access-Client-Secret",
        "Helicone-Auth",
        "X-Auth",
        "x-authentication",
        "X-Password",
        "db_passwd",
        "X-Credential",
        "x-credentials",
        "X-Signature",
        "sig",
        "x-jwt-assertion",
        "xAuthKey",
    ],
)
def test_secret_names_are_recognised(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "X-Title",
        "HTTP-Referer",
        "x-portkey-provider",
        "x-portkey-trace-id",
        "api-version",
        "anthropic-version",
        "OpenAI-Beta",
        "openai-organization",
        "X-Author",
        "X-Authority",
        "x-keywords",
        "x-max-tokens",
        "X-Tokenizer",
        "x-design",
        "x-signal",
        "X-Team",
        "x-request-id",
        "X-Monkey",
        "Idempotency-Key",
    ],
)
def test_other_names_are_not_taken_for_secret(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("Authorization", "Bearer xyz-123", ["xyz-123"]),
        ("authorization", "basic dXNlcjpwYXNz", ["dXNlcjpwYXNz"]),
        ("X-Auth", "my pass phrase", ["my pass phrase"]),
        ("Api-Key", "xyz-123", ["xyz-123"]),
        ("Cookie", "a=first-1; b=second=2", ["a=first-1; b=second=2", "first-1", "second=2"]),
        ("X-Title", "Bearer of news", []),
    ],
)
def test_secret_values_leave_out_the_scheme_and_find_each_cookie(name: str, value: str, secret: list[str]) -> None:
    assert list(secret_values(name, value)) == secret


def test_a_value_under_five_characters_is_never_blanked() -> None:
    assert SHORTEST_SECRET == 5
    assert [maskable(value) for value in ("", "1", "abcd", "abcde", "none", "EMPTY")] == [False] * 3 + [True] + [
        False
    ] * 2
    assert Scrubber(None, ("1", "abcd", "EMPTY"))("limit 10000, abcd, EMPTY") == "limit 10000, abcd, EMPTY"
