"""The operators. Each is imported when it is used, so that a DAG file pays only for those that it needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_chat_provider.batch.operator import ChatCompletionBatchOperator
    from airflow_chat_provider.task.branch import ChatCompletionBranchOperator
    from airflow_chat_provider.task.chat import ChatCompletionOperator

__all__ = ["ChatCompletionBatchOperator", "ChatCompletionBranchOperator", "ChatCompletionOperator"]

_PLACES = {
    "ChatCompletionBatchOperator": "airflow_chat_provider.batch.operator",
    "ChatCompletionBranchOperator": "airflow_chat_provider.task.branch",
    "ChatCompletionOperator": "airflow_chat_provider.task.chat",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
