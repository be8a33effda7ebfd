"""The request schemas: loading, validation, and which names they know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.validators import validator_for

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.keywords import flat_validator
from airflow_chat_provider.core.links import BadSchema, link
from airflow_chat_provider.core.nesting import LEVELS, TooDeep, fault, loads
from airflow_chat_provider.core.panic import is_panic
from airflow_chat_provider.core.paths import join, join_known
from airflow_chat_provider.core.patterns import TooMuchWork
from airflow_chat_provider.core.plain import plain
from airflow_chat_provider.core.remedy import remedy
from airflow_chat_provider.core.typed import Node, typed
from airflow_chat_provider.core.unset import without_unset
from airflow_chat_provider.core.wording import describe


class NotGiven(str):
    """The default of an argument, told from the same text given by a user."""

    __slots__ = ()


DEFAULT_SCHEMA = NotGiven("2026-11")
SHIPPED = ("2023-12", "2026-11")
_SHOWN = 5
_ARGUMENT = "request_schema"

SchemaSource = str | Path | Mapping[str, Any] | None


class Problem(NamedTuple):
    """What is wrong with an answer. ``told``: for the model that gave it; ``said``: with nothing of it, for logs."""

    told: str
    said: str

    @classmethod
    def of(cls, text: str) -> Problem:
        """One whose words hold nothing of the answer."""
        return cls(text, text)


class RequestSchema:
    """A JSON Schema ready to validate requests and to say which type is due where."""

    def __init__(self, schema: Any, validator: Any, *, name: str, argument: str = _ARGUMENT) -> None:
        self.name = name
        self._argument = argument
        self._schema = schema
        self.properties = frozenset(schema.get("properties", ())) if isinstance(schema, dict) else frozenset()
        self.required = frozenset(schema.get("required", ())) if isinstance(schema, dict) else frozenset()
        self._validator = validator
        self._types = Node.of(schema)

    def typed(self, request: Any) -> Any:
        """``request`` with each leaf in the type that is due at its path; what cannot be converted stays."""
        return typed(request, self._types)

    def filled(self, request: Any) -> tuple[Any, list[str]]:
        """``typed``, without what a template left empty; the paths of the empty texts among that."""
        return without_unset(self.typed(request), self._types)

    def validate(self, request: Any) -> None:
        """Raise InvalidRequest naming the first broken path, and briefly the next ones."""
        try:
            found = self._errors(request)
        except (RecursionError, TooMuchWork):
            raise InvalidRequest(
                "Correct the request, nothing was sent: it is too large or nested too deep for "
                f"{_called(self.name, self._argument)}",
                path="$",
                keyword="schema",
            ) from None
        if not found:
            return
        lines = [f"{join(error.absolute_path)}: {describe(error)}" for error in found]
        raise InvalidRequest(
            f"{remedy(found[0])}, nothing was sent: {_first(lines)}",
            path=join(found[0].absolute_path),
            keyword=str(found[0].validator),
        )

    def problem(self, answer: Any) -> Problem | None:
        """Where ``answer`` breaks the schema: a path and our own words for each of the first places."""
        try:
            found = self._errors(answer)
        except (RecursionError, TooMuchWork):
            return Problem.of("it is too large or nested too deep to be checked")
        if not found:
            return None
        told = [f"{join(error.absolute_path)}: {describe(error)}" for error in found]
        said = [f"{join_known(error.absolute_path, self.names)}: {describe(error, quote=False)}" for error in found]
        return Problem(_first(told), _first(said))

    def _errors(self, value: Any) -> list[ValidationError]:
        return list(islice(self._validator.iter_errors(value), _SHOWN + 1))

    @cached_property
    def names(self) -> frozenset[str]:
        """Every property that the schema names, at whatever place."""
        found: set[str] = set()
        stack = [self._schema]
        while stack:
            node = stack.pop()
            if isinstance(node, dict):
                stack.extend(node.values())
                named = [*_members(node.get("properties")), *_members(node.get("required"))]
                found.update(name for name in named if isinstance(name, str))
            elif isinstance(node, list):
                stack.extend(node)
        return frozenset(found)


def _members(value: Any) -> Iterable[Any]:
    return value if isinstance(value, dict | list) else ()


def _first(lines: list[str]) -> str:
    more = [f"(and more after the first {_SHOWN})"] if len(lines) > _SHOWN else []
    return "; ".join(lines[:_SHOWN] + more)


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


def portable(source: SchemaSource) -> dict[str, Any] | str | None:
    """``source`` as another task can use it: in the place of a path what is in the file."""
    if source is None or isinstance(source, Mapping):
        return source if source is None else dict(source)
    return str(source) if str(source) in SHIPPED else dict(loads(_read(str(source))))


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
    return RequestSchema(flat, flat_validator(flat), name=name)


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
def load_user_schema(text: str, name: str, argument: str = _ARGUMENT, *, all_patterns: bool = True) -> RequestSchema:
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
        raise _bad_schema(path, _ARGUMENT, "the file is not UTF-8") from None
    except OSError as error:
        raise _bad_schema(
            path, _ARGUMENT, f"the file cannot be read ({error.strerror or type(error).__name__})"
        ) from None


def _bad_schema(name: str, argument: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{_called(name, argument)} cannot be used: {why}", path=argument, keyword="schema")


def _called(name: str, argument: str) -> str:
    return argument if name == argument else f"{argument} {name!r}"


def validate_request(request: Any, schema: SchemaSource = DEFAULT_SCHEMA) -> None:
    """Check a request against a schema alone; ``check_rules`` has the rules beyond it.

    Raises InvalidRequest with the JSON ``path`` and ``keyword`` of the first thing that is wrong. ``schema`` is
    "2026-11", "2023-12", a JSON Schema as a dict or path, or None for no check.
    """
    loaded = load_schema(schema)
    if loaded is not None:
        loaded.validate(plain(request))
