"""What each argument of the operators may be: one table, with a line for every argument."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.core.connection.fields import read_extra
from airflow_chat_provider.core.errors import InvalidConnection, InvalidRequest
from airflow_chat_provider.core.spelling import with_article
from airflow_chat_provider.task.arguments import ATTRIBUTES, BATCH_FIELDS, REQUEST_FIELDS, TEMPLATE_FIELDS
from airflow_chat_provider.templates.markers import IsTemplate, holds_template, markers

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

ARGUMENT_OF = {attribute: name for name, attribute in ATTRIBUTES.items()}
"""The argument of an attribute, where they have different names."""
_LARGEST = 10**18
_SIMPLE = (str, bool)
_TEMPLATED = {*TEMPLATE_FIELDS, *BATCH_FIELDS}


class Kind(NamedTuple):
    """What an argument may be: None if it is ``optional``, and any value for which ``check`` does not raise.

    ``allowed`` has texts and switches that need no check.
    """

    check: Callable[[str, Any], object]
    optional: bool = False
    allowed: Collection[str | bool] = ()


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


def switch(name: str, value: Any) -> None:
    """True or False, and nothing else that Python takes for one of them."""
    if not isinstance(value, bool):
        hint = "; write it without quotes" if str(value).strip().lower() in ("true", "false") else ""
        raise wrong(name, "True or False", value, hint=hint)


def choice(*allowed: str) -> Kind:
    """One of a few values."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise wrong(name, f"one of {', '.join(map(repr, allowed))}", value, "enum")

    return Kind(check, allowed=allowed)


def limit(name: str, value: Any) -> None:
    """A limit that the connection has as well: it is read as the connection's extra is."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise wrong(name, "a number that a clock or a counter can hold", value, "maximum")
    try:
        read_extra(name, value)
    except InvalidConnection as error:
        raise InvalidRequest(f"{error.message}, not {shown(value)}", path=name, keyword="minimum") from None


def text(name: str, value: Any) -> None:
    """A text that is not empty."""
    if not isinstance(value, str):
        raise wrong(name, "text", value)
    if not value.strip():
        raise InvalidRequest(f"Give {name} a value: it is empty", path=name, keyword="minLength")


def _anything(name: str, value: Any) -> None:
    """Anything: the request's schema judges it."""


def _messages(name: str, value: Any) -> None:
    if isinstance(value, bytes | bytearray) or not isinstance(value, str | Sequence):
        raise wrong(name, "a list of messages, or its JSON text", value)


def _configuration(name: str, value: Any) -> None:  # noqa: ARG001 - the error names it
    from airflow_chat_provider.task.xcoms import Upstream

    Upstream.from_argument(value)


def _request_schema(name: str, value: Any) -> None:
    if not isinstance(value, Mapping | str | os.PathLike):
        raise wrong(name, "the name of a shipped schema, 'open', a dict, or the path of a .json file", value)


def _response_schema(name: str, value: Any) -> None:
    if not isinstance(value, Mapping | str | os.PathLike | type):
        is_instance = callable(getattr(value, "model_json_schema", None))
        hint = f"; give the class {type(value).__name__}, not an instance of it" if is_instance else ""
        what = "a JSON Schema (a dict), the path of a .json file, or a Pydantic model class"
        raise wrong(name, what, value, hint=hint)
    if value == "":
        text(name, value)


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
    "request": Kind(_anything, optional=True),
    "messages": Kind(_messages, optional=True),
    "model": Kind(text, optional=True),
    "prompt": Kind(_anything, optional=True),
    "system_prompt": Kind(_anything, optional=True),
    "chat_conn_id": Kind(text),
    "configuration": Kind(_configuration, optional=True),
    "request_schema": Kind(_request_schema, optional=True),
    "response_schema": Kind(_response_schema, optional=True),
    "output_retries": Kind(_retries),
    "result_format": choice("raw", "message", "text", "json", "tool_calls"),
    "check_status": _SWITCH,
    "on_incomplete": choice("warn", "fail", "ignore"),
    "push_messages": _SWITCH,
    "timeout": Kind(limit, optional=True),
    "deadline": Kind(limit, optional=True),
    "max_attempts": Kind(limit, optional=True),
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
        if not (value is None and kind.optional) and not (type(value) in _SIMPLE and value in kind.allowed):
            kind.check(name, value)


def check_filled(task: BaseOperator, table: Mapping[str, Kind]) -> None:
    """Check the arguments of a task again once its templates are rendered, or fields were set. Raises InvalidRequest.

    The request's arguments are left to the check of the whole request.
    """
    given = arguments_of(task)
    for name, kind in table.items():
        if name not in given or name in REQUEST_FIELDS:
            continue
        value = given[name]
        if not (value is None and kind.optional) and not (type(value) in _SIMPLE and value in kind.allowed):
            kind.check(name, value)


def arguments_of(task: BaseOperator) -> dict[str, Any]:
    """A task's attributes by the names of its arguments."""
    given = dict(vars(task))
    for attribute, name in ARGUMENT_OF.items():
        if attribute in given:
            given[name] = given.pop(attribute)
    return given


def _check_no_template(name: str, value: object, has_marks: IsTemplate) -> None:
    if isinstance(value, type) or not holds_template(value, has_marks):
        return
    hint = "; or put a schema with such marks in its texts into a .json file" if name == "response_schema" else ""
    raise InvalidRequest(
        f"Write {name} out in the DAG: it takes no template, and no value of an upstream task{hint}",
        path=name,
        keyword="template",
    )
