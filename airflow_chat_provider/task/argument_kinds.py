"""What an argument of the operators may be: checks of single values, each with an error that says what to write."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from airflow_chat_provider.core.connection.fields import read_extra
from airflow_chat_provider.core.errors import InvalidConnection, InvalidRequest
from airflow_chat_provider.core.spelling import misspelling, with_article
from airflow_chat_provider.templates.dag_templates import is_path

_CONFIGURATION = ("chat_conn_id", "model", "base_url", "request_schema")
_LARGEST = 10**18
_SIMPLE = (str, bool)


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


def conn_id(name: str, value: Any) -> None:
    """The id of a connection, and not what stands in one."""
    text(name, value)
    if "://" in value or value.startswith("sk-"):
        what, place = ("a URL", "host") if "://" in value else ("an API key", "password")  # which no error may show
        raise InvalidRequest(
            f"Put {what} into a connection, as its {place}, and name the connection in {name}: it is {what}",
            path=name,
            keyword="type",
        )


def request(name: str, value: Any) -> None:
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


def anything(name: str, value: Any) -> None:
    """Anything: the request's schema judges it."""


def messages(name: str, value: Any) -> None:
    if isinstance(value, bytes | bytearray) or not isinstance(value, str | Sequence):
        hint = "; put the message into a list" if isinstance(value, Mapping) and "role" in value else ""
        raise wrong(name, "a list of messages, or its JSON text", value, hint=hint)
    if isinstance(value, str) and value.strip() and value.strip()[0] not in "[{":
        if is_path(value):
            todo = 'Name the file in request, with the messages in it as {"messages": [...]}'
        else:
            todo = "Give a text as prompt"
        raise InvalidRequest(f"{todo}: {name} is a list, or its JSON text", path=f"$.{name}", keyword="type")


def configuration(name: str, value: Any) -> None:
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


def request_schema(name: str, value: Any) -> None:
    if isinstance(value, type):
        raise InvalidRequest(
            f"Give the class {value.__name__} as response_schema: {name} is what the request must fit",
            path=name,
            keyword="type",
        )
    if not isinstance(value, Mapping | str | os.PathLike):
        raise wrong(name, "the name of a shipped schema, 'open', a dict, or the path of a .json file", value)


def response_schema(name: str, value: Any) -> None:
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


def retries(name: str, value: Any) -> None:
    if type(value) is not int or value < 0:
        raise wrong(name, "a number of 0 or more", value, "minimum")


def attachments(name: str, value: Any) -> None:
    from airflow_chat_provider.task.attachments import check_paths

    check_paths(name, value)


def size(name: str, value: Any) -> None:
    if type(value) is not int or not 1 <= value <= _LARGEST:
        raise wrong(name, "a number of bytes, 1 or more", value, "minimum")


def branches(name: str, value: Any) -> None:
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
