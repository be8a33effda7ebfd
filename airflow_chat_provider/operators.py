"""The operators: chat completions as tasks."""

from airflow_chat_provider.batch.operator import ChatCompletionBatchOperator
from airflow_chat_provider.branching import ChatCompletionBranchOperator
from airflow_chat_provider.chat_operator import ChatCompletionOperator

__all__ = ["ChatCompletionBatchOperator", "ChatCompletionBranchOperator", "ChatCompletionOperator"]
