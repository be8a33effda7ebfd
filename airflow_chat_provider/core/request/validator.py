"""The walk of a value through a schema, and the keywords that nearly every schema has.

jsonschema's own walk resolves each reference on the way, makes a validator at each step, and writes the value into each
message. Here a schema has no references left, no message quotes the data, and the time is linear in the size of the
value.

The keywords include OpenAPI's ``nullable`` and ``discriminator``. jsonschema tries every branch of a ``oneOf`` and then
explains why none fits; here the discriminator, or the one branch whose ``type`` fits, tells which branch was meant, and
the error is about that one. ``UNKNOWN`` stands for a value that only a template knows: every keyword accepts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from jsonschema import ValidationError

from airflow_chat_provider.core.request.patterns import TooMuchWork

_STEPS = 100_000  # a quarter of a second
_STEPS_EACH = 50  # for each value in what is looked at; a schema that needs more tries the same again and again

Errors = Iterator[ValidationError]
Schema = Any  # a JSON Schema: a dict, or True / False
Check = Callable[..., Any]
Types = Mapping[str, Callable[[object], bool]]


class Unknown:
    """The type of UNKNOWN."""

    def __repr__(self) -> str:
        return "<known when the task runs>"


UNKNOWN: Final = Unknown()


def holds_unknown(value: object) -> bool:
    """Is there an UNKNOWN anywhere in ``value``?"""
    if isinstance(value, dict):
        return any(map(holds_unknown, value.values()))
    if isinstance(value, list):
        return any(map(holds_unknown, value))
    return value is UNKNOWN


def failure(
    keyword: str, value: object, instance: object, schema: Schema, path: tuple[str | int, ...] = ()
) -> ValidationError:
    """A ValidationError without a message, since jsonschema's own messages quote the data."""
    # jsonschema's annotations leave out what a draft's schemas may hold.
    parts: dict[str, Any] = {"validator_value": value, "instance": instance, "schema": schema}
    return ValidationError("", validator=keyword, path=path, **parts)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return _is_int(value) or (isinstance(value, float) and value.is_integer())


def _anything(value: object) -> bool:
    return True


def types_of_draft(draft: Any) -> Types:
    """For each name of a type, the test whether a value has it. ``draft`` is jsonschema's class for the draft.

    jsonschema's type checker is not used: it looks the tests up in Rust, which panics if Python's stack is full, and a
    panic is not an ``Exception``.
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


# The same for Python's own classes, of which nearly every value is; a float's type depends on the draft.
_TYPES_OF: Final[dict[type, tuple[str, ...]]] = {
    bool: ("boolean",),
    dict: ("object",),
    int: ("integer", "number"),
    list: ("array",),
    str: ("string",),
    type(None): ("null",),
}


class Run:
    """One validation, with the interface that jsonschema's keywords expect of a validator.

    ``known`` keeps verdicts by the ids of branch and value. ``left`` is the number of steps until the work is too much.
    """

    __slots__ = ("VALIDATORS", "_allowed", "_types", "_whole", "known", "left")

    format_checker = None  # jsonschema's keyword `format` asks for it; formats are not asserted

    def __init__(self, checks: Mapping[str, Check], types: Types, whole: object) -> None:
        self.VALIDATORS = checks
        self.left = _STEPS  # looks at a value that may still be taken
        self._types = types
        self._whole: list[object] = [whole]
        self._allowed: dict[tuple[int, Callable[..., Any]], frozenset[str]] = {}
        self.known: dict[tuple[int, int], bool] = {}

    def refill(self) -> None:
        """Grant a large value as many more steps as its size makes likely, once. Raises TooMuchWork the second time."""
        if not self._whole:
            raise TooMuchWork
        self.left += _STEPS_EACH * _values_in(self._whole.pop())

    def allowed(self, values: list[Any], read: Callable[[list[Any]], frozenset[str]]) -> frozenset[str]:
        """The values of an ``enum`` as ``read`` gives them. Kept, because an answer may ask a million times."""
        key = (id(values), read)
        if key not in self._allowed:
            self._allowed[key] = read(values)
        return self._allowed[key]

    def is_type(self, instance: object, name: str) -> bool:
        return self._types.get(name, _anything)(instance)

    def descend(self, instance: object, schema: Schema, path: object = None, schema_path: object = None) -> Errors:  # noqa: ARG002 - jsonschema's signature
        return walk(self, instance, schema, path)

    def evolve(self, *, schema: Schema) -> Part:
        return Part(self, schema)


def _values_in(value: object) -> int:
    count, stack = 0, [value]
    while stack:
        count += 1
        inner = stack.pop()
        stack.extend(inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ())
    return count


class Part:
    """The same validation for a part of the schema, as jsonschema's ``evolve`` returns it."""

    __slots__ = ("_run", "_schema")

    def __init__(self, run: Run, schema: Schema) -> None:
        self._run = run
        self._schema = schema

    def is_valid(self, instance: object) -> bool:
        return fits(self._run, instance, self._schema)


class FlatValidator:
    """A schema without references, with its draft's keywords and types."""

    def __init__(self, schema: Schema, checks: Mapping[str, Check], types: Types) -> None:
        self._schema = schema
        self._checks = checks
        self._types = types

    def iter_errors(self, instance: object) -> Errors:
        """The errors, as they are found. Raises TooMuchWork, and RecursionError if ``instance`` is too deep."""
        return walk(Run(self._checks, self._types, instance), instance, self._schema)


