"""Request schemas, by name, file or dict; and checking a request without sending it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.request import schema as schemas
from airflow_chat_provider.core.request.json_values import plain
from airflow_chat_provider.core.request.rules import check_rules
from airflow_chat_provider.core.request.schema import ARGUMENT, DEFAULT_SCHEMA, NAMES, SHIPPED, RequestSchema

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.output_schema import OutputSchema

__all__ = ["DEFAULT_SCHEMA", "SHIPPED", "check_rules", "validate_request"]

SchemaSource = str | Path | Mapping[str, Any] | None


def load_schema(source: SchemaSource | RequestSchema) -> RequestSchema | None:
    """The schema that ``request_schema`` names: a shipped name, a path to a JSON file, a dict; None for no checks.

    Raises InvalidRequest for a schema that cannot be read or used.
    """
    if source is None or isinstance(source, RequestSchema):
        return source
    if isinstance(source, Mapping):
        return schemas.load_user_schema(schemas.text_of_schema(source, ARGUMENT, ARGUMENT), ARGUMENT)
    name = str(source)
    if name in NAMES:
        return _shipped(name)
    if name.endswith(".json"):
        return schemas.load_user_schema(_read(name), name)
    raise InvalidRequest(
        f"Correct request_schema: {name[:64]!r} does not exist; use {', '.join(map(repr, NAMES))}, a dict, the path of "
        "a .json file, or None to send unchecked",
        path=ARGUMENT,
        keyword="schema",
    )


def load_response_schema(source: Any) -> OutputSchema | None:
    """The schema that ``response_schema`` names: a dict, a path to a JSON file, a type; None for None.

    Raises InvalidRequest for a schema that cannot be read or used.
    """
    from airflow_chat_provider.core.answer.output_schema import load_output, output_from_text
    from airflow_chat_provider.core.request.schema_faults import check_shape

    if isinstance(source, str | os.PathLike):
        name = str(source)
        output = output_from_text(_read(name, "response_schema"), name)
        why = check_shape(output.schema)
        if why is not None:
            raise schemas.bad_schema(name, "response_schema", why)
        return output
    if isinstance(source, Mapping) and (why := check_shape(source)) is not None:
        raise schemas.bad_schema("response_schema", "response_schema", why)
    return load_output(source)


def portable(source: SchemaSource) -> dict[str, Any] | str | None:
    """``source`` as another task can use it: instead of a path, the content of the file."""
    if source is None or isinstance(source, Mapping):
        return source if source is None else dict(source)
    return str(source) if str(source) in NAMES else dict(loads(_read(str(source))))


@cache
def _shipped(name: str) -> RequestSchema:
    file = DEFAULT_SCHEMA if name == schemas.OPEN else name
    text = files("airflow_chat_provider.core").joinpath("schemas", f"{file}.json").read_text("utf-8")
    return schemas.shipped_schema(name, json.loads(text))


def _read(path: str, argument: str = ARGUMENT) -> str:
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        raise schemas.bad_schema(path, argument, "the file is not UTF-8") from None
    except OSError as error:
        why = f"the file cannot be read ({error.strerror or type(error).__name__})"
        raise schemas.bad_schema(path, argument, why) from None


def validate_request(request: Any, schema: SchemaSource = DEFAULT_SCHEMA, *, base_url: str | None = None) -> None:
    """Check a request against a schema alone; ``check_rules`` has the rules beyond it.

    Raises InvalidRequest with the JSON ``path`` and ``keyword`` of the first thing that is wrong. ``schema`` is
    "2026-11", "2023-12", "open" (only what every server refuses is wrong), a JSON Schema as a dict or path, or None for
    no check. ``base_url``: a value that only OpenAI does not know is wrong if the server is OpenAI's or Azure's, and
    passes elsewhere.
    """
    loaded = load_schema(schema)
    if loaded is not None:
        loaded.validate(plain(request), base_url=base_url)
