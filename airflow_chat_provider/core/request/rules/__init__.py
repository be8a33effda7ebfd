"""The rules of a chat completion request that its JSON Schema cannot state.

They run after the schema, or without one if a request is sent unchecked. Each rule reads the shapes that it understands
and ignores all others, so that a malformed request never causes another error than ``InvalidRequest``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

Mode = Literal["checked", "open", "unchecked"]

# Which parameters a theme's rules begin with: a request without any of them cannot break one. Every other parameter
# of the API's is judged by its schema alone.
_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"})
_ANSWER = frozenset({"response_format", "modalities", "audio", "prediction"})
_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})
_SAMPLING = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"}
)
_PARAMETERS = frozenset({"stream_options", "n", "stop", "metadata", *_ANSWER, *_LIMITS, *_SAMPLING})
_REASONING = frozenset({"reasoning_effort", "tools", *_LIMITS, *_SAMPLING})
_WITHOUT_RULES = frozenset({"model", "messages", "stream", "seed", "user", "store", "verbosity", "service_tier"})

_SPEAKERS = ("user", "assistant", "system")


def check_rules(
    request: Mapping[str, object],
    *,
    base_url: str | None = None,
    known: Collection[str] | None = None,
    mode: Mode = "checked",
) -> list[str]:
    """Raise ``InvalidRequest`` for the first broken rule; return the warnings, one sentence for each rule.

    ``base_url`` decides what is an error and what is a warning: OpenAI refuses much that others take. Without it, the
    server counts as one that is not OpenAI. ``known``: top-level names that the schema allows besides the API's.
    ``mode``: "open" turns every error into a warning; "unchecked" checks nothing.
    """
    if mode == "unchecked" or (request.keys() <= _WITHOUT_RULES and _is_plain_talk(request.get("messages"))):
        return []
    # Most requests that are parsed with a DAG end above; the rules themselves take longer to load.
    from airflow_chat_provider.core.request.rules import conversation, names, parameters, reasoning, tools
    from airflow_chat_provider.core.request.rules.report import Report
    from airflow_chat_provider.core.servers import server_at

    report = Report(server_at(base_url), is_open=mode == "open")
    names.check(request, report, known or ())
    conversation.check(request, report)
    for keys, theme in ((_TOOLS, tools), (_PARAMETERS, parameters), (_REASONING, reasoning)):
        if not keys.isdisjoint(request.keys()):
            theme.check(request, report)
    return report.warnings()


def _is_plain_talk(messages: object) -> bool:
    """Is each message only a role and a text, and the last not the assistant's? Such a conversation breaks no rule."""
    if not isinstance(messages, list) or not messages:
        return False
    for message in messages:
        if not isinstance(message, dict) or len(message) != 2 or message.get("role") not in _SPEAKERS:
            return False
        content = message.get("content")
        if not isinstance(content, str) or not content:
            return False
    return bool(messages[-1]["role"] != "assistant")
