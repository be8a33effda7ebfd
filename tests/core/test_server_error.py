"""Error bodies in the shapes of all servers, and the advice that comes with a status."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.server_error import ServerError, advice, read_error
from airflow_chat_provider.core.settings import Settings

SHAPES: list[tuple[str, Any, str, Any, set[str]]] = [
    (
        "openai",
        {"error": {"message": "Slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}},
        "Slow down",
        "rate_limit_exceeded",
        {"requests", "rate_limit_exceeded"},
    ),
    ("openai without a code", {"error": {"message": "No", "type": "T", "code": None}}, "No", "T", {"t"}),
    (
        "vllm",
        {"error": {"message": "No", "type": "BadRequestError", "param": None, "code": 400}},
        "No",
        400,
        {"badrequesterror", "400"},
    ),
    (
        "old vllm",
        {"object": "error", "message": "No", "type": "E", "param": None, "code": 400},
        "No",
        400,
        {"e", "400"},
    ),
    (
        "litellm",
        {"error": {"message": "litellm.X: no", "type": None, "param": None, "code": "400"}},
        "litellm.X: no",
        "400",
        {"400"},
    ),
    ("ollama", {"error": "model 'x' not found"}, "model 'x' not found", None, set()),
    (
        "gemini",
        [{"error": {"code": 400, "message": "Bad", "status": "INVALID_ARGUMENT"}}],
        "Bad",
        400,
        {"400", "invalid_argument"},
    ),
    ("openrouter", {"error": {"code": 402, "message": "No credit", "metadata": {}}}, "No credit", 402, {"402"}),
    (
        "mistral",
        {
            "object": "error",
            "message": {"detail": [{"loc": ["body", "seed"], "msg": "extra", "input": "X"}]},
            "type": "invalid",
            "code": None,
        },
        "body.seed: extra",
        "invalid",
        {"invalid"},
    ),
    (
        "fastapi",
        {"detail": [{"loc": ["body", "messages", 0], "msg": "required"}, {"msg": "two"}, "three", {"msg": "4"}]},
        "body.messages.0: required; two; three",
        None,
        set(),
    ),
    ("fastapi text", {"detail": "Not Found"}, "Not Found", None, set()),
    (
        "anthropic",
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        "Overloaded",
        "overloaded_error",
        {"overloaded_error"},
    ),
    ("azure", {"statusCode": 401, "message": "Access denied"}, "Access denied", 401, {"401"}),
    ("aws", {"msg": "no"}, "no", None, set()),
    ("empty object", {}, "", None, set()),
    ("empty error", {"error": {}}, "", None, set()),
    ("no error", {"error": None}, "", None, set()),
    ("odd error", {"error": 5}, "", None, set()),
    ("odd message", {"error": {"message": 5, "code": ["x"]}}, "", None, set()),
    (
        "deep message",
        {"message": {"message": {"message": {"message": {"message": {"message": "x"}}}}}},
        "",
        None,
        set(),
    ),
    ("odd places", {"detail": [{"loc": [["x"], "a"], "msg": {"x": 1}}]}, ".a", None, set()),
    ("odd details", {"detail": [5, {"loc": 5, "msg": None}]}, "", None, set()),
    ("empty list", [], "", None, set()),
    ("list of texts", ["no"], "no", None, set()),
    ("html", "<html>", "", None, set()),
    ("null", None, "", None, set()),
]


@pytest.mark.parametrize(("server", "body", "message", "code", "codes"), SHAPES, ids=[shape[0] for shape in SHAPES])
def test_an_error_is_read_in_each_servers_shape(
    server: str, body: Any, message: str, code: Any, codes: set[str]
) -> None:
    assert read_error(body)[:3] == (message, code, frozenset(codes))


def test_what_was_sent_is_not_taken_from_validation_details() -> None:
    body = {"detail": [{"loc": ["body", "seed"], "msg": "wrong", "input": "kestrel", "ctx": {"given": "kestrel"}}]}
    assert "kestrel" not in repr(read_error(body))


SETTINGS = Settings(conn_id="mine", base_url="https://h/v1", api_key="k")
PAY = "Raise the quota or pay the bill"
ADVICE = [
    (400, ServerError(), "Correct the request (HTTP 400)"),
    (400, ServerError(code="bad_value"), "Correct the request (HTTP 400, bad_value)"),
    (400, ServerError(code=400), "Correct the request (HTTP 400)"),
    (400, ServerError(code="400"), "Correct the request (HTTP 400)"),
    (400, ServerError(code="x" * 100), f"Correct the request (HTTP 400, {'x' * 64})"),
    (401, ServerError(), "Check the API key (password) of connection 'mine' (HTTP 401)"),
    (402, ServerError(), "Add credit to the account behind connection 'mine' (HTTP 402)"),
    (403, ServerError(), "Ask for access: the key of connection 'mine' may not do this (HTTP 403)"),
    (404, ServerError(), "Check the base URL https://h/v1 of connection 'mine' and the model (HTTP 404)"),
    (413, ServerError(), "Send a smaller request (HTTP 413)"),
    (418, ServerError(), "Correct the request or connection 'mine' (HTTP 418)"),
    (429, ServerError(), "Wait, or lower the rate of requests (HTTP 429)"),
    (
        429,
        ServerError(code="insufficient_quota", codes=frozenset({"insufficient_quota"})),
        f"{PAY} of the account behind connection 'mine'; waiting does not help (HTTP 429, insufficient_quota)",
    ),
    (
        302,
        ServerError(),
        "Check the base URL https://h/v1 of connection 'mine': it redirects, and redirects are not followed (HTTP 302)",
    ),
    (503, ServerError(), "Try again later; the server at https://h/v1 failed (HTTP 503)"),
]


@pytest.mark.parametrize(("status", "said", "text"), ADVICE)
def test_a_message_begins_with_what_can_be_done(status: int, said: ServerError, text: str) -> None:
    assert advice(status, said, SETTINGS) == text


@pytest.mark.parametrize(
    ("base_url", "hint"),
    [
        ("https://h", "; most servers want /v1 at the end of the base URL"),
        ("http://localhost:8000", "; most servers want /v1 at the end of the base URL"),
        ("https://x.openai.azure.com", "; azure.com wants /openai/v1 at the end of the base URL"),
        ("https://openrouter.ai", "; openrouter.ai wants /api/v1 at the end of the base URL"),
        ("https://h/v1", ""),
        ("https://h/api", ""),
    ],
)
@pytest.mark.parametrize("status", [404, 405])
def test_a_base_url_without_a_path_is_told_what_it_may_lack(base_url: str, hint: str, status: int) -> None:
    said = advice(status, ServerError(), Settings(base_url=base_url))
    assert said.endswith(f"{hint} (HTTP {status})")
    assert ("at the end of" in said) is bool(hint)


def test_only_over_plain_http_a_server_can_want_tls() -> None:
    body = "The plain HTTP request was sent to HTTPS port"
    assert advice(400, ServerError(), Settings(base_url="http://h"), body=body).startswith("Write https:// in")
    assert advice(400, ServerError(), SETTINGS, body=body) == "Correct the request (HTTP 400)"
    assert advice(400, ServerError(), Settings(base_url="http://h"), body=[1]) == "Correct the request (HTTP 400)"


def test_where_no_key_is_set_the_advice_is_to_set_one() -> None:
    assert advice(401, ServerError(), Settings()).startswith("Set an API key (password, now empty) of connection")


def test_braces_in_a_name_are_only_braces() -> None:
    assert "'{x}'" in advice(402, ServerError(code="{y}"), Settings(conn_id="{x}"))


def test_a_redirect_to_an_ipv6_address_keeps_its_brackets() -> None:
    told = advice(308, ServerError(), SETTINGS, location="https://[2001:db8::1]:8443/v1/chat/completions")
    assert told.startswith("Write https://[2001:db8::1]:8443/v1 in the base URL (host) of connection 'mine': ")
