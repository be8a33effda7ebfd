"""What calls took, and the sums of it: tokens as servers count them, small and plain, whatever servers send."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, Self

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.cost import prices
from airflow_chat_provider.core.errors import kind_of
from airflow_chat_provider.core.json_text.writing import sanitize
from airflow_chat_provider.core.server.error_body import failed_generation
from airflow_chat_provider.core.types import JSON, JSONObject

LARGEST = 2**53
"""The largest count of one answer; a larger one is the server's mistake."""
_LARGEST_SUM = 2**63 - 1  # the databases under XCom take no larger integer
_NAME = r"(?a)(?!__)[\w.:/ -]{1,64}"  # Airflow reads keys with two underscores as its own
_NAMES = 32  # in one object: a server could send a new name with each answer
_DEPTH = 2  # prompt_tokens_details.cached_tokens


def counted(usage: JSON, depth: int = 0) -> JSONObject:
    """All counts in a ``usage``, in its inner objects too: those of 0 or more, under plain names."""
    found: JSONObject = {}
    if not isinstance(usage, dict) or depth == _DEPTH:
        return found
    for name, value in islice(usage.items(), _NAMES):
        if type(name) is not str or not _is_name(name):
            continue
        if type(value) is int or type(value) is float:
            if 0 <= value <= LARGEST:
                found[name] = value
        elif isinstance(value, dict):
            inner = counted(value, depth + 1)
            if inner:
                found[name] = inner
    return found


@lru_cache(256)
def _is_name(name: str) -> bool:
    return re.fullmatch(_NAME, name) is not None


def add(total: JSONObject, more: JSONObject) -> None:
    """Add counts to ``total``, name by name. A name that is a number in one and an object in the other stays as it is.

    Whatever servers send, the sum stays small and plain.
    """
    for name, value in more.items():
        had = total.get(name)
        if had is None and len(total) >= _NAMES:
            continue
        if isinstance(value, dict):
            if had is None or isinstance(had, dict):
                add(total.setdefault(name, {}), value)
        elif not isinstance(had, dict):
            total[name] = min(_LARGEST_SUM, (had or 0) + value)


def together(one: JSON, other: JSON) -> JSON:
    """The sum of two usages. If only one of them says anything, that one as it came."""
    if not one or not other:
        return one or other
    total: JSONObject = {}
    add(total, counted(one))
    add(total, counted(other))
    return total


# Where servers state each count, the usual place first. Servers that speak two dialects at once may leave 0 in one of
# the places, so the first count above 0 is taken.
_PLACES = {
    "input_tokens": ("prompt_tokens", "input_tokens"),
    "output_tokens": ("completion_tokens", "output_tokens"),
    "total_tokens": ("total_tokens",),
    "cache_read_tokens": (
        "prompt_tokens_details.cached_tokens",  # OpenAI, OpenRouter, Groq, Gemini, xAI, vLLM
        "input_tokens_details.cached_tokens",  # gateways to OpenAI's Responses API
        "cache_read_input_tokens",  # Anthropic, LiteLLM
        "prompt_cache_hit_tokens",  # DeepSeek
        "cached_tokens",  # Moonshot
    ),
    "cache_write_tokens": (
        "prompt_tokens_details.cache_write_tokens",  # OpenAI, OpenRouter
        "input_tokens_details.cache_write_tokens",
        "prompt_tokens_details.cache_creation_tokens",  # LiteLLM
        "cache_creation_input_tokens",  # Anthropic, LiteLLM
    ),
    "reasoning_tokens": (
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "reasoning_tokens",  # Perplexity, Together
    ),
}
_PATHS = {name: tuple(tuple(place.split(".")) for place in places) for name, places in _PLACES.items()}
_ANTHROPIC = ("cache_read_input_tokens", "cache_creation_input_tokens")
KEYS = (
    "requests",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "tool_calls",
    "cost",
    "model",
    "attempts",
    "seconds",
    "request_id",
    "errors",
    "rejected",
    "currency",
)
"""The keys of the XCom ``usage``, always all of them. apache-airflow-providers-common-ai has eight of them too."""
_LONGEST_NAME = 256  # characters of a model's name
_LONGEST_WHY, _MOST_REJECTED = 500, 10  # characters of what was wrong with an answer, and how many of these


