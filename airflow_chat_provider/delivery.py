"""What a task leaves behind: its XComs, its return value, or the error in the reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.errors import StatusError
from airflow_chat_provider.core.response import conversation_message, incomplete, incomplete_error, result
from airflow_chat_provider.core.sanitize import sanitize

if TYPE_CHECKING:
    from airflow_chat_provider.core.response import Reply
    from airflow_chat_provider.operators import ChatCompletionOperator


def deliver(
    task: ChatCompletionOperator, ti: Any, request: dict[str, Any], reply: Reply, configuration: dict[str, Any]
) -> Any:
    """Push a safe reply, then return or raise: what was received and paid for is kept, whatever is wrong with it."""
    if reply.changes:
        task.log.warning("The reply was changed so that XCom can keep it: %s", "; ".join(reply.changes))
    if reply.status is not None:
        _push(task, ti, body=reply.body, status=reply.status)
    if reply.error is not None and (task.check_status or not isinstance(reply.error, StatusError)):
        raise reply.error
    _push(task, ti, configuration=sanitize(configuration)[0])
    if reply.error is not None:
        return result(reply, "raw") if task.result_format == "raw" else None
    if task.push_messages:
        conversation = [*request["messages"], conversation_message(reply.message)]
        _push(task, ti, messages=sanitize(conversation)[0])  # a prompt may hold what XCom cannot, too
    _check_complete(task, reply)
    value = result(reply, task.result_format, request)
    return sanitize(value)[0] if task.result_format in ("json", "tool_calls") else value


def _check_complete(task: ChatCompletionOperator, reply: Reply) -> None:
    reason = None if task.on_incomplete == "ignore" else incomplete(reply.body)
    if reason is None:
        return
    if task.on_incomplete == "fail":
        raise incomplete_error(reply, reason)
    task.log.warning("Raise the token limit or change the prompt: %s", reason)


def _push(task: ChatCompletionOperator, ti: Any, **values: Any) -> None:
    if task.do_xcom_push:
        for key, value in values.items():
            ti.xcom_push(key=key, value=value)
