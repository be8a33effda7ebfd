"""The request schemas: loading, validation, and which names they know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, SchemaError
from jsonschema.validators import validator_for

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.json_text.nesting import LEVELS, TooDeep, fault, loads
from airflow_chat_provider.core.json_text.panic import is_panic
from airflow_chat_provider.core.paths import join
from airflow_chat_provider.core.request.json_values import plain
from airflow_chat_provider.core.request.keywords import flat_validator
from airflow_chat_provider.core.request.links import BadSchema, link
from airflow_chat_provider.core.request.places import Strictness
from airflow_chat_provider.core.request.request_schema import ARGUMENT, Problem, RequestSchema, called
from airflow_chat_provider.core.request.wording import describe

__all__ = ["Problem", "RequestSchema"]


class NotGiven(str):
    """The default of an argument, told from the same text given by a user."""

    __slots__ = ()


DEFAULT_SCHEMA = NotGiven("2026-11")
SHIPPED = ("2023-12", "2026-11")
OPEN = "open"
NAMES = (*SHIPPED, OPEN)
"""What ``request_schema`` may name: a schema, or the newest one with no more than what every server refuses."""

_STRICTNESS: dict[str, Strictness] = {"2023-12": "strict", "2026-11": "marked", OPEN: "open"}

SchemaSource = str | Path | Mapping[str, Any] | None


def load_schema(source: SchemaSource) -> RequestSchema | None:
    """The schema that ``request_schema`` names: a shipped name, a path to a JSON file, a dict; None for no checks."""
    if source is None or isinstance(source, RequestSchema):
        return source
    if isinstance(source, Mapping):
        return load_user_schema(text_of_schema(source, ARGUMENT, ARGUMENT), ARGUMENT)
    name = str(source)
    if name in NAMES:
        return _shipped(name)
    if name.endswith(".json"):
        return load_user_schema(_read(name), name)
    raise InvalidRequest(
        f"request_schema {name!r} does not exist: use {', '.join(map(repr, NAMES))}, a dict, the path of a .json file, "
        "or None to send unchecked",
        path="request_schema",
        keyword="schema",
    )


def portable(source: SchemaSource) -> dict[str, Any] | str | None:
    """``source`` as another task can use it: in the place of a path what is in the file."""
    if source is None or isinstance(source, Mapping):
        return source if source is None else dict(source)
    return str(source) if str(source) in NAMES else dict(loads(_read(str(source))))


def text_of_schema(schema: Any, name: str, argument: str) -> str:
    """A schema as JSON text; InvalidRequest where it is none."""
    try:
        return json.dumps(schema, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        raise _bad_schema(name, argument, "it holds what JSON cannot") from None


@cache
def _shipped(name: str) -> RequestSchema:
    file = DEFAULT_SCHEMA if name == OPEN else name
    schema = json.loads(files("airflow_chat_provider.core").joinpath("schemas", f"{file}.json").read_text("utf-8"))
    flat = _inline(schema, schema["$defs"], {})
    return RequestSchema(flat, flat_validator(flat), name=name, strictness=_STRICTNESS[name])


def _inline(node: Any, defs: Mapping[str, Any], done: dict[str, Any]) -> Any:
    """``node`` with every reference replaced by what it refers to (the shipped schemas have no cycles)."""
    if isinstance(node, list):
        return [_inline(item, defs, done) for item in node]
    if isinstance(node, str) and node.startswith("#/$defs/"):  # a discriminator's mapping
        return _inline({"$ref": node}, defs, done)
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        if name not in done:
            done[name] = _inline(defs[name], defs, done)
        return done[name]
    return {key: _inline(value, defs, done) for key, value in node.items() if key != "$defs"}


@lru_cache(maxsize=64)
def load_user_schema(text: str, name: str, argument: str = ARGUMENT, *, all_patterns: bool = True) -> RequestSchema:
    """A JSON Schema from its text, with all that can be wrong with it found now: later an answer is paid for.

    ``all_patterns``: each has to be one that can be matched; else those that cannot are left to somebody else.
    InvalidRequest names ``argument``.
    """
    try:
        schema = loads(text)
        draft = _draft(schema)
        # Patterns are Rust's, not Python's, and `link` looks at them; no other format of a schema's is checked.
        draft.check_schema(schema, format_checker=FormatChecker(()))
        linked = link(schema, draft, all_patterns=all_patterns)
    except json.JSONDecodeError as error:
        why = "it is not JSON at line {1}, column {2}: {0}".format(*fault(error))
    except SchemaError as error:
        why = f"it is not a JSON Schema at {join(error.absolute_path)}: {describe(error)}"
    except BadSchema as error:
        why = str(error)
    except TooDeep:
        why = f"it is nested too deep ({LEVELS})"
    except ValueError:
        why = "it holds a number that is too long"
    except BaseException as error:
        if not isinstance(error, RecursionError) and not is_panic(error):
            raise
        why = "it is nested too deep"
    else:
        return RequestSchema(schema, flat_validator(linked, draft), name=name, argument=argument)
    raise _bad_schema(name, argument, why)


def _draft(schema: Any) -> Any:
    if not isinstance(schema, dict):
        raise BadSchema("it is not a JSON object")
    if not isinstance(schema.get("$schema", ""), str):
        raise BadSchema("its $schema is not text")
    return validator_for(schema, default=Draft202012Validator)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        raise _bad_schema(path, ARGUMENT, "the file is not UTF-8") from None
    except OSError as error:
        raise _bad_schema(
            path, ARGUMENT, f"the file cannot be read ({error.strerror or type(error).__name__})"
        ) from None


def _bad_schema(name: str, argument: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{called(name, argument)} cannot be used: {why}", path=argument, keyword="schema")


def validate_request(request: Any, schema: SchemaSource = DEFAULT_SCHEMA, *, base_url: str | None = None) -> None:
    """Check a request against a schema alone; ``check_rules`` has the rules beyond it.

    Raises InvalidRequest with the JSON ``path`` and ``keyword`` of the first thing that is wrong. ``schema`` is
    "2026-11", "2023-12", "open" (only what every server refuses is wrong), a JSON Schema as a dict or path, or None for
    no check. ``base_url``: what OpenAI alone does not know is wrong where the server is OpenAI's or Azure's, and passes
    elsewhere.
    """
    loaded = load_schema(schema)
    if loaded is not None:
        loaded.validate(plain(request), base_url=base_url)
