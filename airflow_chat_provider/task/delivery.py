"""How an outcome is left: XComs pushed, warnings logged, the value returned or the error raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.answer.outcome import Delivery, outcome
from airflow_chat_provider.core.answer.reply import output_error
from airflow_chat_provider.task.arguments import XCOMS

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.operators import ChatCompletionOperator


def delivery_of(task: ChatCompletionOperator) -> Delivery:
    return Delivery(task.result_format, task.check_status, task.on_incomplete, task.push_messages)


def deliver(
    task: ChatCompletionOperator, ti: Any, request: dict[str, Any], reply: Reply, configuration: dict[str, Any]
) -> Any:
    """In a worker: push what a safe reply leaves, then return or raise."""
    left = outcome(delivery_of(task), request, reply, configuration)
    for warning in left.warnings:
        task.log.warning("%s", warning)
    if task.do_xcom_push and ti is not None:
        for key, value in left.xcoms.items():
            ti.xcom_push(key=key, value=value)
    if left.error is not None:
        raise left.error
    if task.do_xcom_push and getattr(task, "multiple_outputs", False) and left.value is not None:
        _spread(task, ti, left.value, reply)
    return left.value


def _spread(task: ChatCompletionOperator, ti: Any, value: Any, reply: Reply) -> None:
    """See to it that Airflow, which pushes each key of the value by itself, overwrites no XCom of the task's own."""
    if not isinstance(value, Mapping):
        kind = {list: "an array", str: "a text", bool: "true or false"}.get(type(value), "a number")
        why = f"Ask for a JSON object, or leave multiple_outputs out: the answer is {kind}, which has no keys"
        raise output_error(reply, why)
    taken = [key for key in value if key in XCOMS]
    if not taken:
        return
    task.log.warning(
        "Read return_value[%r], or name the answer's keys in a response_schema: the task has an XCom %r of its own, "
        "which is kept",
        taken[0],
        taken[0],
    )
    for key, item in value.items():
        if key not in XCOMS:
            ti.xcom_push(key=key, value=item)
    task.multiple_outputs = False
