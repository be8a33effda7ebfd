"""The walk through a schema whose references have been replaced by what they refer to.

jsonschema's own resolves each reference when a value gets there, makes a validator at each step, and writes the value
into each message. Here nothing is left to be found out while an answer is looked at, and the work has an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jsonschema import ValidationError

from airflow_chat_provider.core.request.patterns import TooMuchWork

_STEPS = 100_000  # a quarter of a second
_STEPS_EACH = 50  # for each value in what is looked at; a schema that needs more tries the same again and again

Errors = Iterator[ValidationError]
Schema = Any  # a JSON Schema: a dict, or True / False
Check = Callable[..., Any]
Types = Mapping[str, Callable[[Any], bool]]


def failure(
    keyword: str, value: Any, instance: Any, schema: Schema, path: tuple[str | int, ...] = ()
) -> ValidationError:
    """A ValidationError without a message: jsonschema's own messages quote the data."""
    return ValidationError("", validator=keyword, validator_value=value, instance=instance, schema=schema, path=path)


def types_of_draft(draft: Any) -> Types:
    """How a draft's types are told.

    Not by jsonschema's type checker: it looks them up in Rust, which panics where Python's stack is full, and a panic
    is not an Exception.
    """
    return {
        "array": lambda value: isinstance(value, list),
        "boolean": lambda value: isinstance(value, bool),
        "integer": _is_whole if draft.TYPE_CHECKER.is_type(1.0, "integer") else _is_int,
        "null": lambda value: value is None,
        "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
        "object": lambda value: isinstance(value, dict),
        "string": lambda value: isinstance(value, str),
    }


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_int(value) or (isinstance(value, float) and value.is_integer())


def _anything(value: Any) -> bool:  # noqa: ARG001 - draft 3 has the type "any", and takes an unknown one for that
    return True


class Run:
    """One validation, as jsonschema's keywords expect a validator to be. ``known``: verdicts that stand already."""

    __slots__ = ("VALIDATORS", "_allowed", "_left", "_types", "_whole", "known")

    format_checker = None  # jsonschema's keyword `format` asks for it; formats are not asserted

    def __init__(self, checks: Mapping[str, Check], types: Types, whole: Any) -> None:
        self.VALIDATORS = checks
        self._types = types
        self._whole: list[Any] = [whole]
        self._left = _STEPS
        self._allowed: dict[int, frozenset[str]] = {}
        self.known: dict[tuple[int, int], bool] = {}

    def step(self) -> None:
        """Count one look at a value. Raises TooMuchWork where there have been too many."""
        self._left -= 1
        if self._left < 0:
            if not self._whole:
                raise TooMuchWork
            self._left += _STEPS_EACH * _values_in(self._whole.pop())

    def allowed(self, values: list[Any], form: Callable[[Any], str]) -> frozenset[str]:
        """The values of an ``enum`` as ``form`` writes them, once: an answer may ask for them a million times."""
        if id(values) not in self._allowed:
            self._allowed[id(values)] = frozenset(map(form, values))
        return self._allowed[id(values)]

    def is_type(self, instance: Any, name: str) -> bool:
        return self._types.get(name, _anything)(instance)

    def descend(self, instance: Any, schema: Schema, path: object = None, schema_path: object = None) -> Errors:  # noqa: ARG002 - jsonschema's signature
        return walk(self, instance, schema, path)

    def evolve(self, *, schema: Schema) -> Part:
        return Part(self, schema)


def _values_in(value: Any) -> int:
    count, stack = 0, [value]
    while stack:
        count += 1
        inner = stack.pop()
        stack.extend(inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ())
    return count


class Part:
    """What jsonschema's ``evolve`` gives: the same validation, of a part of the schema."""

    __slots__ = ("_run", "_schema")

    def __init__(self, run: Run, schema: Schema) -> None:
        self._run = run
        self._schema = schema

    def is_valid(self, instance: Any) -> bool:
        return fits(self._run, instance, self._schema)


class FlatValidator:
    """A schema without references, its keywords and its draft's types."""

    def __init__(self, schema: Schema, checks: Mapping[str, Check], types: Types) -> None:
        self._schema = schema
        self._checks = checks
        self._types = types

    def iter_errors(self, instance: Any) -> Errors:
        """What is wrong, as it is found. Raises TooMuchWork, and RecursionError where ``instance`` is too deep."""
        return walk(Run(self._checks, self._types, instance), instance, self._schema)


def walk(run: Run, instance: Any, schema: Schema, path: object = None) -> Errors:
    """The errors of ``instance``, which stands at ``path`` of what the caller looks at."""
    run.step()
    if schema is True:
        return
    if schema is False:
        error = failure("false", False, instance, schema)
        if path is not None:
            error.path.appendleft(path)  # type: ignore[arg-type]
        yield error
        return
    checks = run.VALIDATORS
    for keyword, value in schema.items():
        check = checks.get(keyword)
        if check is None:
            continue
        for error in check(run, value, instance, schema) or ():
            if not isinstance(error.validator, str):
                error.validator, error.validator_value = keyword, value
                error.instance, error.schema = instance, schema
            if path is not None:
                error.path.appendleft(path)
            yield error


def fits(run: Run, instance: Any, schema: Schema) -> bool:
    """Is there no error?"""
    return next(walk(run, instance, schema), None) is None
