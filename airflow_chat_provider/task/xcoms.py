"""The XComs of a task: the ``configuration`` that it takes from an upstream task, and all that it leaves itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.core.answer.result import Outcome, outcome, output_error
from airflow_chat_provider.core.answer.usage import summary, was_sent
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.task.arguments import XCOMS

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.hooks import ChatCompletionHook
    from airflow_chat_provider.schema import SchemaSource
    from airflow_chat_provider.task.arguments import ChatArguments, Try

# ``outcome`` and what it needs are imported with this module, before a request is sent: once an answer is here, a first
# import may find no file descriptor left.
log = logging.getLogger(__name__)


class Upstream(NamedTuple):
    """What an upstream task left under ``configuration``; empty where the argument is None.

    It stands between the task's own arguments, which win over it, and the connection.
    """

    values: Mapping[str, Any]

    def hook(self, arguments: ChatArguments) -> ChatCompletionHook:
        """The hook for the task's connection, with the task's own limits. Raises InvalidRequest."""
        from airflow_chat_provider.hooks import ChatCompletionHook

        conn_id: Any
        conn_id, given = arguments.chat_conn_id, self.values.get("chat_conn_id")
        if given and conn_id == ChatCompletionHook.default_conn_name:
            conn_id = given
        if not isinstance(conn_id, str) or not conn_id:
            raise InvalidRequest("chat_conn_id must be the id of a connection", path="chat_conn_id", keyword="type")
        return ChatCompletionHook(
            conn_id,
            # Text that a template rendered is read as an extra of the connection is.
            timeout=arguments.timeout,  # type: ignore[arg-type]
            deadline=arguments.deadline,  # type: ignore[arg-type]
            max_attempts=arguments.max_attempts,  # type: ignore[arg-type]
        )

    def schema(self, arguments: ChatArguments, settings: Settings) -> Any:
        """The ``request_schema`` that holds: the task's own if it has one, else the upstream's, else the connection's.

        The upstream's is data, so it is never the path of a file. Raises InvalidRequest.
        """
        if arguments.names_schema:
            from airflow_chat_provider.templates.dag_templates import opened

            return opened(arguments.request_schema, arguments.dag, "request_schema")
        if "request_schema" in self.values:
            from airflow_chat_provider.templates.renderer import schema_from_data

            return schema_from_data(self.values["request_schema"])
        return settings.request_schema

    def with_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request with the upstream's model if it has none."""
        model = self.values.get("model")
        return {**request, "model": model} if model and request.get("model") is None else request

    def downstream(self, request: dict[str, Any], schema: SchemaSource, settings: Settings) -> dict[str, Any]:
        """What this task leaves under ``configuration``, never a secret. A base URL that differs is warned of."""
        from airflow_chat_provider.schema import portable

        base_url = self.values.get("base_url")
        if base_url and base_url != settings.base_url:
            log.warning(
                "The request goes to %s, the base URL of connection %r: the base URL %s in configuration is not used",
                settings.base_url,
                settings.conn_id,
                str(base_url)[:200],
            )
        return {
            "chat_conn_id": settings.conn_id,
            "model": request.get("model"),
            "base_url": settings.base_url,
            "request_schema": portable(schema),
        }


def deliver(task: BaseOperator, this: Try, request: dict[str, Any], reply: Reply) -> Any:
    """Push what a sanitised reply leaves, and return its value. Raises what is wrong with it, once it is pushed.

    Where somebody executes the operator without a running task, nothing is pushed.
    """
    arguments = this.arguments
    ti: Any = this.context.get("ti")
    left = outcome(arguments.delivery(), request, reply, this.configuration, this.replies)
    for warning in left.warnings:
        task.log.warning("%s", warning)
    pushes = arguments.do_xcom_push and ti is not None
    spreads = pushes and arguments.multiple_outputs
    if spreads:
        left = _with_keys(left, reply)
    if pushes and reply.status is not None:
        for key, value in left.xcoms.items():
            ti.xcom_push(key=key, value=value)
    elif pushes and "usage" in left.xcoms:
        _push_usage(ti, left.xcoms["usage"])
    if left.error is not None:
        raise left.error
    if spreads and left.value is not None:
        _spread(task, ti, left.value)
    return left.value


def leave_usage(this: Try, request: dict[str, Any], error: BaseException, rejected: Sequence[str] = ()) -> None:
    """Push what the calls have taken in a task that Airflow ends with ``error``. Never raises."""
    ti: Any = this.context.get("ti")
    if this.arguments.do_xcom_push and ti is not None and was_sent(this.replies):
        _push_usage(ti, summary(this.replies, request, error, rejected))


def _push_usage(ti: Any, usage: dict[str, Any]) -> None:
    """Push the usage of a task that has no answer. Why there is none says more than why this cannot be stored."""
    try:
        ti.xcom_push(key="usage", value=usage)
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("Airflow could not store the XCom 'usage' (%s)", type(error).__name__)


def _with_keys(left: Outcome, reply: Reply) -> Outcome:
    """What is left by a task with ``multiple_outputs``, which fails if the value has no keys."""
    value = left.value
    if value is None or isinstance(value, Mapping):
        return left
    kind = {list: "an array", str: "text", bool: "true or false"}.get(type(value), "a number")
    why = f"Ask for a JSON object, or remove multiple_outputs: the answer is {kind}, which has no keys"
    return left.failed(output_error(reply, why))


def _spread(task: BaseOperator, ti: Any, value: Mapping[Any, Any]) -> None:
    """Keep Airflow, which pushes each key of the value as an XCom, from overwriting an XCom of the task's own."""
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
