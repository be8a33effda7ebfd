"""TaskFlow: ``@task.chat_completion`` and ``@task.chat_completion_branch``.

Imported from here they are typed, so that editors complete their arguments. Airflow's own ``task`` cannot know them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, cast

from airflow.sdk.bases.decorator import task_decorator_factory

from airflow_chat_provider.task.mapping import checked
from airflow_chat_provider.task.taskflow import (
    ChatCompletionBranchDecoratedOperator,
    ChatCompletionDecoratedOperator,
    check_function,
)

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk.bases.decorator import TaskDecorator

    from airflow_chat_provider.core.types import OnIncomplete, ResultFormat
    from airflow_chat_provider.task.arguments import OnUncertain, OutputArgument, SchemaArgument


class Arguments(TypedDict, total=False):
    """The arguments of ``@task.chat_completion``: ChatCompletionOperator's, and BaseOperator's most used ones."""

    task_id: str
    multiple_outputs: bool
    owner: str
    doc_md: str | None
    retries: int
    retry_delay: timedelta | float
    retry_exponential_backoff: bool | float
    max_retry_delay: timedelta | float | None
    retry_policy: Any
    execution_timeout: timedelta | None
    trigger_rule: str
    depends_on_past: bool
    do_xcom_push: bool
    pool: str
    pool_slots: int
    priority_weight: int
    queue: str
    executor: str | None
    executor_config: dict[str, Any]
    max_active_tis_per_dag: int | None
    max_active_tis_per_dagrun: int | None
    map_index_template: str | None
    on_failure_callback: Any
    on_retry_callback: Any
    on_success_callback: Any
    inlets: Any
    outlets: Any
    request: Mapping[str, Any] | str | None
    messages: Sequence[Any] | str | None
    model: str | None
    prompt: Any
    system_prompt: Any
    attachments: Any
    max_attachment_bytes: int
    chat_conn_id: str
    configuration: Any
    request_schema: SchemaArgument
    response_schema: OutputArgument
    output_retries: int
    result_format: ResultFormat
    check_status: bool
    on_incomplete: OnIncomplete
    push_messages: bool
    timeout: float | str | None
    deadline: float | str | None
    max_attempts: int | str | None
    max_total_tokens: int | str | None
    max_cost: float | str | None
    deferrable: bool
    on_uncertain: OnUncertain
    dry_run: bool


class BranchArguments(Arguments, total=False):
    """The arguments of ``@task.chat_completion_branch``."""

    branches: Mapping[str, Any] | Sequence[str] | None
    choose_by: Literal["enum", "tool"]


def _decorator(
    operator: type[ChatCompletionDecoratedOperator], function: Callable[..., Any] | None, arguments: Mapping[str, Any]
) -> TaskDecorator:
    # Airflow would infer multiple_outputs from the function's annotation, which describes the request, not the answer.
    given = {**arguments, "multiple_outputs": arguments.get("multiple_outputs") or False}

    def decorate(function: Callable[..., Any]) -> Any:
        check_function(function)
        return checked(task_decorator_factory(function, decorated_operator_class=operator, **given))

    return cast("TaskDecorator", decorate if function is None else decorate(function))


def chat_completion(python_callable: Callable[..., Any] | None = None, **arguments: Unpack[Arguments]) -> TaskDecorator:
    """Make a task of a function that returns a prompt, messages or a request. The function may be ``async``."""
    return _decorator(ChatCompletionDecoratedOperator, python_callable, arguments)


def chat_completion_branch(
    python_callable: Callable[..., Any] | None = None, **arguments: Unpack[BranchArguments]
) -> TaskDecorator:
    """Make a branch of such a function: the model picks which tasks run next."""
    return _decorator(ChatCompletionBranchDecoratedOperator, python_callable, arguments)
