"""TaskFlow: ``@task.chat_completion`` and ``@task.chat_completion_branch``.

Imported from here they have types, which Airflow's own ``task`` cannot know: editors complete their arguments.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, Unpack, cast

from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.task.arguments import TEMPLATE_FIELDS
from airflow_chat_provider.task.branch import ChatCompletionBranchOperator
from airflow_chat_provider.task.chat import ChatCompletionOperator
from airflow_chat_provider.task.mapping import checked

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

    from airflow_chat_provider.task.arguments import OnIncomplete, OnUncertain, ResultFormat, SchemaArgument


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
    chat_conn_id: str
    configuration: Any
    request_schema: SchemaArgument
    response_schema: SchemaArgument | type
    output_retries: int
    result_format: ResultFormat
    check_status: bool
    on_incomplete: OnIncomplete
    push_messages: bool
    timeout: float | str | None
    deadline: float | str | None
    max_attempts: int | str | None
    deferrable: bool
    on_uncertain: OnUncertain
    dry_run: bool


class BranchArguments(Arguments, total=False):
    """The arguments of ``@task.chat_completion_branch``."""

    branches: Mapping[str, Any] | Sequence[str] | None
    choose_by: Literal["enum", "tool"]


class _Asked(DecoratedOperator, ChatCompletionOperator):
    """The function returns a prompt, a list of messages, or a request; none of it is rendered. It may be ``async``."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *TEMPLATE_FIELDS)
    custom_operator_name = "@task.chat_completion"
    _function_adds = True
    shallow_copy_attrs: Sequence[str] = (*DecoratedOperator.shallow_copy_attrs, "response_schema")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ChatCompletionOperator.template_fields_renderers,
    }

    _function_error: InvalidRequest | None = None
    """Why the function's arguments cannot be had."""

    def _render_request(self, fields: list[str], context: Any, env: Any, data: frozenset[str]) -> InvalidRequest | None:
        from airflow_chat_provider.task import rendering

        # Not folded into one request yet: the function's part of it is still to come.
        self._arguments = rendering.RenderedRequest.render(self, fields, context, env, data)
        return self._function_error or self._arguments.error

    def _render_other(self, name: str, context: Any, env: Any) -> None:
        if name not in DecoratedOperator.template_fields:
            super()._render_other(name, context, env)
            return
        from airflow_chat_provider.task.function_arguments import rendered

        try:
            setattr(self, name, rendered(self, name, context, env))
        except InvalidRequest as error:
            self._function_error = self._function_error or error

    def _built(self, context: Context) -> dict[str, Any]:
        if self._function_error is not None:
            raise self._function_error
        arguments = self._current_arguments()
        template = arguments.template()
        value = _called(self.python_callable, self.op_args, self.op_kwargs, context)
        return arguments.filled(template.replaced(self._adopt(value, template.value("request"))))

    def _adopt(self, value: Any, request: Any) -> dict[str, Any]:
        """What the function returned, in the place of what the decorator was given."""
        if isinstance(value, str):
            self.prompt = value
            return {"prompt": value}
        if isinstance(value, Mapping):
            self.request = {**(request or {}), **value} if isinstance(request, Mapping | None) else value
            return {"request": self.request}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            name = "prompt" if value and all(map(_is_part, value)) else "messages"
            setattr(self, name, value)
            return {name: value}
        raise InvalidRequest(
            f"The function of task {self.task_id!r} must return a prompt (text, or a list of parts), messages (a list) "
            f"or a request (a dict), not {_kind(value)}{_hint(value)}",
            path="request",
            keyword="type",
        )


class _Chosen(_Asked, ChatCompletionBranchOperator):
    custom_operator_name = "@task.chat_completion_branch"


def _called(function: Callable[..., Any], op_args: Any, op_kwargs: Mapping[str, Any], context: Context) -> Any:
    """The function's value, with what it names of the task's context; awaited where it is to be."""
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    bound = {parameter.name for parameter, _ in zip(parameters, op_args, strict=False)}
    named = {parameter.name for parameter in parameters} - bound
    of_context = {name: context[name] for name in context if takes_all or name in named}  # type: ignore[literal-required]
    value = function(*op_args, **{**of_context, **op_kwargs})
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def _is_part(value: Any) -> bool:
    """Is it a part of a message's content, and not a message?"""
    return isinstance(value, Mapping) and "type" in value and "role" not in value


def _kind(value: Any) -> str:
    from airflow_chat_provider.core.request.wording import with_article

    if value is None:
        return "NoneType"
    return with_article("async generator" if inspect.isasyncgen(value) else type(value).__name__)


def _hint(value: Any) -> str:
    """How to make of it what is due."""
    if isinstance(value, bytes | bytearray):
        return "; decode it: value.decode()"
    if isinstance(value, Iterator | AsyncIterator | AbstractSet):
        return '; join its texts, "\\n".join(...), or make a list of its messages'
    if is_dataclass(value):
        return "; make a dict of it: dataclasses.asdict(value)"
    if callable(getattr(value, "model_dump", None)):
        return "; make a dict of it: value.model_dump()"
    return ""


def _decorator(
    operator: type[_Asked], function: Callable[..., Any] | None, arguments: Mapping[str, Any]
) -> TaskDecorator:
    # Never inferred: the function's annotation tells of the request, multiple_outputs of the answer.
    given = {**arguments, "multiple_outputs": arguments.get("multiple_outputs") or False}

    def decorate(function: Callable[..., Any]) -> Any:
        _check_function(function)
        return checked(task_decorator_factory(function, decorated_operator_class=operator, **given))

    return cast("TaskDecorator", decorate if function is None else decorate(function))


def _check_function(function: Any) -> None:
    """One that yields could never be asked for: its task would fail in each run."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidRequest(
            f"Let {getattr(function, '__name__', 'the function')!r} return instead of yield: a prompt (text, or a list "
            "of parts), messages (a list) or a request (a dict)",
            path="request",
            keyword="type",
        )


def chat_completion(python_callable: Callable[..., Any] | None = None, **arguments: Unpack[Arguments]) -> TaskDecorator:
    """A function that returns a prompt, messages or a request, as a chat completion task. It may be ``async``."""
    return _decorator(_Asked, python_callable, arguments)


def chat_completion_branch(
    python_callable: Callable[..., Any] | None = None, **arguments: Unpack[BranchArguments]
) -> TaskDecorator:
    """The same, for a ChatCompletionBranchOperator."""
    return _decorator(_Chosen, python_callable, arguments)
