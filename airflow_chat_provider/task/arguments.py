"""The arguments of the operators: their names, their types for a decorator, and the values that one task runs with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypedDict

if TYPE_CHECKING:
    import os
    from datetime import timedelta

    from airflow.sdk import DAG, BaseOperator

    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.core.answer.outcome import Delivery

ResultFormat: TypeAlias = Literal["raw", "message", "text", "json", "tool_calls"]
OnIncomplete: TypeAlias = Literal["warn", "fail", "ignore"]
OnUncertain: TypeAlias = Literal["fail", "resend"]
SchemaArgument: TypeAlias = "Mapping[str, Any] | str | os.PathLike[str] | None"

REQUEST_FIELDS = ("request", "messages", "model", "prompt", "system_prompt")
TEMPLATE_FIELDS = (
    *REQUEST_FIELDS,
    "chat_conn_id",
    "configuration",
    "request_schema",
    "timeout",
    "deadline",
    "max_attempts",
)
BATCH_FIELDS = (
    "input",
    "output_path",
    "shard",
    "max_concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "max_failures",
)
ATTRIBUTES = {"output": "output_path", "dry_run": "_dry_run"}
"""Arguments that a task keeps under another name, because BaseOperator has an attribute of the argument's name."""
XCOMS = ("body", "status", "configuration", "usage", "messages", "arguments", "return_value")
"""The keys of the XComs that a task leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatArguments:
    """What a task was told to do, read from it once its templates are rendered.

    It travels from ``execute()`` to whatever needs an argument, so that nothing below an operator reads attributes of
    a task. The batch operator has no ``check_status``, for example: then the default stands.
    """

    task_id: str
    dag: DAG | None = None
    """Where the paths of files are looked up; None for a task outside a DAG."""
    request: Any = None
    messages: Any = None
    model: str | None = None
    prompt: Any = None
    system_prompt: Any = None
    chat_conn_id: str = "chat_default"
    configuration: Any = None
    request_schema: SchemaArgument = None
    names_schema: bool = False
    """True where the DAG's author gave ``request_schema``, even if it equals the default."""
    response_schema: SchemaArgument | type = None
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

    @classmethod
    def from_task(cls, task: BaseOperator) -> Self:
        """The arguments as they are now: ``pre_execute`` or a subclass's ``execute()`` may have set some."""
        given = {field: getattr(task, attribute) for field, attribute in _SOURCES if hasattr(task, attribute)}
        dag = task.get_dag() if task.has_dag() else None  # type: ignore[no-untyped-call]
        return cls(dag=dag, **given)

    def for_request(self) -> dict[str, Any]:
        """The arguments that make up the request, by name."""
        return {name: getattr(self, name) for name in REQUEST_FIELDS}

    def wanted(self) -> Wanted:
        """What an answer has to be. Raises InvalidRequest for a ``response_schema`` that cannot be read."""
        from airflow_chat_provider.core.answer.dialogue import Wanted
        from airflow_chat_provider.core.answer.output_schema import load_output
        from airflow_chat_provider.templates.schema_files import opened

        schema = load_output(opened(self.response_schema, self.dag, "response_schema"))
        return Wanted(schema, self.result_format == "tool_calls", self.output_retries, self.result_format)

    def delivery(self) -> Delivery:
        """How the answer is to be left."""
        from airflow_chat_provider.core.answer.outcome import Delivery

        return Delivery(self.result_format, self.check_status, self.on_incomplete, self.push_messages)


_SOURCES = tuple(
    (name, {**ATTRIBUTES, "names_schema": "_names_schema"}.get(name, name))
    for name in (field.name for field in fields(ChatArguments))
    if name != "dag"
)
"""Each field of ChatArguments but ``dag``, with the attribute of a task that it is read from."""


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
