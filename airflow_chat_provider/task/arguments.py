"""The arguments of the operators: their names and types, what each may be, and the values that one task runs with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.attachments import MAX_BYTES, NO_ATTACHMENTS, Attachments, paths_of
from airflow_chat_provider.task import argument_kinds
from airflow_chat_provider.task.argument_kinds import Kind, choice, switch, text
from airflow_chat_provider.templates.dag_templates import (
    IsTemplate,
    dag_of,
    holds_template,
    markers,
    output_schema,
)

if TYPE_CHECKING:
    from airflow.sdk import DAG, BaseOperator, Context

    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.answer.result import Delivery
    from airflow_chat_provider.core.types import OnIncomplete, ResultFormat
    from airflow_chat_provider.durable.account import Account
    from airflow_chat_provider.durable.ledger import Ledger

OnUncertain: TypeAlias = Literal["fail", "resend"]
SchemaArgument: TypeAlias = "Mapping[str, Any] | str | os.PathLike[str] | None"
OutputArgument: TypeAlias = Any
"""SchemaArgument, or a type: what ``A | B`` and a ``TypeAdapter`` are, no annotation says before Python 3.15."""

REQUEST_FIELDS = ("request", "messages", "model", "prompt", "system_prompt")
_LIMITS = ("timeout", "deadline", "max_attempts")
BUDGET = ("max_total_tokens", "max_cost")
TEMPLATE_FIELDS = (
    *REQUEST_FIELDS,
    *("attachments", "chat_conn_id", "configuration", "request_schema"),
    *_LIMITS,
    *BUDGET,
)
_PACE = ("max_concurrency", "requests_per_minute", "tokens_per_minute")
BATCH_FIELDS = ("input", "output_path", "shard", *_PACE, "max_failures", "reuse")
ATTRIBUTES = {"output": "output_path", "dry_run": "_dry_run"}
"""Arguments that a task keeps under another name, because BaseOperator has an attribute of the argument's name."""
ARGUMENT_OF = {attribute: name for name, attribute in ATTRIBUTES.items()}
"""The argument of an attribute, where they have different names."""
XCOMS = ("body", "status", "configuration", "usage", "messages", "arguments", "return_value")
"""The keys of the XComs that a task leaves."""
_TEMPLATED = {*TEMPLATE_FIELDS, *BATCH_FIELDS}


class ChatArguments(NamedTuple):
    """What a task was told to do, but for the request itself; read from the task once its templates are rendered.

    It travels from ``execute()`` to whatever needs an argument, so that nothing below an operator reads attributes of
    a task. Where an operator lacks an argument (the batch operator has no ``check_status``), the default stands.
    """

    task_id: str
    dag: DAG | None = None
    """Where the paths of files are looked up; None for a task outside a DAG."""
    chat_conn_id: str = "chat_default"
    configuration: Any = None
    request_schema: SchemaArgument = None
    names_schema: bool = False
    """True where the DAG's author gave ``request_schema``, even if it equals the default."""
    response_schema: OutputArgument = None
    output_retries: int = 1
    result_format: ResultFormat = "raw"
    check_status: bool = True
    on_incomplete: OnIncomplete = "warn"
    push_messages: bool = True
    timeout: float | str | None = None
    deadline: float | str | None = None
    max_attempts: int | str | None = None
    deferrable: bool = False
    on_uncertain: OnUncertain = "fail"
    dry_run: bool = False
    multiple_outputs: bool = False
    do_xcom_push: bool = True
    attachments: Any = None
    max_attachment_bytes: int = MAX_BYTES
    max_total_tokens: int | str | None = None
    max_cost: float | str | None = None

    @classmethod
    def from_task(cls, task: BaseOperator) -> ChatArguments:
        """The arguments as they are now: ``pre_execute`` or a subclass's ``execute()`` may have set some."""
        given = {field: getattr(task, attribute) for field, attribute in _SOURCES if hasattr(task, attribute)}
        return cls(dag=dag_of(task), **given)

    def wanted(self) -> Wanted:
        """What an answer has to be. Raises InvalidRequest for a ``response_schema`` that cannot be read."""
        from airflow_chat_provider.core.answer.dialogue import Wanted

        schema = output_schema(self.response_schema, self.dag)
        return Wanted(schema, self.result_format == "tool_calls", self.output_retries, self.result_format)

    def files(self) -> Attachments:
        """The files that go out with the request. Raises InvalidRequest for what is no path."""
        if self.attachments is None:
            return NO_ATTACHMENTS
        return Attachments(tuple(paths_of(self.attachments)), self.max_attachment_bytes)

    def delivery(self) -> Delivery:
        """How the answer is to be left."""
        from airflow_chat_provider.core.answer.result import Delivery

        return Delivery(self.result_format, self.check_status, self.on_incomplete, self.push_messages)


