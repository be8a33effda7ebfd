"""The rules of a chat completion request that its JSON Schema cannot state.

They run after the schema, or without it where a request is sent unchecked: each reads what it understands
and passes over every other shape, so that a malformed request is never more than an ``InvalidRequest``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from airflow_chat_provider.core.request.rules.names import check_names

__all__ = ["check_names", "check_rules"]


Mode = Literal["checked", "open", "unchecked"]


def check_rules(
    request: Mapping[str, Any],
    *,
    base_url: str | None = None,
    known: Collection[str] | None = None,
    mode: Mode = "checked",
) -> list[str]:
    """Raise ``InvalidRequest`` for the first broken rule; return the warnings, one sentence for each rule.

    ``base_url`` decides what is an error and what is a warning: OpenAI refuses much that others take. Without
    it the server counts as one that is not OpenAI. ``known``: top-level names allowed besides the API's.
    ``mode``: "open" leaves only what no server takes an error, and makes a warning of the rest; "unchecked"
    checks nothing.
    """
    if mode == "unchecked":
        return []
    # Names are checked wherever a DAG is parsed; the rest, which takes longer to load, only where a task runs.
    from airflow_chat_provider.core.request.rules import (
        conversation,
        names,
        parameters,
        reasoning,
        response_format,
        tools,
    )
    from airflow_chat_provider.core.request.rules.report import Report
    from airflow_chat_provider.core.servers import server_at

    if mode == "checked":
        check_names(request, known=known)
    report = Report(server_at(base_url), is_open=mode == "open")
    names.check_unknown(request, report, known)
    for theme in (conversation, tools, response_format, parameters, reasoning):
        theme.check(request, report)
    return report.warnings()
