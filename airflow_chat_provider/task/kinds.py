"""What each argument of the operators may be: one table, in which every argument has its line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from airflow_chat_provider.core.connection.fields import read_extra
from airflow_chat_provider.core.errors import InvalidConnection, InvalidRequest
from airflow_chat_provider.core.request.wording import with_article
from airflow_chat_provider.task.arguments import ATTRIBUTES, BATCH_FIELDS, REQUEST_FIELDS, TEMPLATE_FIELDS
from airflow_chat_provider.templates.renderer import markers
from airflow_chat_provider.templates.structure import leaves

Check = Callable[[str, Any], None]
_LARGEST = 10**18
_TEMPLATED = {*TEMPLATE_FIELDS, *BATCH_FIELDS}


class Kind(NamedTuple):
    """``check`` raises InvalidRequest for a value that is wrong; None may be given where it is ``optional``."""

    check: Check
    optional: bool = False


def wrong(name: str, what: str, value: Any, keyword: str = "type", hint: str = "") -> InvalidRequest:
    """The error of an argument that must be ``what``."""
    return InvalidRequest(f"{name} must be {what}, not {shown(value)}{hint}", path=name, keyword=keyword)


def shown(value: Any) -> str:
    """A wrong value, for its author; a long or large one by its type."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**64):
        return repr(value)
    if isinstance(value, str):
        return repr(value[:64])
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return with_article(type(value).__name__)


def switch(name: str, value: Any) -> None:
    """True or False, and nothing that only counts as one of them."""
    if not isinstance(value, bool):
        hint = "; write it without quotes" if str(value).strip().lower() in ("true", "false") else ""
        raise wrong(name, "True or False", value, hint=hint)


def choice(*allowed: str) -> Kind:
    """One of few values."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise wrong(name, f"one of {', '.join(map(repr, allowed))}", value, "enum")

    return Kind(check)


def limit(name: str, value: Any) -> None:
    """A limit that the connection has, too: read as its extra is."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise wrong(name, "a number that a clock or a counter can hold", value, "maximum")
    try:
        read_extra(name, value)
    except InvalidConnection as error:
        raise InvalidRequest(f"{error.message}, not {shown(value)}", path=name, keyword="minimum") from None


def text(name: str, value: Any) -> None:
    """A text with something in it."""
    if not isinstance(value, str):
        raise wrong(name, "text", value)
    if not value.strip():
        raise InvalidRequest(f"Give {name} a value: it is empty", path=name, keyword="minLength")


def _anything(name: str, value: Any) -> None:
    """What the request's schema judges."""


def _messages(name: str, value: Any) -> None:
    if isinstance(value, bytes | bytearray) or not isinstance(value, str | Sequence):
        raise wrong(name, "a list of messages, or its JSON text", value)


def _configuration(name: str, value: Any) -> None:  # noqa: ARG001 - the error names it
    from airflow_chat_provider.task.configuration import Upstream

    Upstream.from_argument(value)


def _request_schema(name: str, value: Any) -> None:
    if not isinstance(value, Mapping | str | os.PathLike):
        raise wrong(name, "the name of a shipped schema, 'open', a dict, or the path of a .json file", value)


def _response_schema(name: str, value: Any) -> None:
    if not isinstance(value, Mapping | str | os.PathLike | type):
        is_instance = callable(getattr(value, "model_json_schema", None))
        hint = f"; give the class, {type(value).__name__}, not an instance of it" if is_instance else ""
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
    "check_status": Kind(switch),
    "on_incomplete": choice("warn", "fail", "ignore"),
    "push_messages": Kind(switch),
    "timeout": Kind(limit, optional=True),
    "deadline": Kind(limit, optional=True),
    "max_attempts": Kind(limit, optional=True),
    "deferrable": Kind(switch),
    "on_uncertain": choice("fail", "resend"),
    "dry_run": Kind(switch),
    "branches": Kind(_branches, optional=True),
    "choose_by": choice("enum", "tool"),
}


def check_values(
    arguments: Mapping[str, Any], table: Mapping[str, Kind], options: Mapping[str, Any] | None = None
) -> None:
    """Check each argument by itself, as far as it is known; raises InvalidRequest.

    ``options`` are the ``jinja_environment_kwargs`` of the DAG.
    """
    is_template = markers(options)
    # Where lines may be statements, any text may be a template: that tells nothing of an argument that takes none.
    looks_like_one = markers({name: value for name, value in (options or {}).items() if not name.startswith("line_")})
    for name, kind in table.items():
        if name not in arguments:
            continue
        value = arguments[name]
        if ATTRIBUTES.get(name, name) not in _TEMPLATED:
            _check_no_template(name, value, looks_like_one)
        elif is_template(value):
            continue
        if value is not None or not kind.optional:
            kind.check(name, value)


def check_filled(task: Any, table: Mapping[str, Kind]) -> None:
    """The same once a task's templates are rendered: for all but the request, which is checked as a whole."""
    given = arguments_of(task)
    for name, kind in table.items():
        value = given.get(name)
        if name in given and name not in REQUEST_FIELDS and (value is not None or not kind.optional):
            kind.check(name, value)


def arguments_of(task: Any) -> dict[str, Any]:
    """A task's arguments by the names that its constructor has for them."""
    own = vars(task)
    names = {attribute: name for name, attribute in ATTRIBUTES.items() if attribute in own}
    return {names.get(attribute, attribute): value for attribute, value in own.items()}


def _check_no_template(name: str, value: Any, is_template: Callable[[Any], bool]) -> None:
    if isinstance(value, type) or not any(map(is_template, leaves(value))):
        return
    hint = "; a schema with such marks in its texts can stand in a .json file" if name == "response_schema" else ""
    raise InvalidRequest(
        f"Write {name} out in the DAG: this argument takes no template, and no value of an upstream task{hint}",
        path=name,
        keyword="template",
    )