def read_usage(usage: JSON) -> dict[str, int]:
    """The counts that a server's ``usage`` states, by the names in KEYS; nothing that is not a count."""
    if not isinstance(usage, dict):
        return {}
    found: dict[str, int] = {}
    for name, paths in _PATHS.items():
        counts = [count for path in paths if (count := _count(usage, *path)) is not None]
        if counts:
            found[name] = next(filter(None, counts), 0)
    if "input_tokens" in found and not found.get("total_tokens") and "prompt_tokens" not in usage:
        # Anthropic's own count of the input leaves out what its cache took part in.
        found["input_tokens"] += sum(_count(usage, name) or 0 for name in _ANTHROPIC)
    parts = [found[name] for name in ("input_tokens", "output_tokens") if name in found]
    if parts and not found.get("total_tokens"):
        found["total_tokens"] = sum(parts)
    return found


def _count(usage: JSONObject, *path: str) -> int | None:
    value: Any = usage
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= LARGEST else None


def usage_in(body: JSON) -> JSON:
    """The ``usage`` of an answer, or what llama.cpp's ``timings`` say in its place; None if it has neither."""
    if not isinstance(body, dict):
        return None
    usage, timings = body.get("usage"), body.get("timings")
    if not isinstance(timings, dict) or read_usage(usage):
        return usage
    read, cached, written = (_count(timings, name) for name in ("prompt_n", "cache_n", "predicted_n"))
    if read is None and written is None:
        return usage
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return {"prompt_tokens": (read or 0) + (cached or 0), "completion_tokens": written or 0, **details}


class Calls(NamedTuple):
    """How many calls the model answered, with how many attempts (one POST each), and the tool calls in the answers.

    An answer counts whether or not it is used: a cut or unfit one is paid for. A call that was refused has attempts.
    """

    requests: int = 0
    attempts: int = 0
    tool_calls: int = 0

    @classmethod
    def of(cls, reply: Reply) -> Self:
        """What one call came to."""
        body = reply.body if isinstance(reply.body, dict) else {}
        choices = body.get("choices")
        choices = choices if isinstance(choices, list) else []
        is_whole = reply.error is None and reply.status is not None
        is_answer = bool(is_whole or choices or read_usage(usage_in(body)) or failed_generation(body))
        attempts = reply.attempts if type(reply.attempts) is int and 0 <= reply.attempts <= LARGEST else 1
        return cls(int(is_answer), attempts, sum(map(_tool_calls, choices)))

    def plus(self, more: Calls) -> Self:
        """The sum of both."""
        return type(self)(*(min(_LARGEST_SUM, one + other) for one, other in zip(self, more, strict=True)))


class Spending(NamedTuple):
    """What a row of a batch took: a ``usage`` as servers state it, the calls, and the model of the last answer.

    ``cost`` is that of the answers whose cost is known; None if that is none.
    """

    usage: Any = None
    calls: Calls = Calls()
    model: str | None = None
    cost: Decimal | None = None

    @classmethod
    def of_attempt(cls, reply: Reply) -> Self:
        """What one attempt brought, which need not be the first of its call."""
        body = reply.body if isinstance(reply.body, dict) else {}
        usage = body.get("usage")
        calls = Calls.of(reply)._replace(attempts=1)
        return cls(usage if isinstance(usage, dict) else None, calls, _text(body.get("model")), cost_of(reply))

    def plus(self, more: Spending) -> Self:
        """The sum of both."""
        usage = together(self.usage, more.usage)
        return type(self)(
            usage, self.calls.plus(more.calls), more.model or self.model, prices.total(self.cost, more.cost)
        )


def with_attempt(earlier: tuple[Reply, ...], reply: Reply) -> tuple[Reply, ...]:
    """``earlier`` attempts of a call, and this one if it took tokens: of its answer, no more than model and usage."""
    usage = usage_in(reply.body)
    if not read_usage(usage) and prices.stated(usage) is None:
        return earlier
    body = {"model": _text(reply.body.get("model")), "usage": counted(usage)}
    return (*earlier, Reply(reply.status, body, cost=reply.cost, currency=reply.currency))


def total_of(reply: Reply) -> tuple[dict[str, int], Decimal | None]:
    """What all attempts of a call took: the counts of ``read_usage``, and the cost as far as it is known."""
    if not reply.earlier:
        return read_usage(usage_in(reply.body)), cost_of(reply)
    usage = Usage()
    usage.take_reply(reply)
    return {name: int(count) for name, count in usage.sums.items()}, usage.cost


