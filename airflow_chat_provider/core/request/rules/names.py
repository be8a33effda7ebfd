"""Top-level names: the API's, those that compatible servers add, and misspellings of the first."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.paths import error_text, step
from airflow_chat_provider.core.request.rules.report import WAY_OUT
from airflow_chat_provider.core.request.rules.vendor_names import AZURE_NAMES, VENDOR_NAMES

if TYPE_CHECKING:
    from airflow_chat_provider.core.request.rules.report import Report

_API = """
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
    messages metadata modalities model moderation n parallel_tool_calls prediction presence_penalty
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort response_format
    safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools
    top_logprobs top_p user verbosity web_search_options
"""
API_NAMES = frozenset(_API.split())
# What Python client libraries take beside the request, and never send under this name.
_WRAPPERS = frozenset({"extra_body", "extra_headers", "extra_query"})
# Measured: of the vendors' names only `models` and `speed` would pass for misspellings, were they not listed;
# of the slips that people make, a letter or two in a word, nearly all do.
_CLOSE_WORD = 0.84
_CLOSE_WHOLE = 0.9
_CLOSE_HINT = 0.7
_LONGEST_NAME = 40


def check_names(request: Mapping[str, Any], *, known: Collection[str] | None = None) -> None:
    """Raise for a top-level name that is a misspelling of one of the API's; values are never looked at.

    A name can only be a misspelling of what the request lacks: beside ``model``, ``mode`` is something else.
    """
    for name in _strangers(request, VENDOR_NAMES, known):
        meant = next((candidate for candidate in _meant(name) if candidate not in request), None)
        if meant is not None:
            path = "$" + step(name)
            problem = f"is not a parameter of a chat completion; did you mean {meant!r}?"
            remedy = f"{_remedy(name)}, {WAY_OUT}"
            raise InvalidRequest(error_text(path, problem, remedy), path=path, keyword="unknown_key")


def check_unknown(request: Mapping[str, Any], report: Report, known: Collection[str] | None) -> None:
    """OpenAI refuses every name that it does not know; other servers have parameters of their own."""
    expected: AbstractSet[str] = VENDOR_NAMES
    if report.server.openai:
        expected = AZURE_NAMES if report.server.azure else frozenset()
    for name in _strangers(request, expected, known):
        problem = f"is not a parameter of a chat completion{_hint(name, request)}"
        if name in VENDOR_NAMES - _WRAPPERS:
            problem = "is a parameter of other servers, and this one refuses what it does not know"
        report.refused_by_openai("unknown_key", "$" + step(name), problem, _remedy(name))


def _strangers(request: Mapping[Any, Any], expected: AbstractSet[str], known: Collection[str] | None) -> list[str]:
    strange = request.keys() - API_NAMES - expected
    allowed = () if known is None else known
    return [name for name in request if name in strange and isinstance(name, str) and name not in allowed]


def _remedy(name: str) -> str:
    if name in _WRAPPERS:
        return "move what it holds to the top level of the request, or to the connection's headers or query"
    return "rename or remove the key"


def _hint(name: str, request: Mapping[str, Any]) -> str:
    nearest = next((candidate for candidate in _similar(name) if candidate not in request), None)
    return "" if nearest is None else f" (the nearest is {nearest!r})"


@lru_cache(maxsize=256)
def _similar(name: str) -> tuple[str, ...]:
    if len(name) > _LONGEST_NAME:
        return ()
    from difflib import get_close_matches

    return tuple(get_close_matches(name.lower(), sorted(API_NAMES), n=3, cutoff=_CLOSE_HINT))


@lru_cache(maxsize=256)
def _meant(name: str) -> tuple[str, ...]:
    """What ``name`` may be a misspelling of, the nearest first."""
    if len(name) > _LONGEST_NAME:
        return ()
    meant = [candidate for candidate in sorted(API_NAMES) if _is_misspelling(name, candidate)]
    return tuple(sorted(meant, key=lambda candidate: -_similarity(name, candidate)))


def _is_misspelling(name: str, meant: str) -> bool:
    """Word by word, as ``min_tokens`` is no misspelling of ``max_tokens``; whole where words were joined."""
    joined, meant_joined = _joined(name), _joined(meant)
    if joined == meant_joined:
        return True
    words, meant_words = name.lower().split("_"), meant.split("_")
    if len(words) == len(meant_words):
        return all(map(_is_close_word, words, meant_words))
    return len(meant_joined) > 4 and _similarity(joined, meant_joined) >= _CLOSE_WHOLE


def _joined(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _is_close_word(word: str, meant: str) -> bool:
    return word == meant or _similarity(word, meant) >= _CLOSE_WORD or _has_letters_swapped(word, meant)


def _has_letters_swapped(word: str, meant: str) -> bool:
    """Two neighbouring letters, the commonest slip, which the similarity of a short word does not show."""
    differing = [i for i, (a, b) in enumerate(zip(word, meant, strict=False)) if a != b]
    return (
        len(word) == len(meant)
        and len(differing) == 2
        and differing[1] == differing[0] + 1
        and sorted(word) == sorted(meant)
    )


def _similarity(name: str, meant: str) -> float:
    from difflib import SequenceMatcher

    return SequenceMatcher(None, name, meant, autojunk=False).ratio()
