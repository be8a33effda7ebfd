"""What codes and words come to: a status, an account without money, a request that is too large."""

from __future__ import annotations

import pytest

from airflow_chat_provider.core.server.scrub import Scrubber
from airflow_chat_provider.core.server.verdict import NO_MONEY, Words, http_status, why_final

QUOTA = "You exceeded your current quota, please check your plan and billing details."
# Messages as servers sent them.
NO_MONEY_WORDS = [
    "insufficient balance (1008)",
    "Insufficient Balance",
    "Insufficient balance or no resource package. Please recharge.",
    "Insufficient credits. Add more using https://openrouter.ai/credits",
    "This request requires more credits, or fewer max_tokens. You requested up to 64000 tokens",
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing",
    "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    "Your team has either used all available credits or reached its monthly spending limit.",
    "Sorry, your account balance is insufficient",
    "not enough balance",
    "Your prepayment credits are depleted. Please go to AI Studio",
    "Your project has exceeded its monthly spending cap.",
    "You have exceeded your monthly included credits for Inference Providers.",
    "You have depleted your monthly included credits. Purchase pre-paid credits",
    "Account x is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices.",
    "Access denied, please make sure your account is in good standing.",
    "User's credit limit is insufficient, remaining credit limit: $0.000000",
    "user quota is not enough",
    "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0",
    "Gemini 2.5 Pro Preview doesn't have a free quota tier.",
    "* Quota exceeded for metric: x/generate_content_free_tier_requests, limit: 0, model: m\nPlease retry in 25.4s.",
    "用户额度不足",
    "账户余额不足",
]
LIMITS_WORDS = [
    "Rate limit reached for m on tokens per day (TPD): Limit 100000, Used 97050, Requested 3619. Please try again",
    "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day",
    "Requests to the API have exceeded call rate limit of your current pricing tier. Please retry after 4 seconds.",
    "Resource has been exhausted (e.g. check quota).",
    "This request would exceed your organization's rate limit of 40,000 input tokens per minute.",
    "* Quota exceeded for metric: x/generate_content_free_tier_requests, limit: 0.5, model: m",
    "* Quota exceeded for metric: x/generate_content_free_tier_requests, limit: 20, model: m",
    "Your account reached max request: 3, please try again after 1 seconds",
    "The engine is currently overloaded, please try again later",
]
TOO_LARGE_WORDS = [
    "Request too large for m on tokens per min (TPM): Limit 30000, Requested 36278.",
    "The input or output tokens must be reduced in order to run successfully.",
    "litellm.RateLimitError: OpenAIException - Request too large for gpt-4o in organization org-x",
    "Rate limit reached on tokens per min. Limit: 30,000, Requested: 30,001",
    "please reduce your message size and try again",
]


def why(text: str = "", *codes: str, status: int = 429, wait: float | None = None) -> str:
    return why_final(status, codes, Words(text), wait)


@pytest.mark.parametrize("code", NO_MONEY)
def test_an_account_without_money_is_known_by_each_of_its_codes(code: str) -> None:
    assert [why("", code.lower(), status=status) for status in (400, 402, 403, 429, 500)] == ["account"] * 5
    assert http_status(code.lower()) == 402


@pytest.mark.parametrize("code", ["InsufficientQuota", "insufficient-quota", "INSUFFICIENT_QUOTA"])
def test_a_code_is_known_in_each_spelling(code: str) -> None:
    assert why("", code.lower()) == "account"


@pytest.mark.parametrize("text", NO_MONEY_WORDS)
@pytest.mark.parametrize("wait", [None, 30.0])
def test_an_account_without_money_is_known_by_its_words_whatever_wait_is_named(text: str, wait: float | None) -> None:
    assert [why(text, status=status, wait=wait) for status in (400, 402, 403, 412, 429, 500)] == ["account"] * 6


@pytest.mark.parametrize("text", LIMITS_WORDS)
def test_a_limit_of_requests_or_tokens_is_not_final(text: str) -> None:
    assert why(text, "rate_limit_exceeded", "tokens") == ""


def test_a_quota_that_a_named_wait_fills_up_is_a_limit() -> None:
    assert why(QUOTA) == "account"
    assert why(QUOTA, wait=51.6) == ""
    assert why(QUOTA, "insufficient_quota", wait=51.6) == "account"


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (f"{QUOTA} https://h/error-code#token-limit", ("insufficient_quota",)),
        ("Allocated quota exceeded, please increase your quota limit.", ("insufficient_quota",)),
        (QUOTA, ("throttling.allocationquota",)),
    ],
)
def test_a_throttle_in_the_words_of_an_empty_account_is_a_limit(text: str, codes: tuple[str, ...]) -> None:
    assert why(text, *codes) == ""


@pytest.mark.parametrize("text", TOO_LARGE_WORDS)
def test_a_request_larger_than_the_limit_is_final(text: str) -> None:
    assert [why(text, status=status) for status in (413, 429)] == ["size"] * 2
    assert why(text, status=500) == ""


@pytest.mark.parametrize("status", [502, 503, 504, 529])
def test_statuses_above_500_are_never_final(status: int) -> None:
    assert why("insufficient balance", "insufficient_quota", status=status) == ""


def test_quotations_of_the_prompt_do_not_count_as_the_servers_words() -> None:
    prompt = "my shop says insufficient balance to everybody, why"
    scrub = Scrubber({"messages": [{"role": "user", "content": prompt}]})
    assert why_final(500, (), Words(f"cannot parse: {prompt}", scrub), None) == ""
    assert why_final(500, (), Words("Insufficient credits", scrub), None) == "account"


STATUSES = {
    "429": 429,
    "502": 502,
    "400 bad request": 400,
    "rate_limit_exceeded": 429,
    "ratelimiterror": 429,
    "resource_exhausted": 429,
    "throttling.ratequota": 429,
    "throttlingexception": 429,
    "1302": 429,
    "minimax 1002": 429,
    "error_code 18": 429,
    "overloaded_error": 503,
    "unavailable": 503,
    "server_error": 500,
    "internalservererror": 500,
    "api_error": 500,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "minimax 1004": 401,
    "permission_denied": 403,
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "request_too_large": 413,
    "1002": None,
    "1008": None,
    "18": None,
    "200": None,
    "302": None,
    "600": None,
    "4290": None,
    "odd": None,
    "": None,
}


@pytest.mark.parametrize(("code", "status"), STATUSES.items())
def test_a_code_stands_for_a_status(code: str, status: int | None) -> None:
    assert http_status(code) == status
