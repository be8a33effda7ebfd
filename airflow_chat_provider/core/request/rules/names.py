"""Top-level names of a request: the API's own, and misspellings of those.

Compatible servers have parameters of their own, more than any list could hold, so an unknown name passes. A misspelt
name of the API's is an error: the server would ignore it, and the answer would be paid for without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from airflow_chat_provider.core.paths import step
from airflow_chat_provider.core.request.rules.report import Report
from airflow_chat_provider.core.spelling import close_to, misspelling

_API = """
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
    messages metadata modalities model moderation n parallel_tool_calls prediction presence_penalty
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort response_format
    safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools
    top_logprobs top_p user verbosity web_search_options
"""
API_NAMES = frozenset(_API.split())
_AZURE_NAMES = frozenset({"data_sources", "user_security_context"})
# What Python client libraries take beside the request, and never send under this name.
_WRAPPERS = frozenset({"extra_body", "extra_headers", "extra_query"})
# Words of their own, a letter away from one of the API's: OpenRouter's `models` and Anthropic's `speed`; a `score` is
# what a server for ranking would take.
_OWN_WORDS = frozenset({"models", "score", "speed"})

_ALIKE = 0.7  # of difflib's ratio: enough for a hint


def check(request: Mapping[Any, object], report: Report, known: Collection[str]) -> None:
    """Refuse a misspelt name everywhere, and at OpenAI every unknown name. Values are not looked at.

    A name can only be a misspelling of one that the request lacks: beside ``model``, ``mode`` is something else.
    ``known`` has the names of the user's own schema.
    """
    lacking = API_NAMES.difference(request)
    for name in request:
        if not isinstance(name, str) or name in API_NAMES or name in known:
            continue
        meant = None if name in _OWN_WORDS else _misspelling(name, lacking)
        if meant is not None:
            near = [meant]
        elif report.server.openai and not (report.server.azure and name in _AZURE_NAMES):
            near = close_to(name, sorted(lacking), _ALIKE)
        else:
            continue
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        report.refuse("unknown_key", "$" + step(name), f"is not a parameter of a chat completion{hint}", _remedy(name))


def _remedy(name: str) -> str:
    if name in _WRAPPERS:
        return "move its content to the top level of the request, or to the connection's headers or query"
    return "rename or remove the key"


@lru_cache(maxsize=256)
def _misspelling(name: str, lacking: frozenset[str]) -> str | None:
    return misspelling(name, sorted(lacking))