def walk(run: Run, instance: object, schema: Schema, path: object = None) -> Errors:
    """The errors of ``instance``, which stands at ``path`` in the value around it."""
    run.left -= 1
    if run.left < 0:
        run.refill()
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


def fits(run: Run, instance: object, schema: Schema) -> bool:
    """Is there no error?"""
    return next(walk(run, instance, schema), None) is None


def types_of(schema: Schema) -> list[str]:
    """The names of the types that a schema states, with null if it is ``nullable``."""
    stated = schema.get("type", ())
    names = [stated] if isinstance(stated, str) else list(stated)
    return [*names, "null"] if names and schema.get("nullable") and "null" not in names else names


def discriminator(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema's ``discriminator``, if it has the form that OpenAPI 3 describes."""
    found = schema.get("discriminator")
    if not isinstance(found, dict) or not isinstance(found.get("propertyName"), str):
        return None
    mapping = found.get("mapping", {})
    return found if isinstance(mapping, dict) and all(isinstance(to, str | dict) for to in mapping.values()) else None


def check_type(run: Run, types: str | list[Any], instance: object, schema: Schema) -> Errors:
    if instance is UNKNOWN or (instance is None and schema.get("nullable")):
        return
    quick = _TYPES_OF.get(type(instance), ())
    for name in [types] if isinstance(types, str) else types:
        if name in quick or run.is_type(instance, name):
            return
    yield failure("type", types_of(schema), instance, schema)


def check_required(run: Run, names: list[str], instance: object, schema: Schema) -> Errors:
    if isinstance(instance, dict):
        for name in names:
            if name not in instance:
                yield failure("required", name, instance, schema)


def check_properties(run: Run, properties: dict[str, Schema], instance: object, schema: Schema) -> Errors:
    if isinstance(instance, dict):
        for name, subschema in properties.items():
            if name in instance:
                yield from walk(run, instance[name], subschema, name)


def check_items(run: Run, subschema: Schema, instance: object, schema: Schema) -> Errors:
    if isinstance(instance, list):
        for index in range(len(schema.get("prefixItems", ())), len(instance)):
            yield from walk(run, instance[index], subschema, index)


def check_reference(run: Run, target: Schema, instance: object, schema: Schema) -> Errors:
    return walk(run, instance, target)


def _check_choice(run: Run, branches: list[Schema], instance: object, schema: Schema, keyword: str) -> Errors:
    if instance is UNKNOWN:
        return
    if "discriminator" in schema and (found := _discriminated(run, instance, schema)) is not None:
        yield from found
        return
    quick = _TYPES_OF.get(type(instance), ())
    fitting = []
    for branch in branches:
        stated = branch.get("type") if isinstance(branch, dict) else None
        if (isinstance(stated, str) and stated in quick) or _may_fit(run, branch, instance):
            fitting.append(branch)
    if not fitting:
        names = dict.fromkeys(name for b in branches if isinstance(b, dict) for name in types_of(b))
        yield failure("type", list(names), instance, schema)
    elif len(fitting) == 1:  # no other branch can match
        yield from walk(run, instance, fitting[0])
    else:
        yield from _check_each(run, fitting, instance, schema, keyword)


check_any_of = partial(_check_choice, keyword="anyOf")
check_one_of = partial(_check_choice, keyword="oneOf")


def _check_each(run: Run, fitting: list[Schema], instance: object, schema: Schema, keyword: str) -> Errors:
    """Try the branches. Each is tried once for a value: nested choices would otherwise take exponential time."""
    matching = 0
    for branch in fitting:
        key = (id(branch), id(instance))
        if key not in run.known:
            run.known[key] = fits(run, instance, branch)
        matching += run.known[key]
        if matching and keyword == "anyOf":
            return
    if matching == 0 or (matching > 1 and not holds_unknown(instance)):
        yield failure(keyword, matching, instance, schema)


def _may_fit(run: Run, branch: Schema, instance: object) -> bool:
    """Can ``instance`` match the branch, judging by its ``type``?"""
    if not isinstance(branch, dict):
        return bool(branch)
    if "type" not in branch:
        return True
    return any(run.is_type(instance, name) for name in types_of(branch))


def _discriminated(run: Run, instance: object, schema: Schema) -> Errors | None:
    """The errors of the branch that the discriminator names; None if no discriminator can judge."""
    stated = discriminator(schema)
    if stated is None:
        return None
    name, mapping = stated["propertyName"], stated.get("mapping", {})
    if not isinstance(instance, dict):
        return iter([failure("type", ["object"], instance, schema)])
    if name not in instance and "defaultMapping" not in stated:
        return iter([failure("required", name, instance, schema)])
    value = instance.get(name)
    if value is UNKNOWN:
        return iter(())
    branch = mapping.get(value) if isinstance(value, str) else None
    if branch is None and name not in instance:
        branch = stated["defaultMapping"]
    if branch is None:
        return iter([failure("enum", list(mapping), value, schema, (name,))]) if mapping else None
    return walk(run, instance, branch)
