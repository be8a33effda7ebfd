"""The operators under the decorators: a Python function adds to the request when the task runs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.task.arguments import TEMPLATE_FIELDS
from airflow_chat_provider.task.branch import ChatCompletionBranchOperator
from airflow_chat_provider.task.chat import ChatCompletionOperator

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

_WHAT_TO_RETURN = "a prompt (text, or a list of parts), messages (a list) or a request (a dict)"


class ChatCompletionDecoratedOperator(DecoratedOperator, ChatCompletionOperator):
    """The function returns a prompt, a list of messages, or a request, which is never rendered. It may be ``async``."""

    __module__ = "airflow_chat_provider.decorators"
    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *TEMPLATE_FIELDS)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ChatCompletionOperator.template_fields_renderers,
    }
    # Airflow deep-copies the arguments of a decorated operator; a copy of a Pydantic class would be useless.
    shallow_copy_attrs: Sequence[str] = (*DecoratedOperator.shallow_copy_attrs, "response_schema")
    custom_operator_name = "@task.chat_completion"
    _function_adds = True

    _function_error: InvalidRequest | None = None
    """Why the arguments of the function could not be rendered: raised when the task executes."""

    def _render_request(
        self, fields: list[str], context: Any, env: jinja2.Environment, data: frozenset[str]
    ) -> InvalidRequest | None:
        from airflow_chat_provider.task import rendering

        # The arguments are not shown as one request yet: what the function returns is still missing.
        self._rendered = rendering.RenderedRequest.render(self, fields, context, env, data)
        return self._function_error or self._rendered.error

    def _render_other(self, name: str, context: Any, env: jinja2.Environment) -> None:
        if name not in DecoratedOperator.template_fields:
            super()._render_other(name, context, env)
            return
        try:
            setattr(self, name, self._rendered_for_function(name, context, env))
        except InvalidRequest as error:
            self._function_error = self._function_error or error

    def _rendered_for_function(self, name: str, context: Any, env: jinja2.Environment) -> Any:
        """``op_args`` or ``op_kwargs``: what the DAG's author wrote is rendered as Airflow does, data is not.

        Raises InvalidRequest, which names the argument.
        """
        from airflow_chat_provider.task.mapped import function_arguments_from_upstream
        from airflow_chat_provider.templates.failures import failing_at, naming_what_is_missing

        given: Any = getattr(self, name)
        named: Any = naming_what_is_missing(context)

        def rendered(value: Any, where: str) -> Any:
            with failing_at(where, str(value)):
                return self.render_template(value, named, env, set())

        if isinstance(given, Mapping):
            data = function_arguments_from_upstream(self, self.given_by_mapping, context)
            return {key: value if key in data else rendered(value, f"{name}.{key}") for key, value in given.items()}
        values = [rendered(value, f"{name}[{index}]") for index, value in enumerate(given)]
        return tuple(values) if isinstance(given, tuple) else values

    def _built(self, context: Context) -> dict[str, Any]:
        if self._function_error is not None:
            raise self._function_error
        fields = self._rendered_fields()
        template = fields.template()
        value = _called(self.python_callable, self.op_args, self.op_kwargs, context)
        return fields.filled(template.replaced(self._adopt(value, template.value("request"))))

    def _adopt(self, value: Any, request: Any) -> dict[str, Any]:
        """Put what the function returned in place of the decorator's argument; that argument, by its name."""
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
            f"The function of task {self.task_id!r} must return {_WHAT_TO_RETURN}, not {_kind(value)}{_hint(value)}",
            path="request",
            keyword="type",
        )


class ChatCompletionBranchDecoratedOperator(ChatCompletionDecoratedOperator, ChatCompletionBranchOperator):
    """The same for a branch."""

    __module__ = "airflow_chat_provider.decorators"
    custom_operator_name = "@task.chat_completion_branch"


def check_function(function: Callable[..., Any]) -> None:
    """Refuse a generator when the DAG is parsed: its task would fail in every run. Raises InvalidRequest."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidRequest(
            f"Let {getattr(function, '__name__', 'the function')!r} return {_WHAT_TO_RETURN} instead of yielding",
            path="request",
            keyword="type",
        )


def _called(function: Callable[..., Any], op_args: Any, op_kwargs: Mapping[str, Any], context: Context) -> Any:
    """What the function returns. It gets its arguments, and those values of the task's context that it names."""
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    bound = {parameter.name for parameter, _ in zip(parameters, op_args, strict=False)}
    named = {parameter.name for parameter in parameters} - bound
    from_context = {name: context[name] for name in context if takes_all or name in named}  # type: ignore[literal-required]
    value = function(*op_args, **{**from_context, **op_kwargs})
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def _is_part(value: Any) -> bool:
    """Is it a part of a message's content, rather than a message?"""
    return isinstance(value, Mapping) and "type" in value and "role" not in value


def _kind(value: Any) -> str:
    from airflow_chat_provider.core.spelling import with_article

    if value is None:
        return "None"
    return with_article("async generator" if inspect.isasyncgen(value) else type(value).__name__)


def _hint(value: Any) -> str:
    """How to turn the value into something that a function may return; empty where there is no obvious way."""
    if isinstance(value, bytes | bytearray):
        return "; decode it: value.decode()"
    if isinstance(value, Iterator | AsyncIterator | AbstractSet):
        return '; join its texts, "\\n".join(...), or make a list of its messages'
    if is_dataclass(value):
        return "; make it a dict: dataclasses.asdict(value)"
    if callable(getattr(value, "model_dump", None)):
        return "; make it a dict: value.model_dump()"
    return ""
