"""How a worker leaves an outcome: XComs pushed, warnings logged, then the value returned or the error raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.answer.outcome import outcome
from airflow_chat_provider.core.answer.reply import output_error
from airflow_chat_provider.task.arguments import XCOMS

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.task.arguments import ChatArguments


def deliver(
    task: BaseOperator,
    arguments: ChatArguments,
    ti: Any,
    request: dict[str, Any],
    reply: Reply,
    configuration: dict[str, Any],
) -> Any:
    """Push what a sanitised reply leaves, and return its value. Raises what is wrong with it, once it is pushed.

    ``ti`` is None where somebody executes the operator without a running task: then nothing is pushed.
    """
    left = outcome(arguments.delivery(), request, reply, configuration)
    for warning in left.warnings:
        task.log.warning("%s", warning)
    pushes = arguments.do_xcom_push and ti is not None
    if pushes:
        for key, value in left.xcoms.items():
            ti.xcom_push(key=key, value=value)
    if left.error is not None:
        raise left.error
    if pushes and arguments.multiple_outputs and left.value is not None:
        _spread(task, ti, left.value, reply)
    return left.value


def _spread(task: BaseOperator, ti: Any, value: Any, reply: Reply) -> None:
    """Keep Airflow, which pushes each key of the value as an XCom, from overwriting an XCom of the task's own."""
    if not isinstance(value, Mapping):
        kind = {list: "an array", str: "text", bool: "true or false"}.get(type(value), "a number")
        why = f"Ask for a JSON object, or remove multiple_outputs: the answer is {kind}, which has no keys"
        raise output_error(reply, why)
    taken = [key for key in value if key in XCOMS]
    if not taken:
        return
    task.log.warning(
        "Read return_value[%r], or ask for another key in a response_schema: the XCom %r is the task's own and is kept",
        taken[0],
        taken[0],
    )
    for key, item in value.items():
        if key not in XCOMS:
            ti.xcom_push(key=key, value=item)
    task.multiple_outputs = False
