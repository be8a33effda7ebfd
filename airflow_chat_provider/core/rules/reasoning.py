"""Rules of OpenAI's reasoning models, which are known by their names only: hence warnings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_chat_provider.core.rules.report import Report, as_dict, as_list

# o1, o3-mini, gpt-5, gpt-5.4-mini, gpt-6-astra, and these fine-tuned. Not gpt-4o, not gpt-oss, not what Azure
# calls gpt-35-turbo; gpt-5-chat is a plain model, its successors are not.
_REASONING = re.compile(
    r"(?:ft:)?(?:o[1-9]|gpt-(?P<major>[5-9]|[12][0-9])(?:\.(?P<minor>[0-9]))?)(?![0-9a-z])", re.IGNORECASE
)
_PLAIN = re.compile(r"(?:ft:)?gpt-5-chat", re.IGNORECASE)
_DEFAULTS = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False}


def check(request: Mapping[str, Any], report: Report) -> None:
    # Elsewhere such a name belongs to a gateway, which translates the parameters, or to a model that is only
    # called so. Where no server is known the name is the best there is.
    if report.server.known and not report.server.openai:
        return
    model = request.get("model")
    name = model[:200].rsplit("/", 1)[-1] if isinstance(model, str) else ""
    found = _REASONING.match(name)
    if found is None or _PLAIN.match(name):
        return
    if request.get("max_tokens") is not None:
        problem = "is not taken by reasoning models"
        report.warn("reasoning_max_tokens", "$.max_tokens", problem, "use max_completion_tokens")
    # Without any effort these models sample like the older ones.
    if request.get("reasoning_effort") != "none":
        for key in _sampling(request):
            problem = "is not the default, and reasoning models take only that"
            report.warn("reasoning_sampling", f"$.{key}", problem, "leave it out")
    _check_effort(request, (int(found["major"] or 0), int(found["minor"] or 0)), report)


def _sampling(request: Mapping[str, Any]) -> Iterator[str]:
    for key, default in _DEFAULTS.items():
        if request.get(key) is not None and request[key] != default:
            yield key
    for key in ("top_logprobs", "logit_bias"):
        if request.get(key):
            yield key


def _check_effort(request: Mapping[str, Any], version: tuple[int, int], report: Report) -> None:
    tools = as_list(request.get("tools"))
    if (
        version >= (5, 2)
        and request.get("reasoning_effort") not in (None, "none")
        and any(as_dict(tool).get("type") == "function" for tool in tools)
    ):
        problem = "is set together with function tools, which this model refuses in a chat completion"
        remedy = 'leave it out, or set it to "none"'
        report.warn("reasoning_effort_with_tools", "$.reasoning_effort", problem, remedy)
