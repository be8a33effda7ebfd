"""Top-level names of a request: the API's own, and misspellings of those.

Compatible servers have parameters of their own, more than any list could hold: an unknown name passes. A misspelt name
of the API's does not: the server would pass over it, and the answer would be paid for without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.paths import error_text, step
from airflow_chat_provider.core.request.rules.report import WAY_OUT, Report
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


def check_names(request: Mapping[str, object], *, known: Collection[str] | None = None) -> None:
    """Raise for a top-level name that is a misspelling of one of the API's; values are never looked at.

    A name can only be a misspelling of what the request lacks: beside ``model``, ``mode`` is something else.
    """
    for name in _strange(request, known):
        meant = _meant(name, request)
        if meant is not None:
            path = "$" + step(name)
            problem = f"is not a parameter of a chat completion; did you mean {meant!r}?"
            remedy = f"{_remedy(name)}, {WAY_OUT}"
            raise InvalidRequest(error_text(path, problem, remedy), path=path, keyword="unknown_key")


def check_unknown(request: Mapping[str, object], report: Report, known: Collection[str] | None) -> None:
    """OpenAI refuses every name that it does not know. In the open form a misspelling is a warning anywhere."""
    for name in _strange(request, known):
        meant = _meant(name, request)
        if meant is None and (not report.server.openai or (report.server.azure and name in _AZURE_NAMES)):
            continue
        near = [meant] if meant is not None else close_to(name, sorted(API_NAMES.difference(request)), _ALIKE)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        problem = f"is not a parameter of a chat completion{hint}"
        report.refused_by_openai("unknown_key", "$" + step(name), problem, _remedy(name))


def _strange(request: Mapping[Any, object], known: Collection[str] | None) -> list[str]:
    """The names that are neither the API's nor the schema's, in the request's order."""
    strange = request.keys() - API_NAMES
    if not strange:
        return []
    allowed = () if known is None else known
    return [name for name in request if isinstance(name, str) and name in strange and name not in allowed]


def _remedy(name: str) -> str:
    if name in _WRAPPERS:
        return "move its content to the top level of the request, or to the connection's headers or query"
    return "rename or remove the key"


def _meant(name: str, request: Mapping[str, object]) -> str | None:
    return None if name in _OWN_WORDS else _misspelling(name, API_NAMES.difference(request))


@lru_cache(maxsize=256)
def _misspelling(name: str, lacking: frozenset[str]) -> str | None:
    return misspelling(name, sorted(lacking))