def cost_of(reply: Reply) -> Decimal | None:
    """What the last attempt of a call cost: by the prices, or as the server says; None if neither is known."""
    return prices.stated(usage_in(reply.body)) if reply.cost is None else reply.cost


def currency_of(reply: Reply) -> str | None:
    """The currency of what a call cost; None if that is not known."""
    return next((attempt.currency for attempt in (reply, *reply.earlier) if attempt.currency), None)


def _tool_calls(choice: JSON) -> int:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return 0
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        return sum(isinstance(call, dict) for call in calls)
    return int(isinstance(message.get("function_call"), dict))


@dataclass(eq=False, repr=False)
class Usage:
    """Sums over many calls. A count that no answer states is None in ``to_dict``, not 0.

    ``cost`` is that of the answers whose cost is known; ``unpriced`` are the sums of the others.
    """

    calls: Calls = field(default_factory=Calls)
    sums: JSONObject = field(default_factory=dict)
    cost: Decimal | None = None
    unpriced: JSONObject = field(default_factory=dict)

    def take(self, usage: JSON, calls: Calls, cost: Decimal | None = None) -> None:
        """Add what ``calls`` took: ``usage`` is a server's, or the sum of several."""
        counts = read_usage(usage)
        add(self.sums, counts)
        self.calls = self.calls.plus(calls)
        if cost is None:
            add(self.unpriced, counts)
        else:
            self.cost = prices.total(self.cost, cost)

    def take_reply(self, reply: Reply) -> None:
        """Add what a call took, in all of its attempts."""
        for attempt in reply.earlier:  # which are among the attempts of the reply
            self.take(usage_in(attempt.body), Calls.of(attempt)._replace(attempts=0), cost_of(attempt))
        self.take(usage_in(reply.body), Calls.of(reply), cost_of(reply))

    def to_dict(
        self,
        *,
        model: JSON,
        seconds: float,
        request_id: JSON = None,
        errors: Mapping[str, int] | None = None,
        rejected: Sequence[str] = (),
        currency: str | None = None,
    ) -> JSONObject:
        """The value of the XCom ``usage``.

        ``errors``: what failed, counted by ``kind_of``. ``rejected``: what was wrong with each answer that was asked
        for again. ``currency``: that of the cost.
        """
        found = {
            **self.sums,
            **self.calls._asdict(),
            "cost": prices.number(self.cost),
            "currency": currency if self.cost is not None else None,
            "model": _text(model),
            "seconds": round(seconds, 3),
            "request_id": _text(request_id),
            "errors": dict(errors or {}),
            "rejected": [str(sanitize(why[:_LONGEST_WHY])[0]) for why in rejected[:_MOST_REJECTED]],
        }
        return {key: found.get(key) for key in KEYS}


def was_sent(replies: Iterable[Reply]) -> bool:
    """Was an attempt made in any of these calls, whether or not a response came?"""
    return any(reply.status is not None or reply.attempts != 0 for reply in replies)


def summary(
    replies: Sequence[Reply],
    request: Mapping[str, Any],
    error: BaseException | None = None,
    rejected: Sequence[str] = (),
) -> JSONObject:
    """The XCom ``usage`` of a dialogue, whose calls came to ``replies`` in this order.

    ``model`` is the one that the last answer names, or else the request's; ``request_id`` is the last response's.
    ``seconds`` are those of all calls, waits between attempts included. Answers that an earlier try received, and that
    this one goes on from, are counted too. ``error`` is what the dialogue ended with, and ``rejected`` what was wrong
    with the answers that were asked for again. Never raises, whatever servers sent.
    """
    usage, seconds, model, request_id, currency = Usage(), 0.0, None, None, None
    for reply in replies:
        usage.take_reply(reply)
        currency = currency_of(reply) or currency
        if type(reply.seconds) in (int, float) and 0 <= reply.seconds <= LARGEST:
            seconds += reply.seconds
        model = _text(reply.body.get("model") if isinstance(reply.body, dict) else None) or model
        if reply.status is not None:
            request_id = reply.request_id
    return usage.to_dict(
        model=model or request.get("model"),
        seconds=seconds,
        request_id=request_id,
        errors={} if error is None else {kind_of(error): 1},
        rejected=rejected,
        currency=currency,
    )


def _text(value: JSON) -> str | None:
    return str(sanitize(value[:_LONGEST_NAME])[0]) if isinstance(value, str) and value else None
