"""TaskFlow: ``@task.chat_completion`` and ``@task.chat_completion_branch``.

Imported from here they have types, which Airflow's own ``task`` cannot know: editors complete their arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, Unpack

from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory

from airflow_chat_provider.arguments import TEMPLATE_FIELDS
from airflow_chat_provider.branching import ChatCompletionBranchOperator
from airflow_chat_provider.chat_operator import ChatCompletionOperator
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.mapping import checked

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator


class Arguments(TypedDict, total=False):
    """Those of ChatCompletionOperator, and the ones of every task that are wanted most."""

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
    chat_conn_id: str
    configuration: Any
    request_schema: Mapping[str, Any] | str | Path | None
    response_schema: Mapping[str, Any] | str | Path | type | None
    output_retries: int
    result_format: Literal["raw", "message", "text", "json", "tool_calls"]
    check_status: bool
    on_incomplete: Literal["warn", "fail", "ignore"]
    push_messages: bool
    timeout: float | str | None
    deadline: float | str | None
    max_attempts: int | str | None
    deferrable: bool
    on_uncertain: Literal["fail", "resend"]
    dry_run: bool


class BranchArguments(Arguments, total=False):
    """Those of ChatCompletionBranchOperator."""

    branches: Mapping[str, Any] | Sequence[str] | None
    choose_by: Literal["enum", "tool"]


class _Asked(DecoratedOperator, ChatCompletionOperator):
    """The function returns a prompt, a list of messages, or a request; none of it is rendered."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *TEMPLATE_FIELDS)
    custom_operator_name = "@task.chat_completion"
    _function_adds = True
    shallow_copy_attrs: Sequence[str] = (*DecoratedOperator.shallow_copy_attrs, "response_schema")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ChatCompletionOperator.template_fields_renderers,
    }

    def _render_request(self, fields: list[str], context: Any, env: Any, seen_oids: set[int]) -> None:
        from airflow_chat_provider import building

        # Not folded into one request yet: the function's part of it is still to come.
        self._built = building.render_fields(self, fields, context, env, seen_oids)

    def _execute(self, context: Context) -> Any:
        from airflow_chat_provider import building

        if self._built is None or self._built.error is None:
            self._adopt(_called(self.python_callable, self.op_args, self.op_kwargs, context))
            self._built = building.build(self)
        return super()._execute(context)

    def _adopt(self, value: Any) -> None:
        """What the function returned, in the place of what the decorator was given."""
        if isinstance(value, str):
            self.prompt = value
        elif isinstance(value, Mapping):
            self.request = {**(self.request or {}), **value} if isinstance(self.request, Mapping | None) else value
        elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
            self.messages = value
        else:
            kind = "None" if value is None else f"a {type(value).__name__}"
            raise InvalidRequest(
                f"The function of task {self.task_id!r} must return a prompt (text), messages (a list) or a request (a "
                f"dict), not {kind}",
                path="request",
                keyword="type",
            )


class _Chosen(_Asked, ChatCompletionBranchOperator):
    custom_operator_name = "@task.chat_completion_branch"


def _called(function: Callable[..., Any], op_args: Any, op_kwargs: Mapping[str, Any], context: Context) -> Any:
    """The function's value, with what it names of the task's context."""
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    bound = {parameter.name for parameter, _ in zip(parameters, op_args, strict=False)}
    named = {parameter.name for parameter in parameters} - bound
    of_context = {name: context[name] for name in context if takes_all or name in named}  # type: ignore[literal-required]
    return function(*op_args, **{**of_context, **op_kwargs})


def chat_completion(python_callable: Callable[..., Any] | None = None, **arguments: Unpack[Arguments]) -> TaskDecorator:
    """A function that returns a prompt, messages or a request, as a chat completion task."""
    return checked(task_decorator_factory(python_callable, decorated_operator_class=_Asked, **arguments))


def chat_completion_branch(
    python_callable: Callable[..., Any] | None = None, **arguments: Unpack[BranchArguments]
) -> TaskDecorator:
    """The same, for a ChatCompletionBranchOperator."""
    return checked(task_decorator_factory(python_callable, decorated_operator_class=_Chosen, **arguments))
