"""The arguments of the operators: their names and types, what each may be, and the values that one task runs with."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from airflow_chat_provider.core.connection.fields import read_extra
from airflow_chat_provider.core.errors import InvalidConnection, InvalidRequest
from airflow_chat_provider.core.spelling import misspelling, with_article
from airflow_chat_provider.templates.dag_templates import (
    IsTemplate,
    dag_of,
    holds_template,
    is_path,
    markers,
    output_schema,
)

if TYPE_CHECKING:
    from airflow.sdk import DAG, BaseOperator, Context

    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.core.answer.result import Delivery
    from airflow_chat_provider.core.types import OnIncomplete, ResultFormat
    from airflow_chat_provider.durable.ledger import Ledger

OnUncertain: TypeAlias = Literal["fail", "resend"]
SchemaArgument: TypeAlias = "Mapping[str, Any] | str | os.PathLike[str] | None"
OutputArgument: TypeAlias = Any
"""SchemaArgument, or a type: what ``A | B`` and a ``TypeAdapter`` are, no annotation says before Python 3.15."""

REQUEST_FIELDS = ("request", "messages", "model", "prompt", "system_prompt")
_LIMITS = ("timeout", "deadline", "max_attempts")
TEMPLATE_FIELDS = (*REQUEST_FIELDS, "chat_conn_id", "configuration", "request_schema", *_LIMITS)
_PACE = ("max_concurrency", "requests_per_minute", "tokens_per_minute")
BATCH_FIELDS = ("input", "output_path", "shard", *_PACE, "max_failures")
ATTRIBUTES = {"output": "output_path", "dry_run": "_dry_run"}
"""Arguments that a task keeps under another name, because BaseOperator has an attribute of the argument's name."""
ARGUMENT_OF = {attribute: name for name, attribute in ATTRIBUTES.items()}
"""The argument of an attribute, where they have different names."""
XCOMS = ("body", "status", "configuration", "usage", "messages", "arguments", "return_value")
"""The keys of the XComs that a task leaves."""
_CONFIGURATION = ("chat_conn_id", "model", "base_url", "request_schema")
_LARGEST = 10**18
_SIMPLE = (str, bool)
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


class Kind(NamedTuple):
    """What an argument may be: None if it is ``optional``, and any value for which ``check`` does not raise.

    ``allowed`` has texts and switches that need no check.
    """

    check: Callable[[str, Any], object]
    optional: bool = False
    allowed: Collection[str | bool] = ()

    def judge(self, name: str, value: Any) -> None:
        """Raise InvalidRequest if the argument may not be this."""
        if not (value is None and self.optional) and not (type(value) in _SIMPLE and value in self.allowed):
            self.check(name, value)


def wrong(name: str, what: str, value: object, keyword: str = "type", hint: str = "") -> InvalidRequest:
    """The error for an argument that must be ``what``."""
    return InvalidRequest(f"{name} must be {what}, not {shown(value)}{hint}", path=name, keyword=keyword)


def shown(value: object) -> str:
    """A wrong value, for its author; only the type of a long or large one."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**64):
        return repr(value)
    if isinstance(value, str):
        return repr(value[:64])
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return with_article(type(value).__name__)


# What other operators and libraries call a value of ours.
_MEANT = {"str": "text", "string": "text", "content": "text", "dict": "json", "object": "json", "parsed": "json"} | {
    "error": "fail",
    "raise": "fail",
    "warning": "warn",
    "skip": "ignore",
    "retry": "resend",
    "tools": "tool_calls",
}


def switch(name: str, value: Any) -> None:
    """True or False, and nothing else that Python takes for one of them."""
    if not isinstance(value, bool):
        hint = "; write it without quotes" if str(value).strip().lower() in ("true", "false") else ""
        raise wrong(name, "True or False", value, hint=hint)


def choice(*allowed: str) -> Kind:
    """One of a few values."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in allowed:
            meant = _MEANT.get(value.lower()) or misspelling(value, allowed) if isinstance(value, str) else None
            hint = f"; did you mean {meant!r}?" if meant in allowed else ""
            if name == "result_format" and isinstance(value, type):
                hint = "; give the class as response_schema, with result_format='json'"
            raise wrong(name, f"one of {', '.join(map(repr, allowed))}", value, "enum", hint)

    return Kind(check, allowed=allowed)


