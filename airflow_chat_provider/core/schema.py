"""The request schemas: loading, validation, and which names they know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.validators import validator_for
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.keywords import FlatValidator, extended
from airflow_chat_provider.core.paths import join
from airflow_chat_provider.core.plain import plain
from airflow_chat_provider.core.typed import Node, typed
from airflow_chat_provider.core.wording import describe


class NotGiven(str):
    """The default of an argument, told from the same text given by a user."""

    __slots__ = ()


DEFAULT_SCHEMA = NotGiven("2026-11")
SHIPPED = ("2023-12", "2026-11")
_SHOWN = 5
_ARGUMENT = "request_schema"

SchemaSource = str | Path | Mapping[str, Any] | None


class RequestSchema:
    """A JSON Schema ready to validate requests and to say which type is due where."""

    def __init__(self, schema: Any, validator: Any, *, name: str, argument: str = _ARGUMENT) -> None:
        self.name = name
        self._argument = argument
        self.properties = frozenset(schema.get("properties", ())) if isinstance(schema, dict) else frozenset()
        self.required = frozenset(schema.get("required", ())) if isinstance(schema, dict) else frozenset()
        self._validator = validator
        self._types = Node.of(schema)

    def typed(self, request: Any) -> Any:
        """``request`` with each leaf in the type that is due at its path; what cannot be converted stays."""
        return typed(request, self._types)

    def validate(self, request: Any) -> None:
        """Raise InvalidRequest naming the first broken path, and briefly the next ones."""
        found = self._errors(request)
        if not found:
            return
        raise InvalidRequest(
            "Correct the request, nothing was sent: " + "; ".join(_lines(found)),
            path=join(found[0].absolute_path),
            keyword=str(found[0].validator or "false"),
        )

    def problems(self, value: Any) -> list[str]:
        """Where ``value`` breaks the schema: a path and our own words for each of the first places."""
        return _lines(self._errors(value))

    def _errors(self, request: Any) -> list[ValidationError]:
        try:
            return list(islice(self._validator.iter_errors(request), _SHOWN + 1))
        except Unresolvable as error:
            raise _bad_schema(
                self.name, self._argument, f"its reference {str(error.ref)[:200]!r} leads nowhere in it"
            ) from None
        except RecursionError:
            raise _bad_schema(
                self.name, self._argument, "it refers to itself without end, or the request is nested too deep"
            ) from None


def _lines(found: list[ValidationError]) -> list[str]:
    lines = [f"{join(error.absolute_path)}: {describe(error)}" for error in found[:_SHOWN]]
    return [*lines, f"(and more after the first {_SHOWN})"] if len(found) > _SHOWN else lines


def load_schema(source: SchemaSource) -> RequestSchema | None:
    """The schema that ``request_schema`` names: a shipped name, a path to a JSON file, a dict; None for no checks."""
    if source is None or isinstance(source, RequestSchema):
        return source
    if isinstance(source, Mapping):
        return load_user_schema(text_of_schema(source, _ARGUMENT, _ARGUMENT), _ARGUMENT)
    name = str(source)
    if name in SHIPPED:
        return _shipped(name)
    if name.endswith(".json"):
        return load_user_schema(_read(name), name)
    raise InvalidRequest(
        f"request_schema {name!r} does not exist: use {' or '.join(map(repr, SHIPPED))}, a dict, the path of a .json "
        "file, or None to send unchecked",
        path="request_schema",
        keyword="schema",
    )


def text_of_schema(schema: Any, name: str, argument: str) -> str:
    """A schema as JSON text; InvalidRequest where it is none."""
    try:
        return json.dumps(schema, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        raise _bad_schema(name, argument, "it holds what JSON cannot") from None


@cache
def _shipped(name: str) -> RequestSchema:
    schema = json.loads(files(__package__).joinpath("schemas", f"{name}.json").read_text("utf-8"))
    flat = _inline(schema, schema["$defs"], {})
    return RequestSchema(flat, FlatValidator(flat), name=name)


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
def load_user_schema(text: str, name: str, argument: str = _ARGUMENT) -> RequestSchema:
    """A JSON Schema from its text; InvalidRequest names ``argument`` where it is none."""
    try:
        schema = json.loads(text)
        cls = validator_for(schema, default=Draft202012Validator) if isinstance(schema, dict) else None
        if cls is None:
            raise _bad_schema(name, argument, "it is no JSON object")
        cls.check_schema(schema)
    except json.JSONDecodeError as error:
        raise _bad_schema(
            name, argument, f"no JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except SchemaError as error:
        raise _bad_schema(name, argument, f"no JSON Schema at {join(error.absolute_path)}: {describe(error)}") from None
    # With a registry of its own, jsonschema does not fetch the references that it does not find.
    return RequestSchema(schema, extended(cls)(schema, registry=EMPTY_REGISTRY), name=name, argument=argument)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        raise _bad_schema(path, _ARGUMENT, "the file is not UTF-8") from None
    except OSError as error:
        raise _bad_schema(
            path, _ARGUMENT, f"the file cannot be read ({error.strerror or type(error).__name__})"
        ) from None


def _bad_schema(name: str, argument: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{argument} {name!r} cannot be used: {why}", path=argument, keyword="schema")


def validate_request(request: Any, schema: SchemaSource = DEFAULT_SCHEMA) -> None:
    """Check a request against a schema alone; ``check_rules`` has the rules beyond it.

    Raises InvalidRequest with the JSON ``path`` and ``keyword`` of the first thing that is wrong. ``schema`` is
    "2026-11", "2023-12", a JSON Schema as a dict or path, or None for no check.
    """
    loaded = load_schema(schema)
    if loaded is not None:
        loaded.validate(plain(request))
