"""The arguments of the operators: their names, their types, and the values that one task runs with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from airflow.sdk import DAG, BaseOperator, Context

    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.core.answer.result import Delivery
    from airflow_chat_provider.core.types import OnIncomplete, ResultFormat
    from airflow_chat_provider.durable.ledger import Ledger

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
    def from_task(cls, task: BaseOperator) -> ChatArguments:
        """The arguments as they are now: ``pre_execute`` or a subclass's ``execute()`` may have set some."""
        given = {field: getattr(task, attribute) for field, attribute in _SOURCES if hasattr(task, attribute)}
        dag = task.get_dag() if task.has_dag() else None  # type: ignore[no-untyped-call]
        return cls(dag=dag, **given)

    def wanted(self) -> Wanted:
        """What an answer has to be. Raises InvalidRequest for a ``response_schema`` that cannot be read."""
        from airflow_chat_provider.core.answer.dialogue import Wanted

        schema = None
        if self.response_schema is not None:
            from airflow_chat_provider.schema import load_response_schema
            from airflow_chat_provider.templates.dag_templates import opened

            schema = load_response_schema(opened(self.response_schema, self.dag, "response_schema"))
        return Wanted(schema, self.result_format == "tool_calls", self.output_retries, self.result_format)

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
