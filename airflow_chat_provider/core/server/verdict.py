"""What a server's codes and words mean: a status, an account without money, a request too large, a spoilt answer.

The tables say where each entry was seen. Names are compared without case and without what is neither letter nor digit:
``insufficient_quota``, ``InsufficientQuota`` and ``insufficient-quota`` are one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal

Reason = Literal["", "account", "size"]
"""Why waiting does not help: someone has to pay, or the request is larger than the account's limit. Empty: it helps."""

NO_MONEY = {
    "insufficient_quota": "OpenAI (429), Perplexity (401)",
    "billing_hard_limit_reached": "OpenAI",
    "billing_not_active": "OpenAI",
    "account_deactivated": "OpenAI",
    "access_terminated": "OpenAI",
    "billing_error": "Anthropic (402)",
    "credit_balance_too_low": "gateways before Anthropic",
    "BILLING_DISABLED": "Google, reason of an ErrorInfo",
    "1113": "Zhipu (429): the account is in arrears (langgenius/dify#5850, docs.bigmodel.cn)",
    "1309": "Zhipu (429): the plan has expired (docs.bigmodel.cn)",
    "minimax 1008": "MiniMax, status_code of base_resp (platform.minimax.io/docs)",
    "insufficient_balance_error": "MiniMax",
    "personal-team-blocked:spending-limit": "xAI (429, 403; continuedev/continue#10373)",
    "exceeded_current_quota_error": "Moonshot (429)",
    "exceeded_current_quota": "Moonshot",
    "Arrearage": "DashScope (400)",
    "AllocationQuota.FreeTierOnly": "DashScope (403): the free tier is used up",
    "AccountOverdueError": "Volcengine (403)",
    "account_overdue": "gateways before Volcengine",
    "NOT_ENOUGH_BALANCE": "Novita (403, reason)",
    "insufficient_balance": "DeepSeek (402), Venice (402; veniceai/api-docs#149)",
    "insufficient_credits": "OpenRouter, and gateways that sell credit (402)",
    "insufficient_funds": "Vercel's AI gateway (402)",
    "insufficient_user_quota": "one-api and new-api (403)",
    "pre_consume_token_quota_failed": "one-api and new-api (403)",
    "CreditsError": "OpenCode Zen (401)",
    "FailedOperation.ResourcePackExhausted": "Tencent Hunyuan",
    "INVALID_PAYMENT_INSTRUMENT": "AWS Bedrock (403)",
    "budget_exceeded": "LiteLLM's proxy (400, 429; BerriAI/litellm#4606)",
    "payment_required": "gateways, under other statuses than 402",
    "quota_exceeded": "GitHub Copilot (402)",
    "quota_exhausted": "gateways",
}
_PAY = (
    r"(?i)insufficient\s+(?:account\s+|api\s+)?(?:balance|credits?|funds)\b"  # MiniMax, DeepSeek, OpenRouter, Zhipu
    r"|\bbalance\s+is\s+(?:insufficient|not\s+enough|too\s+low)\b"  # SiliconFlow; Anthropic ("credit balance")
    r"|not\s+enough\s+(?:balance|credits?|funds)\b"  # Novita
    # Gemini: prepayment credits are depleted. new-api: the credit limit is insufficient.
    r"|\b(?:balance|credits|credit\s+limit)\s+(?:is|are|has\s+been|have\s+been)\s+"
    r"(?:insufficient|exhausted|depleted|used\s+up)"
    r"|\bused\s+all\s+(?:available|your|of\s+your)\s+credits"  # xAI
    # Hugging Face ("exceeded your monthly included credits", "depleted your ...")
    r"|\b(?:exhausted|depleted|exceeded|(?:run\s+)?out\s+of|used\s+up)\s+(?:all\s+)?(?:of\s+)?(?:your\s+)?"
    r"(?:monthly\s+)?(?:included\s+|available\s+|free\s+)?credits\b"
    r"|\bmonthly\s+spend(?:ing)?\s+(?:limit|cap)\b"  # xAI, Fireworks (412), Gemini
    r"|\breached\s+your\s+specified\s+(?:workspace\s+)?api\s+usage\s+limits"  # Anthropic (400)
    r"|\brequires\s+more\s+credits\b"  # OpenRouter (402)
    r"|\bquota\s+is\s+not\s+enough\b"  # one-api
    r"|\bbudget\s+has\s+been\s+exceeded\b"  # LiteLLM
    r"|\baccount\s+is\s+in\s+good\s+standing\b"  # DashScope (Arrearage)
    r"|\bfailure\s+to\s+pay\b"  # Fireworks (412)
    r"|\bplease\s+recharge\b"  # Zhipu
    r"|(?:not|n't)\s+have\s+a\s+free\s+quota\s+tier"  # Gemini, of a model for paid accounts
    # Gemini, of a model that is not in the plan: it names a wait all the same (google-gemini/gemini-cli#22486)
    r"|\bquota\s+exceeded\s+for\s+metric:[^\n]{0,200}?\blimit:\s*0(?![\d.])"
    r"|余额不足|额度不足|欠费"  # Chinese servers: the balance, the quota is not enough; in arrears
)
# OpenAI says it of an account that is empty, Gemini of its limits per minute and per day. Gemini names a wait then
# (RetryInfo, "Please retry in 51s"), and an account is not filled up by waiting: a named wait tells one from the other.
_PAY_OR_WAIT = r"(?i)exceeded\s+your\s+current\s+quota|\bquota\s+(?:is\s+|has\s+been\s+)?exhausted"
# DashScope says insufficient_quota, in OpenAI's words, of its limits per minute (can1357/oh-my-pi#8476).
_THROTTLED = r"(?i)allocated\s+quota\s+exceeded|error-code#token-limit"
_TOO_LARGE = (
    r"(?i)\brequest\s+too\s+large\b"  # OpenAI, Groq
    r"|\b(?:input|output)\s+tokens\s+must\s+be\s+reduced\b"  # OpenAI
    r"|\breduce\s+your\s+message\s+size\b"  # Groq
)
_LIMIT_AND_NEED = r"(?i)\blimit:?\s{0,3}([\d,]{1,20})[^.]{0,80}?\brequested:?\s{0,3}([\d,]{1,20})"

