"""How a task leaves its outcome: XComs pushed, warnings logged, the value returned or the error raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.outcome import Delivery, outcome

if TYPE_CHECKING:
    from airflow_chat_provider.core.response import Reply
    from airflow_chat_provider.operators import ChatCompletionOperator


def delivery_of(task: ChatCompletionOperator) -> Delivery:
    return Delivery(task.result_format, task.check_status, task.on_incomplete, task.push_messages)


def deliver(
    task: ChatCompletionOperator, ti: Any, request: dict[str, Any], reply: Reply, configuration: dict[str, Any]
) -> Any:
    """Push what a safe reply leaves, then return or raise."""
    left = outcome(delivery_of(task), request, reply, configuration)
    for warning in left.warnings:
        task.log.warning("%s", warning)
    if task.do_xcom_push:
        for key, value in left.xcoms.items():
            ti.xcom_push(key=key, value=value)
    if left.error is not None:
        raise left.error
    return left.value
