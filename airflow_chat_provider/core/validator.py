"""The walk through a schema whose references have been replaced by what they refer to.

jsonschema's own resolves each reference when a value gets there, makes a validator at each step, and writes the value
into each message. Here nothing is left to be found out while an answer is looked at, and the work has an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jsonschema import ValidationError

from airflow_chat_provider.core.patterns import TooMuchWork

_MOST_STEPS = 2_000_000  # some seconds; a request or an answer of ten megabytes takes a tenth of that

Errors = Iterator[ValidationError]
Schema = Any  # a JSON Schema: a dict, or True / False
Check = Callable[..., Any]


def failure(
    keyword: str, value: Any, instance: Any, schema: Schema, path: tuple[str | int, ...] = ()
) -> ValidationError:
    """A ValidationError without a message: jsonschema's own messages quote the data."""
    return ValidationError("", validator=keyword, validator_value=value, instance=instance, schema=schema, path=path)


class Run:
    """One validation, as jsonschema's keywords expect a validator to be. ``known``: verdicts that stand already."""

    __slots__ = ("VALIDATORS", "_steps", "_texts", "_types", "known")

    format_checker = None  # jsonschema's keyword `format` asks for it; formats are not asserted

    def __init__(self, checks: Mapping[str, Check], types: Any) -> None:
        self.VALIDATORS = checks
        self._types = types
        self._steps = 0
        self._texts: dict[int, frozenset[str]] = {}
        self.known: dict[tuple[int, int], bool] = {}

    def step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise TooMuchWork

    def texts(self, allowed: list[Any]) -> frozenset[str]:
        """The texts among the values of an ``enum``, for which an answer may ask a million times."""
        if id(allowed) not in self._texts:
            self._texts[id(allowed)] = frozenset(value for value in allowed if isinstance(value, str))
        return self._texts[id(allowed)]

    def is_type(self, instance: Any, name: str) -> bool:
        return bool(self._types.is_type(instance, name))

    def descend(self, instance: Any, schema: Schema, path: object = None, schema_path: object = None) -> Errors:  # noqa: ARG002 - jsonschema's signature
        return walk(self, instance, schema, path)

    def evolve(self, *, schema: Schema) -> Part:
        return Part(self, schema)


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

    def __init__(self, schema: Schema, checks: Mapping[str, Check], types: Any) -> None:
        self._schema = schema
        self._checks = checks
        self._types = types

    def iter_errors(self, instance: Any) -> Errors:
        """What is wrong, as it is found. Raises TooMuchWork, and RecursionError where ``instance`` is too deep."""
        return walk(Run(self._checks, self._types), instance, self._schema)


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