def limit(name: str, value: Any) -> None:
    """A limit that the connection has as well: it is read as the connection's extra is."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise wrong(name, "a number that a clock or a counter can hold", value, "maximum")
    try:
        read_extra(name, value)
    except InvalidConnection as error:
        hint = f"; write {value.total_seconds():g}" if isinstance(value, timedelta) else ""
        raise InvalidRequest(f"{error.message}, not {shown(value)}{hint}", path=name, keyword="minimum") from None


def text(name: str, value: Any) -> None:
    """A text that is not empty."""
    if not isinstance(value, str):
        raise wrong(name, "text", value)
    if not value.strip():
        raise InvalidRequest(f"Give {name} a value: it is empty", path=name, keyword="minLength")


def _conn_id(name: str, value: Any) -> None:
    """The id of a connection, and not what stands in one."""
    text(name, value)
    if "://" in value or value.startswith("sk-"):
        what, place = ("a URL", "host") if "://" in value else ("an API key", "password")  # which no error may show
        raise InvalidRequest(
            f"Put {what} into a connection, as its {place}, and name the connection in {name}: it is {what}",
            path=name,
            keyword="type",
        )


def _request(name: str, value: Any) -> None:
    """Whatever may be meant as a request: the schema judges it."""
    if isinstance(value, os.PathLike):
        raise InvalidRequest(
            f"Give {name} the path as text, {os.fspath(value)!r}: it is a Path", path=name, keyword="type"
        )
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "role" in item for item in value):
        raise InvalidRequest(
            f"Give the list as messages: {name} is the whole request, a dict", path=name, keyword="type"
        )
    if isinstance(value, str) and value.strip() and value.strip()[0] not in '{["' and not is_path(value):
        raise InvalidRequest(
            f"Give a text as prompt: {name} is a dict, its JSON text, or the path of a .json file",
            path=name,
            keyword="json",
        )


def _anything(name: str, value: Any) -> None:
    """Anything: the request's schema judges it."""


def _messages(name: str, value: Any) -> None:
    if isinstance(value, bytes | bytearray) or not isinstance(value, str | Sequence):
        hint = "; put the message into a list" if isinstance(value, Mapping) and "role" in value else ""
        raise wrong(name, "a list of messages, or its JSON text", value, hint=hint)
    if isinstance(value, str) and value.strip() and value.strip()[0] not in "[{":
        if is_path(value):
            todo = 'Name the file in request, with the messages in it as {"messages": [...]}'
        else:
            todo = "Give a text as prompt"
        raise InvalidRequest(f"{todo}: {name} is a list, or its JSON text", path=f"$.{name}", keyword="type")


def _configuration(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        kind = with_article(type(value).__name__)
        hint = "; pass what an upstream task left, task.output['configuration']"
        raise InvalidRequest(f"configuration must be a mapping, not {kind}{hint}", path=name, keyword="type")
    unknown = sorted(str(key) for key in value if key not in _CONFIGURATION)
    if unknown:
        raise InvalidRequest(
            f"Remove the key {unknown[0][:64]!r} from configuration: it may only have {', '.join(_CONFIGURATION)}",
            path=name,
            keyword="additionalProperties",
        )


def _request_schema(name: str, value: Any) -> None:
    if isinstance(value, type):
        raise InvalidRequest(
            f"Give the class {value.__name__} as response_schema: {name} is what the request must fit",
            path=name,
            keyword="type",
        )
    if not isinstance(value, Mapping | str | os.PathLike):
        raise wrong(name, "the name of a shipped schema, 'open', a dict, or the path of a .json file", value)


def _response_schema(name: str, value: Any) -> None:
    from airflow_chat_provider.core.answer import model_types

    if isinstance(value, str):
        text(name, value)
        if model_types.may_be_path(value):
            return
    elif isinstance(value, Mapping | os.PathLike) or model_types.is_type(value):
        return
    todo = model_types.instead_of(value, name) or f"Correct {name}, which is {shown(value)}"
    what = "a JSON Schema (a dict), the path of a .json file, or a type (a Pydantic model, list[Model], A | B)"
    raise InvalidRequest(f"{todo}: it must be {what}", path=name, keyword="type")


def _retries(name: str, value: Any) -> None:
    if type(value) is not int or value < 0:
        raise wrong(name, "a number of 0 or more", value, "minimum")


def _branches(name: str, value: Any) -> None:
    from airflow_chat_provider.core.answer.choice import described

    if not isinstance(value, Mapping) and (isinstance(value, str | bytes) or not isinstance(value, Sequence)):
        raise wrong(name, "a list of task ids, or a dict with a description for each", value)
    if not value:
        why = f"Name tasks in {name}, or leave it out for all tasks directly downstream: it is empty"
        raise InvalidRequest(why, path=name, keyword="minItems")
    strange = next((task for task in value if not isinstance(task, str) or not task), None)
    if strange is not None:
        raise wrong(name, "the ids of tasks (text)", strange)
    described(value)


_SWITCH = Kind(switch, allowed=(True, False))
ARGUMENTS: dict[str, Kind] = {
    "request": Kind(_request, optional=True),
    "messages": Kind(_messages, optional=True),
    "model": Kind(text, optional=True),
    "prompt": Kind(_anything, optional=True),
    "system_prompt": Kind(_anything, optional=True),
    "chat_conn_id": Kind(_conn_id),
    "configuration": Kind(_configuration, optional=True),
    "request_schema": Kind(_request_schema, optional=True),
    "response_schema": Kind(_response_schema, optional=True),
    "output_retries": Kind(_retries),
    "result_format": choice("raw", "message", "text", "json", "tool_calls"),
    "check_status": _SWITCH,
    "on_incomplete": choice("warn", "fail", "ignore"),
    "push_messages": _SWITCH,
    **dict.fromkeys(_LIMITS, Kind(limit, optional=True)),
    "deferrable": _SWITCH,
    "on_uncertain": choice("fail", "resend"),
    "dry_run": _SWITCH,
    "branches": Kind(_branches, optional=True),
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