SPOILT_ADVICE = (
    "Ask again (see output_retries) or change the prompt: the server could not use this one answer of the model"
)
CUT_ADVICE = "Raise the token limit: the server could not use this answer of the model, which the limit cut off"
# Codes and types of such errors, and the server that was seen to send each.
_SPOILT_CODES = frozenset(
    {
        "json_validate_failed",  # Groq: not JSON, or JSON that does not fit the schema
        "tool_use_failed",  # Groq: no call of a tool that was offered
        "output_parse_failed",  # Groq's gpt-oss
        "malformed_function_call",  # Gemini's finish reason, by gateways
    }
)
_SPOILT = (
    r"(?i)failed_generation|json_validate_failed|tool_use_failed|output_parse_failed"  # Groq, in a gateway's words
    r"|failed to (?:generate (?:valid )?json|validate json|call a function)"  # Groq
    r"|generated json does not match|tool call validation failed"  # Groq
    r"|tool choice is (?:none|required), but (?:the )?model|model did not call (?:a|any) (?:tool|function)"  # Groq
    r"|model generated output that could not be parsed"  # Groq
    r"|no valid (?:tool call or response|response or tool call) generated"  # Cohere, with 422
    r"|(?:model|it) (?:did not|failed to) (?:produce|generate|return|output) (?:a )?valid (?:json|tool|function)"
    r"|model produced (?:invalid (?:content|json|output)|output that does not match)"  # OpenAI, llama.cpp
    r"|failed to parse (?:the )?(?:tool|function)[ _]call|invalid[ _]tool[ _](?:output|generation)"
    r"|malformed function call"
    r"|server could not use this (?:one )?answer"  # the two advices above
)
_CUT = r"(?i)max\w{0,6} (?:completion |output )?tokens (?:was |were )?(?:reached|exceeded)"
_ANSWER_LOOKED_AT = 16_000  # characters of a message that may quote an answer