_SOURCES = [(name, ATTRIBUTES.get(name, name)) for name in ChatArguments._fields if name != "dag"]
"""Each field of ChatArguments but ``dag``, with the attribute of a task that it is read from."""


class Try(NamedTuple):
    """What one try of a task goes by once its request is proved, in ``execute()`` and after a deferral."""

    context: Context
    arguments: ChatArguments
    ledger: Ledger
    configuration: dict[str, Any]
    """What the task leaves under ``configuration``."""
    replies: list[Reply]
    """Those of all calls so far, oldest first, with the answers that an earlier try received."""
    attachments: Attachments = NO_ATTACHMENTS
    account: Account | None = None
    """What the task instance has spent of its limits; None if it has none."""


_SWITCH = Kind(switch, allowed=(True, False))
ARGUMENTS: dict[str, Kind] = {
    "request": Kind(argument_kinds.request, optional=True),
    "messages": Kind(argument_kinds.messages, optional=True),
    "model": Kind(text, optional=True),
    "prompt": Kind(argument_kinds.anything, optional=True),
    "system_prompt": Kind(argument_kinds.anything, optional=True),
    "attachments": Kind(argument_kinds.attachments, optional=True),
    "max_attachment_bytes": Kind(argument_kinds.size),
    "chat_conn_id": Kind(argument_kinds.conn_id),
    "configuration": Kind(argument_kinds.configuration, optional=True),
    "request_schema": Kind(argument_kinds.request_schema, optional=True),
    "response_schema": Kind(argument_kinds.response_schema, optional=True),
    "output_retries": Kind(argument_kinds.retries),
    "result_format": choice("raw", "message", "text", "json", "tool_calls"),
    "check_status": _SWITCH,
    "on_incomplete": choice("warn", "fail", "ignore"),
    "push_messages": _SWITCH,
    **dict.fromkeys((*_LIMITS, *BUDGET), Kind(argument_kinds.limit, optional=True)),
    "deferrable": _SWITCH,
    "on_uncertain": choice("fail", "resend"),
    "dry_run": _SWITCH,
    "branches": Kind(argument_kinds.branches, optional=True),
    "choose_by": choice("enum", "tool"),
}


def check_values(
    arguments: Mapping[str, Any], table: Mapping[str, Kind], options: Mapping[str, Any] | None = None
) -> None:
    """Check each argument by itself, unless it is a template. Raises InvalidRequest.

    :param options: the ``jinja_environment_kwargs`` of the DAG
    """
    is_template = markers(options)
    # If lines may be statements, any text may be a template. That says nothing about an argument that takes none.
    has_marks = markers({name: value for name, value in (options or {}).items() if not name.startswith("line_")})
    for name, kind in table.items():
        if name not in arguments:
            continue
        value = arguments[name]
        if ATTRIBUTES.get(name, name) not in _TEMPLATED:
            _check_no_template(name, value, has_marks)
        elif is_template(value):
            continue
        kind.judge(name, value)


def check_filled(arguments: Mapping[str, Any], table: Mapping[str, Kind]) -> None:
    """Check each argument by itself, but those of the request. Raises InvalidRequest."""
    for name, kind in table.items():
        if name in arguments and name not in REQUEST_FIELDS:
            kind.judge(name, arguments[name])


def arguments_of(task: BaseOperator) -> dict[str, Any]:
    """A task's attributes by the names of its arguments."""
    given = dict(vars(task))
    for attribute, name in ARGUMENT_OF.items():
        if attribute in given:
            given[name] = given.pop(attribute)
    return given


def _is_type(value: object) -> bool:
    from airflow_chat_provider.core.answer.model_types import is_type

    return is_type(value)


def _check_no_template(name: str, value: object, has_marks: IsTemplate) -> None:
    if isinstance(value, type) or not holds_template(value, has_marks):
        return
    if name == "response_schema" and _is_type(value):  # Annotated[Model, ...] has the model's methods, as `resolve`
        return
    hint = "; or put a schema with such marks in its texts into a .json file" if name == "response_schema" else ""
    raise InvalidRequest(
        f"Write {name} out in the DAG: it takes no template, and no value of an upstream task{hint}",
        path=name,
        keyword="template",
    )
