"""Tools across tasks: what a tool's task hands back to the model."""

from __future__ import annotations

import json
from typing import Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.messages import tool_answer
from airflow_chat_provider.core.spelling import with_article


def tool_message(call: Any, result: Any) -> dict[str, Any]:
    """The message that answers one call of ``result_format="tool_calls"``; put it after the conversation so far.

    ``result`` that is no text is sent as JSON. Raises InvalidRequest for what is no call, or no JSON.
    """
    if not (isinstance(call, dict) and "name" in call):
        raise InvalidRequest(
            "Pass one of the calls that result_format='tool_calls' returns: call is not one of them", path="call"
        )
    try:
        content = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest(
            f"Return text or JSON from {call['name']}: its result is {with_article(type(result).__name__)}",
            path="result",
        ) from None
    return tool_answer(call.get("id"), call["name"], content)
