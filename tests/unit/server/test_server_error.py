"""Error bodies in the shapes of all servers, and the advice that comes with a status."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.server.error_body import ServerError, holds_error, read_error
from airflow_chat_provider.core.server.remedy import advice

_NAMES = [
    "error",
    "errors",
    "code",
    "message",
    "msg",
    "type",
    "status",
    "detail",
    "choices",
    "metadata",
    "raw",
    "base_resp",
]
_NAMES += ["status_code", "details", "reason", "loc", "title", "fault", "success", "object"]
_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["{}", "[1]", "data: {}"])
)
JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5)
)
RAW = '{"error": {"message": "Too long", "code": "context_length_exceeded"}}'

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
    (
        "openrouter's reason",
        {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "busy upstream"}}},
        "Provider returned error: busy upstream",
        429,
        {"429"},
    ),
    (
        "openrouter's reason, in JSON",
        {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": RAW}}},
        "Provider returned error: Too long",
        400,
        {"400", "context_length_exceeded"},
    ),
    (
        "openrouter's choice",
        {"choices": [{"error": {"code": 502, "message": "Gone"}, "message": {"content": "x"}}], "message": "y"},
        "Gone",
        502,
        {"502"},
    ),
    (
        "xai",
        {"code": "team:spending-limit", "error": "No credits"},
        "No credits",
        "team:spending-limit",
        {"team:spending-limit"},
    ),
    ("cloudflare", {"success": False, "errors": [{"code": 7003, "message": "No route"}]}, "No route", 7003, {"7003"}),
    (
        "two errors",
        {"errors": [{"code": 1, "message": "One"}, {"code": 2, "message": "Two"}]},
        "One; Two",
        1,
        {"1", "2"},
    ),
    ("errors by field", {"errors": {"seed": ["is odd"], "n": "is 5"}}, "seed: is odd; n: is 5", None, set()),
    ("error list", {"error": [{"message": "Bad", "code": 5007}]}, "Bad", 5007, {"5007"}),
    ("error texts", {"error": ["One", "Two"]}, "One; Two", None, set()),
    ("message list", {"message": ["One", "Two"], "error": "Bad Request", "statusCode": 400}, "One; Two", 400, {"400"}),
    ("bedrock", {"Message": "Denied"}, "Denied", None, set()),
    (
        "bedrock's type",
        {"__type": "x.y#ThrottlingException", "message": "Slow"},
        "Slow",
        "ThrottlingException",
        {"throttlingexception"},
    ),
    ("minimax", {"base_resp": {"status_code": 1008, "status_msg": "no balance"}}, "no balance", 1008, {"minimax 1008"}),
    ("minimax, well", {"base_resp": {"status_code": 0, "status_msg": "success"}}, "", None, set()),
    ("baidu", {"error_code": 18, "error_msg": "Too fast", "id": "x"}, "Too fast", 18, {"error_code 18"}),
    (
        "detail",
        {"detail": {"message": "Expired", "type": "t", "code": "token_expired"}},
        "Expired",
        "token_expired",
        {"t", "token_expired"},
    ),
    ("camel case", {"errorMessage": "No", "errorCode": "Odd"}, "No", "Odd", {"odd"}),
    ("err_code", {"err_code": "odd", "err_msg": "No"}, "No", "odd", {"odd"}),
    ("novita", {"code": 403, "reason": "NO_BALANCE", "message": "No"}, "No", 403, {"403", "no_balance"}),
    ("status and reason", {"status": "error", "reason": "The model is loading"}, "The model is loading", None, set()),
    (
        "apigee",
        {"fault": {"faultstring": "No key", "detail": {"errorcode": "oauth.NoKey"}}},
        "No key",
        "oauth.NoKey",
        {"oauth.nokey"},
    ),
    (
        "problem+json",
        {"type": "https://h/p/out-of-credit", "title": "No credit.", "status": 403, "detail": "It costs 50."},
        "No credit: It costs 50.",
        "out-of-credit",
        {"out-of-credit", "403"},
    ),
    ("problem without a type", {"type": "about:blank", "title": "Not Found", "status": 404}, "Not Found", 404, {"404"}),
    (
        "oauth",
        {"error": "invalid_token", "error_description": "It expired"},
        "It expired",
        "invalid_token",
        {"invalid_token"},
    ),
    ("spring", {"status": 404, "error": "Not Found", "path": "/v1"}, "Not Found", 404, {"404"}),
    (
        "azure's inner error",
        {"error": {"message": "No", "code": "a", "innererror": {"code": "B"}}},
        "No",
        "a",
        {"a", "b"},
    ),
    (
        "google's reason",
        {"error": {"message": "No", "code": 400, "details": [{"reason": "API_KEY_INVALID"}]}},
        "No",
        400,
        {"400", "api_key_invalid"},
    ),
    (
        "tencent",
        {"Response": {"Error": {"Code": "LimitExceeded", "Message": "Slow"}}},
        "Slow",
        "LimitExceeded",
        {"limitexceeded"},
    ),
    ("JSON in a message", {"message": RAW, "code": 500}, "Too long", 500, {"500", "context_length_exceeded"}),
    ("JSON in an error", {"error": RAW}, "Too long", "context_length_exceeded", {"context_length_exceeded"}),
    (
        "moderation",
        {"error": {"message": "Flagged", "code": 403, "metadata": {"flagged_input": "kestrel"}}},
        "Flagged",
        403,
        {"403"},
    ),
    ("a completion without an error", {"choices": [{"message": {}}], "message": "kestrel", "code": 5}, "", None, set()),
    ("true", {"error": True, "message": "No", "code": True}, "No", None, set()),
    ("a code too long", {"error": {"message": "No", "code": 10**5000}}, "No", None, set()),
    ("events", 'event: error\ndata: {"error": {"message": "No", "code": "a"}}\n\ndata: [DONE]', "No", "a", {"a"}),
    ("events without a name", ': hi\n\ndata: {"error": {"message": "No"}}\n\n', "No", None, set()),
    ("an event of words", "event: error\ndata: out of memory\n\n", "out of memory", None, set()),
    ("a page with a title", "<!doctype html><title>502\n Bad Gateway</title>", "502 Bad Gateway", None, set()),
    ("words", "error code: 1015\n", "error code: 1015", None, set()),
    ("JSON that was cut", '{"error": {"message": "N', "", None, set()),
    ("no text", "\ufffd\ufffd\x00", "", None, set()),
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


def test_validation_details_do_not_quote_the_input() -> None:
    body = {"detail": [{"loc": ["body", "seed"], "msg": "wrong", "input": "kestrel", "ctx": {"given": "kestrel"}}]}
    assert "kestrel" not in repr(read_error(body))


def test_an_inner_message_comes_first_where_the_outer_one_is_long() -> None:
    body = {"error": {"message": "outer " * 30, "metadata": {"raw": "the reason"}}}
    assert read_error(body).message.startswith("the reason: outer outer")


NO_ERRORS: list[Any] = [
    None,
    {},
    "",
    False,
    0,
    [],
    {"message": "", "code": None},
    {"code": 0, "message": ""},
    {"code": 200, "message": "success"},
]


@pytest.mark.parametrize("value", NO_ERRORS, ids=str)
def test_bodies_that_say_nothing_are_not_errors(value: Any) -> None:
    assert not holds_error({"choices": [{"message": {}}], "error": value})


@pytest.mark.parametrize(
    "body",
    [
        {"error": "no"},
        {"error": True},
        {"error": {"code": 5}},
        [{"error": {"code": 429}}],
        {"base_resp": {"status_code": 1002}},
        {"base_resp": {"status_code": "1002"}},
        {"choices": [{"message": {}}, {"error": {"message": "no"}}]},
        {"choices": None, "errors": [{"message": "no"}]},
        {"object": "error", "message": "no"},
        {"type": "error"},
        {"success": False},
        {"code": "x", "message": "no"},
        {"status": 500, "msg": "no"},
        {"error_code": 18},
        {"detail": "no"},
        {"fault": {"faultstring": "no"}},
    ],
    ids=str,
)
def test_an_error_in_the_body_of_a_2xx_is_detected(body: Any) -> None:
    assert holds_error(body)


@pytest.mark.parametrize(
    "body",
    [
        None,
        "error",
        [],
        [1],
        {},
        {"object": "list", "data": []},
        {"message": "hello"},
        {"code": 0, "message": "ok"},
        {"choices": [{"message": {"content": "x"}}], "base_resp": {"status_code": 0}},
        {"choices": [{"message": {}, "error": None}], "detail": "kestrel", "code": 5, "message": "x"},
    ],
    ids=str,
)
def test_other_bodies_of_a_2xx_are_not_errors(body: Any) -> None:
    assert not holds_error(body)


@given(JSON)
def test_any_body_can_be_read_for_an_error(body: Any) -> None:
    said = read_error(body)
    assert isinstance(said.message, str)
    assert all(code == code.lower() for code in said.codes)
    assert holds_error(body) in (True, False)


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
    (403, ServerError(), "Ask for access: the key of connection 'mine' is not allowed to do this (HTTP 403)"),
    (
        404,
        ServerError(),
        "Check the base URL and the model (HTTP 404): https://h/v1 of connection 'mine' does not have one of them",
    ),
    (413, ServerError(), "Send a smaller request (HTTP 413)"),
    (418, ServerError(), "Correct the request or connection 'mine' (HTTP 418)"),
    (429, ServerError(), "Wait, or lower the rate of requests: it is a rate limit (HTTP 429)"),
    (
        429,
        ServerError(code="insufficient_quota", codes=frozenset({"insufficient_quota"})),
        f"{PAY} (HTTP 429, insufficient_quota), for the account behind connection 'mine'; waiting does not help",
    ),
    (
        302,
        ServerError(),
        "Check the base URL (HTTP 302): it redirects, and redirects are not followed; connection 'mine', https://h/v1",
    ),
    (503, ServerError(), "Try again later: the server failed (HTTP 503), at https://h/v1"),
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
    assert f"(HTTP {status})" in said
    assert said.endswith(hint)
    assert ("at the end of" in said) is bool(hint)


def test_advice_to_use_https_comes_only_over_plain_http() -> None:
    body = "The plain HTTP request was sent to HTTPS port"
    assert advice(400, ServerError(), Settings(base_url="http://h"), body=body).startswith("Write https:// in")
    assert advice(400, ServerError(), SETTINGS, body=body) == "Correct the request (HTTP 400)"
    assert advice(400, ServerError(), Settings(base_url="http://h"), body=[1]) == "Correct the request (HTTP 400)"


def test_where_no_key_is_set_the_advice_is_to_set_one() -> None:
    assert advice(401, ServerError(), Settings()).startswith("Set an API key: the password of connection")


def test_braces_in_a_connection_id_are_kept() -> None:
    assert "'{x}'" in advice(402, ServerError(code="{y}"), Settings(conn_id="{x}"))


def test_a_redirect_to_an_ipv6_address_keeps_its_brackets() -> None:
    told = advice(308, ServerError(), SETTINGS, location="https://[2001:db8::1]:8443/v1/chat/completions")
    assert told.startswith("Write https://[2001:db8::1]:8443/v1 in the base URL (host): the server redirects there ")
