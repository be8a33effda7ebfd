"""A request schema, ready for use: what is wrong with a request, what is doubtful, and which type belongs where.

Schemas come here as data. ``airflow_chat_provider.schema`` reads the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.validators import validator_for

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.json_text.nesting import LEVELS, TooDeep, fault, is_panic, loads
from airflow_chat_provider.core.paths import join, join_known
from airflow_chat_provider.core.request import wording
from airflow_chat_provider.core.request.coerce import Meant, Node, filled, typed
from airflow_chat_provider.core.request.keywords import flat_validator
from airflow_chat_provider.core.request.patterns import TooMuchWork
from airflow_chat_provider.core.request.validator import FlatValidator, Schema
from airflow_chat_provider.core.request.wording import Remark, Remarks, Strictness, describe
from airflow_chat_provider.core.servers import server_at
from airflow_chat_provider.core.types import JSON

ARGUMENT = "request_schema"


class NotGiven(str):
    """The default of an argument, distinct from the same text given by a user."""

    __slots__ = ()


DEFAULT_SCHEMA = NotGiven("2026-11")
SHIPPED = ("2023-12", "2026-11")
OPEN = "open"
NAMES = (*SHIPPED, OPEN)
"""The names that ``request_schema`` may have. "open" is the newest schema, with only those errors that every server
would report."""

_STRICTNESS: dict[str, Strictness] = {"2023-12": "strict", "2026-11": "marked", OPEN: "open"}
_SHOWN = 5


class Problem(NamedTuple):
    """What is wrong with an answer: ``told`` to its model; ``said`` in logs, without any of its content."""

    told: str
    said: str

    @classmethod
    def from_text(cls, text: str) -> Problem:
        """A problem whose words hold nothing of the answer."""
        return cls(text, text)


class RequestSchema:
    """A JSON Schema, ready to validate requests and to convert their values."""

    def __init__(
        self,
        schema: Schema,
        validator: FlatValidator,
        *,
        name: str,
        argument: str = ARGUMENT,
        strictness: Strictness = "strict",
    ) -> None:
        self.name = name
        self.argument = argument
        self._strictness = strictness
        self._schema = schema
        self.properties = frozenset(schema.get("properties", ())) if isinstance(schema, dict) else frozenset()
        self.required = frozenset(schema.get("required", ())) if isinstance(schema, dict) else frozenset()
        if self.is_open:
            self.required = frozenset({"messages"})
        self._validator = validator
        self._types = Node.from_schema(schema)

    def labelled(self, name: str, argument: str) -> RequestSchema:
        """The same schema under the name by which the errors of an argument call it."""
        if (name, argument) == (self.name, self.argument):
            return self
        same = copy(self)
        same.name, same.argument = name, argument
        return same

    def typed(self, request: object) -> Any:
        """``request`` with each leaf in the type that belongs there. A leaf that cannot be converted is kept."""
        return typed(request, self._types)

    def filled(self, request: object, is_meant: Meant) -> tuple[Any, list[str]]:
        """``typed``, without what a template left empty; and the paths of the empty texts among that.

        Only schemas that are lenient about nulls keep one that ``is_meant``.
        """
        meant = () if self._strictness == "strict" else (is_meant,)
        return filled(request, self._types, *meant)

    @property
    def is_open(self) -> bool:
        """Are only those things errors that every server refuses?"""
        return self._strictness == "open"

    def validate(self, request: JSON, *, base_url: str | None = None) -> list[Remark]:
        """Check a request: raises InvalidRequest with the first errors, or returns the warnings.

        ``base_url`` decides what the open places of the shipped schema mean: OpenAI refuses there what it does not
        know.
        """
        try:
            found, remarks = self._sorted(request, base_url)
        except (RecursionError, TooMuchWork):
            raise InvalidRequest(
                "Make the request smaller or flatter; nothing was sent: it is too large or nested too deep for "
                f"{_label(self.name, self.argument)}",
                path="$",
                keyword="schema",
            ) from None
        if not found:
            return remarks.told() if remarks is not None else []
        lines = [f"{join(error.absolute_path)}: {describe(error)}" for error in found]
        may_pass = self._strictness == "marked" and not any(map(wording.is_refused_everywhere, found))
        raise InvalidRequest(
            wording.with_remedy(found[0], _first(lines), may_pass=may_pass),
            path=join(found[0].absolute_path),
            keyword=str(found[0].validator),
        )

    def problem(self, answer: JSON, under: tuple[str, ...] = ()) -> Problem | None:
        """The first errors of ``answer``, each with its path; None if it fits the schema.

        ``under``: where it stands in what the model wrote.
        """
        try:
            found = self._errors(answer)
        except (RecursionError, TooMuchWork):
            return Problem.from_text("it is too large or nested too deep to be checked")
        if not found:
            return None
        told = [f"{join((*under, *error.absolute_path))}: {describe(error)}" for error in found]
        said = [f"{join_known(error.absolute_path, self.names)}: {describe(error, quote=False)}" for error in found]
        return Problem(_first(told), _first(said))

    def _sorted(self, request: JSON, base_url: str | None) -> tuple[list[ValidationError], Remarks | None]:
        """The errors, up to one more than is shown; and the warnings about what is let pass, if there are any."""
        found: list[ValidationError] = []
        remarks = None
        for error in self._failures(request):
            is_null = self._strictness != "strict" and wording.is_needless_null(error, request, self._types)
            if is_null or self._lets_pass(error, base_url):
                remarks = remarks or Remarks(self.names, self._strictness)
                remarks.add(error, is_null=is_null)
            elif len(found) <= _SHOWN:
                found.append(error)
            else:
                break
        return found, remarks

    def _lets_pass(self, error: ValidationError, base_url: str | None) -> bool:
        if self._strictness == "marked":
            return wording.is_open(error) and not server_at(base_url).openai
        return self.is_open and not wording.is_refused_everywhere(error)

    def _failures(self, request: JSON) -> Iterator[ValidationError]:
        for error in self._validator.iter_errors(request):
            yield error
            if self._strictness != "strict":
                for schema, value, path in wording.kinds_elsewhere(error, request):
                    for inner in flat_validator(schema).iter_errors(value):
                        inner.path.extendleft(reversed(path))
                        yield inner

    def _errors(self, value: JSON) -> list[ValidationError]:
        return list(islice(self._validator.iter_errors(value), _SHOWN + 1))

    @cached_property
    def names(self) -> frozenset[str]:
        """All names of properties in the schema."""
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


def _members(value: object) -> Iterable[Any]:
    return value if isinstance(value, dict | list) else ()


def _first(lines: list[str]) -> str:
    more = [f"(and more after the first {_SHOWN})"] if len(lines) > _SHOWN else []
    return "; ".join(lines[:_SHOWN] + more)


def shipped_schema(name: str, schema: dict[str, Any]) -> RequestSchema:
    """A shipped schema from its name (one of ``NAMES``) and the JSON of its file."""
    flat = _inline(schema, schema["$defs"], {})
    return RequestSchema(flat, flat_validator(flat), name=name, strictness=_STRICTNESS[name])


def _inline(node: object, defs: Mapping[str, Any], done: dict[str, Any]) -> Any:
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


def load_user_schema(text: str, name: str, argument: str = ARGUMENT, *, all_patterns: bool = True) -> RequestSchema:
    """A JSON Schema from its text. Raises InvalidRequest for all that can be wrong with it.

    ``all_patterns``: refuse patterns that this package cannot match. Without it, somebody else matches those.
    ``argument`` is what the error names.
    """
    compiled = _compiled(text, all_patterns)
    if isinstance(compiled, str):
        raise bad_schema(name, argument, compiled)
    if isinstance(compiled, tuple):
        raise bad_schema(name, argument, compiled[1], compiled[0])
    return compiled.labelled(name, argument)


@lru_cache(maxsize=64)
def _compiled(text: str, all_patterns: bool) -> RequestSchema | str | tuple[str, str]:  # noqa: FBT001 - a key of the cache
    """The schema, compiled once for each text; or why it cannot be used, or the place of a fault and what it is."""
    from airflow_chat_provider.core.request.links import BadSchema, link  # which shipped schemas do not need

    try:
        schema = loads(text)
        if not isinstance(schema, dict):
            return "it is not a JSON object"
        if not isinstance(schema.get("$schema", ""), str):
            return "its $schema is not text"
        draft: Any = validator_for(schema, default=Draft202012Validator)
        # Patterns are Rust's, not Python's, and `link` looks at them; no other format of a schema's is checked.
        draft.check_schema(schema, format_checker=FormatChecker(()))
        linked = link(schema, draft, all_patterns=all_patterns)
        return RequestSchema(schema, flat_validator(linked, draft), name=ARGUMENT)
    except json.JSONDecodeError as error:
        return "it is not JSON ({} at line {}, column {})".format(*fault(error))
    except SchemaError as error:
        from airflow_chat_provider.core.request.schema_faults import fault_of

        return fault_of(error)
    except BadSchema as error:
        return str(error)
    except TooDeep:
        return f"it is nested too deep ({LEVELS})"
    except ValueError:
        return "it holds a number with too many digits"
    except BaseException as error:
        if not isinstance(error, RecursionError) and not is_panic(error):
            raise
        return "it is nested too deep"


def text_of_schema(schema: object, name: str, argument: str) -> str:
    """A schema as JSON text. Raises InvalidRequest if it has no such form."""
    try:
        return json.dumps(schema, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        from airflow_chat_provider.core.request.schema_faults import not_json

        raise bad_schema(name, argument, not_json(schema)) from None


def bad_schema(name: str, argument: str, why: str, place: str = "") -> InvalidRequest:
    """The error for a schema that cannot be used. ``argument`` is the argument that gave it; ``place`` is in it."""
    label = _label(name, argument)
    what = f"{place} {why}" if place else why
    return InvalidRequest(f"Correct {label[:1].lower()}{label[1:]}: {what}", path=argument, keyword="schema")


def _label(name: str, argument: str) -> str:
    """How an error names a schema."""
    return argument if name == argument else f"{argument} {name!r}"