# The name of a vendor before a number: in that vendor's own field alone (base_resp, error_code).
# Zhipu: docs.bigmodel.cn/cn/api/api-code. MiniMax: platform.minimax.io/docs/api-reference/errorcode. Baidu: Qianfan.
_STATUSES = {
    400: "invalid_request_error, invalid_request, invalid_argument, bad_request, bad_request_error, invalid_parameter, "
    "context_length_exceeded, minimax 1026, minimax 1027, minimax 2013",
    401: "authentication_error, invalid_api_key, incorrect_api_key, invalid_authentication_error, unauthorized, "
    "unauthenticated, token_expired, minimax 1004, minimax 2049, error_code 110, error_code 111",
    402: ", ".join(NO_MONEY),
    403: "permission_error, permission_denied, forbidden, access_denied, access_denied_exception",
    404: "not_found, not_found_error, model_not_found, model_not_found_error",
    408: "request_timeout, timeout_error",
    413: "request_too_large, payload_too_large",
    422: "unprocessable_entity, unprocessable_entity_error",
    429: "rate_limit_exceeded, rate_limit_error, rate_limit, rate_limited, rate_limit_reached, "
    "rate_limit_reached_error, too_many_requests, too_many_requests_exception, request_limit_exceeded, "
    "resource_exhausted, throttling_exception, "
    "limit_requests, tokens, requests, 1302, 1303, 1305, 1308, 1312, minimax 1002, minimax 1039, minimax 1041, "
    "minimax 2045, minimax 2056, error_code 4, error_code 17, error_code 18, error_code 336501, error_code 336502",
    500: "server_error, internal_server_error, internal_error, internal, api_error, internal_failure, minimax 1000, "
    "minimax 1013, minimax 1024, minimax 1033, error_code 336000",
    502: "bad_gateway, upstream_error, provider_error",
    503: "service_unavailable, service_unavailable_error, service_unavailable_exception, unavailable, overloaded, "
    "overloaded_error, engine_overloaded, engine_overloaded_error, server_overloaded, model_overloaded, server_busy, "
    "capacity_exceeded, error_code 336100",
    504: "gateway_timeout, deadline_exceeded, minimax 1001",
}


def _key(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())


_STATUS_OF = {_key(name): status for status, names in _STATUSES.items() for name in names.split(", ")}
_MONEY = frozenset(map(_key, NO_MONEY))
_HTTP = r"(?s)([45]\d\d)(?:[\s:].*)?"
_LOOKED_AT = 4000  # characters of a message
_AROUND = 100  # characters around what was found, in which a quotation would show


class Words:
    """A server's message, in which quotations of the request do not count: a prompt may speak of money, too."""

    def __init__(self, text: str, scrub: Callable[[str], str] | None = None) -> None:
        self._text = text[:_LOOKED_AT]
        self._scrub = scrub

    def find(self, pattern: str) -> re.Match[str] | None:
        """The first place where the server's own words match. Quotations are looked for only around a match."""
        found = re.search(pattern, self._text)
        if found is None or self._scrub is None:
            return found
        return re.search(pattern, self._scrub(self._text[max(0, found.start() - _AROUND) : found.end() + _AROUND]))


def http_status(name: str) -> int | None:
    """The HTTP status that a code (in lower case) stands for; a number from 400 to 599 stands for itself."""
    number = re.fullmatch(_HTTP, name)
    if number is not None:
        return int(number[1])
    return 429 if name.startswith("throttling") else _STATUS_OF.get(_key(name))  # DashScope: Throttling.RateQuota


def why_final(status: int, codes: Iterable[str], words: Words, wait: float | None) -> Reason:
    """Why the same request will be refused again however long one waits; empty where a wait may help.

    ``wait`` is the seconds that the server asks for, if any. Statuses above 500 are never final: they come from a
    gateway, which may have more accounts.
    """
    if status > 500 or _is_throttled(codes, words):
        return ""
    if any(_key(code) in _MONEY for code in codes) or words.find(_PAY):
        return "account"
    if status == 429 and not wait and words.find(_PAY_OR_WAIT):
        return "account"
    return "size" if status in (413, 429) and _is_too_large(words) else ""


def _is_throttled(codes: Iterable[str], words: Words) -> bool:
    return any(code.startswith("throttling") for code in codes) or words.find(_THROTTLED) is not None


def _is_too_large(words: Words) -> bool:
    if words.find(_TOO_LARGE):
        return True
    found = words.find(_LIMIT_AND_NEED)
    limit, need = (number.replace(",", "") for number in found.groups()) if found else ("", "")
    return limit.isdigit() and need.isdigit() and int(need) > int(limit)


def judged_status(status: int, code: str | int | None) -> int:
    """The HTTP status of an error, or the one that its code stands for where the error came with a 2xx."""
    return (http_status(str(code).lower()) or status) if 200 <= status < 300 else status


def is_spoilt(codes: Iterable[str], message: str) -> bool:
    """Is this no refusal of the request: did the model answer, and the server could not use that one answer?

    ``codes`` are those of the error, in lower case.
    """
    return not _SPOILT_CODES.isdisjoint(codes) or re.search(_SPOILT, message[:_ANSWER_LOOKED_AT]) is not None


def blames_answer(status: int | None, code: str | int | None, message: str) -> bool:
    """``is_spoilt`` for an error as the user is told of it."""
    return judged_status(status or 0, code) < 500 and is_spoilt((), message)


def is_cut(message: str, answer: str) -> bool:
    """Did the token limit cut off a spoilt answer? It would cut off the next one, too."""
    return any(re.search(_CUT, text[:_ANSWER_LOOKED_AT]) for text in (message, answer))
