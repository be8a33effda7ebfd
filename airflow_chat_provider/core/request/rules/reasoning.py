"""Rules of OpenAI's reasoning models. They are recognised by their names only, so all of these are warnings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_chat_provider.core.request.rules.report import Report, as_dict, as_list, unsure
from airflow_chat_provider.core.servers import server_at

# o1, o3-mini, gpt-5, gpt-5.4-mini, gpt-6-astra, and these fine-tuned. Not gpt-4o, not gpt-oss, not what Azure
# calls gpt-35-turbo; gpt-5-chat is a plain model, its successors are not.
_REASONING = r"(?i)(?:ft:)?(?:o[1-9]|gpt-(?P<major>[5-9]|[12][0-9])(?:\.(?P<minor>[0-9]{1,2}))?)(?![0-9a-z])"
_PLAIN = r"(?i)(?:ft:)?gpt-5-chat"
# "Function tools with reasoning_effort are not supported": gpt-5.2 and 5.4 refuse an effort that is set
# (livekit/agents#5088, openai/openai-openapi#541); gpt-5.6 (BerriAI/litellm#34569) and gpt-6 (can1357/oh-my-pi#11052,
# on Azure) one that is left out as well. gpt-5.5 reasons if nothing is said, too, and has taken tools so.
_NOT_BESIDE_TOOLS = (5, 2)
_REASONS_BY_ITSELF = (5, 5)
_NONE_ONLY = (5, 6)
_DEFAULTS = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False}


def check(request: Mapping[str, Any], report: Report) -> None:
    version = _version(request, report)
    if version is None:
        return
    if request.get("max_tokens") is not None:
        problem = "is refused by reasoning models"
        report.warn("reasoning_max_tokens", "$.max_tokens", problem, "use max_completion_tokens")
    # Without any effort these models sample like the older ones.
    if request.get("reasoning_effort") != "none":
        for key in _sampling(request):
            problem = "is not the default, and reasoning models take no other value"
            report.warn("reasoning_sampling", f"$.{key}", problem, "leave it out")
    _check_effort(request, version, report)


def _version(request: Mapping[str, Any], report: Report) -> tuple[int, int] | None:
    """The version of an OpenAI reasoning model; (0, 0) for one of the o series, None for any other model."""
    # Elsewhere such a name belongs to a gateway, which translates the parameters, or to a model that is only
    # called so. Where no server is known the name is the best there is.
    if report.server.known and not report.server.openai:
        return None
    model = request.get("model")
    name = model[:200].rsplit("/", 1)[-1] if isinstance(model, str) else ""
    found = re.match(_REASONING, name)
    if found is None or re.match(_PLAIN, name):
        return None
    return int(found["major"] or 0), int(found["minor"] or 0)


def _sampling(request: Mapping[str, Any]) -> Iterator[str]:
    for key, default in _DEFAULTS.items():
        if request.get(key) is not None and request[key] != default:
            yield key
    for key in ("top_logprobs", "logit_bias"):
        if request.get(key):
            yield key


def _check_effort(request: Mapping[str, Any], version: tuple[int, int], report: Report) -> None:
    """OpenAI's models from 5.2 on refuse function tools beside an effort other than "none"."""
    effort = request.get("reasoning_effort")
    if version < _NOT_BESIDE_TOOLS or effort == "none" or unsure(effort) or not _has_function_tools(request):
        return
    path = "$.reasoning_effort"
    only_none = 'set it to "none": with any other effort, this model refuses function tools in a chat completion'
    if effort is not None:
        problem = "is set together with function tools, which this model refuses in a chat completion"
        sure = 'set it to "none"' if version < _NONE_ONLY else only_none
        remedy = f"leave it out, or {sure}" if version < _REASONS_BY_ITSELF else sure
        report.warn("reasoning_effort_with_tools", path, problem, remedy)
    elif version >= _NONE_ONLY:
        report.warn("reasoning_effort_with_tools", path, "is not set, and there are function tools", only_none)


def _has_function_tools(request: Mapping[str, Any]) -> bool:
    return any(as_dict(tool).get("type") == "function" for tool in as_list(request.get("tools")))


def effort_for_tools(request: dict[str, Any], base_url: str) -> tuple[dict[str, Any], list[str]]:
    """A request whose function tools the operator added, with an effort that its model accepts; and warnings.

    An effort that the user has set is kept.
    """
    report = Report(server_at(base_url))
    version = _version(request, report)
    if version is None or not report.server.openai:
        return request, []
    if version >= _NONE_ONLY and request.get("reasoning_effort") is None and _has_function_tools(request):
        said = '$.reasoning_effort is set to "none": OpenAI refuses function tools for this model with any other.'
        return {**request, "reasoning_effort": "none"}, [said]
    _check_effort(request, version, report)
    return request, report.warnings()
