"""The keywords of JSON Schema that only some users' schemas have, and the table of all keywords.

They replace jsonschema's own where those do not take linear time, because an answer may have any size: jsonschema
compares every two items of a list, matches with Python's ``re``, and looks references up.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, Final

from jsonschema import Draft202012Validator

from airflow_chat_provider.core.request import validator
from airflow_chat_provider.core.request.patterns import matches
from airflow_chat_provider.core.request.validator import Check, Errors, Run, Schema, failure, fits, holds_unknown, walk
from airflow_chat_provider.core.types import JSON

_STANDARD: Final[dict[str, Check]] = dict(Draft202012Validator.VALIDATORS)
_FEW = 20  # texts that are looked through faster than anything else
# These compare whole values, and so cannot judge one that is partly unknown.
_WHOLE = ("const", "contains", "if", "not", "uniqueItems", "unevaluatedItems", "unevaluatedProperties")
_ALL_KEYS = ("additionalProperties", "unevaluatedProperties")


def form(value: JSON) -> str:
    """The same text for equal JSON values of any size: 1.0 equals 1, and true does not."""
    return json.dumps(_normal(value), sort_keys=True)


def _normal(value: JSON) -> JSON:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    return list(map(_normal, value)) if isinstance(value, list) else value


def _forms(values: list[Any]) -> frozenset[str]:
    return frozenset(map(form, values))


def _texts(values: list[Any]) -> frozenset[str]:
    return frozenset(value for value in values if isinstance(value, str))


def _repeats(items: list[Any], wanted: bool) -> bool:  # noqa: FBT001 - the keyword's value
    return wanted and len(set(map(form, items))) < len(items)


def _is_no_multiple(number: int | float, of: int | float) -> bool:  # noqa: PYI041 - mypy tells them apart
    """Numbers are compared as they are written: 0.3 is a multiple of 0.1, unlike the floats nearest to them."""
    if isinstance(number, float) and not math.isfinite(number):
        return True
    if isinstance(number, int) and isinstance(of, int):
        return number % of != 0
    from fractions import Fraction

    one, other = (Fraction(value if isinstance(value, int) else repr(value)) for value in (number, of))
    return (one / other).denominator != 1


def _enum(run: Run, allowed: list[Any], instance: Any, schema: Schema) -> Errors:
    if type(instance) is str:  # equal to no value of another type
        if instance not in (allowed if len(allowed) < _FEW else run.allowed(allowed, _texts)):
            yield failure("enum", allowed, instance, schema)
        return
    if (instance is None and schema.get("nullable")) or holds_unknown(instance):
        return
    if form(instance) not in run.allowed(allowed, _forms):
        yield failure("enum", allowed, instance, schema)


def _pattern(run: Run, pattern: str, instance: object, schema: Schema) -> Errors:
    if isinstance(instance, str) and not matches(pattern, instance):
        yield failure("pattern", pattern, instance, schema)


def _pattern_properties(run: Run, patterns: dict[str, Schema], instance: object, schema: Schema) -> Errors:
    if isinstance(instance, dict):
        for pattern, subschema in patterns.items():
            for name, value in instance.items():
                if matches(pattern, name):
                    yield from walk(run, value, subschema, name)


def _additional(run: Run, extra: Schema, instance: object, schema: Schema) -> Errors:
    if extra is not True and isinstance(instance, dict):
        known, patterns = schema.get("properties", ()), schema.get("patternProperties", ())
        names = [name for name in instance if name not in known and not any(matches(p, name) for p in patterns)]
        if extra is False and names:
            yield failure("additionalProperties", names, instance, schema)
        for name in names if extra else ():
            yield from walk(run, instance[name], extra, name)


def _not(run: Run, subschema: Schema, instance: object, schema: Schema) -> Errors:
    if fits(run, instance, subschema):
        yield failure("not", subschema, instance, schema)


def _contains(run: Run, subschema: Schema, instance: object, schema: Schema) -> Errors:
    if isinstance(instance, list):
        count = sum(fits(run, item, subschema) for item in instance)
        least, most = schema.get("minContains", 1), schema.get("maxContains", count)
        if count < least or count > most:
            keyword, value = ("minContains", least) if count < least else ("maxContains", most)
            yield failure(keyword if keyword in schema else "contains", value, instance, schema)


def _broken(keyword: str, kind: str, breaks: Callable[[Any, Any], bool]) -> Check:
    """A keyword that looks at values of one type."""

    def check(run: Run, value: Any, instance: object, schema: Schema) -> Errors:
        if run.is_type(instance, kind) and breaks(instance, value):
            yield failure(keyword, value, instance, schema)

    return check


def _sized(keyword: str, own: type[dict[Any, Any] | list[Any] | str], breaks: Callable[[int, Any], bool]) -> Check:
    """A keyword that looks at the length of values of one class."""

    def check(run: Run, limit: Any, instance: Any, schema: Schema) -> Errors:
        if isinstance(instance, own) and breaks(len(instance), limit):
            yield failure(keyword, limit, instance, schema)

    return check


def _lenient(original: Check) -> Check:
    """The keyword, but it accepts every value that holds an UNKNOWN."""

    def check(run: Run, value: Any, instance: object, schema: Schema) -> Errors:
        if not holds_unknown(instance):
            yield from original(run, value, instance, schema) or ()

    return check


def _unevaluated_properties(run: Run, subschema: Schema, instance: object, schema: Schema) -> Errors:
    if isinstance(instance, dict):
        seen = _seen(run, instance, {key: value for key, value in schema.items() if key != "unevaluatedProperties"})
        rest = [key for key in instance if key not in seen]
        yield from _unseen(run, subschema, instance, "unevaluatedProperties", rest)


def _unevaluated_items(run: Run, subschema: Schema, instance: object, schema: Schema) -> Errors:
    if isinstance(instance, list):
        seen = _seen(run, instance, {key: value for key, value in schema.items() if key != "unevaluatedItems"})
        rest = [index for index in range(len(instance)) if index not in seen]
        yield from _unseen(run, subschema, instance, "unevaluatedItems", rest)


def _unseen(run: Run, subschema: Schema, instance: Any, keyword: str, places: list[Any]) -> Errors:
    """The errors at ``places``: the keys or indices that no other keyword has looked at."""
    if subschema is False and places:
        yield failure(keyword, places, instance, subschema)
    elif subschema is not False:
        for place in places:
            yield from walk(run, instance[place], subschema, place)


def _seen(run: Run, instance: dict[str, Any] | list[Any], schema: Schema) -> set[Any]:
    """The keys or indices that a schema looks at."""
    if not isinstance(schema, dict):
        return set()
    run.left -= 1
    if run.left < 0:
        run.refill()
    seen = _keys(instance, schema) if isinstance(instance, dict) else _indices(run, instance, schema)
    for same in _in_place(run, instance, schema):
        seen |= _seen(run, instance, same)
    return seen


def _in_place(run: Run, instance: dict[str, Any] | list[Any], schema: dict[str, Any]) -> Iterator[Schema]:
    """The schemas in this one that look at the same value and accept it."""
    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        if keyword in schema:
            yield schema[keyword]
    for keyword in ("allOf", "anyOf", "oneOf"):
        yield from (branch for branch in schema.get(keyword, ()) if fits(run, instance, branch))
    if "if" in schema:
        holds = fits(run, instance, schema["if"])
        if holds:
            yield schema["if"]
        yield schema.get("then" if holds else "else", True)
    for key, dependent in schema.get("dependentSchemas", {}).items():
        if key in instance:
            yield dependent


def _keys(instance: dict[str, Any], schema: dict[str, Any]) -> set[Any]:
    if any(keyword in schema for keyword in _ALL_KEYS):
        return set(instance)
    seen = set(instance).intersection(schema.get("properties", ()))
    patterns = schema.get("patternProperties", ())
    return seen | {key for key in instance if any(matches(pattern, key) for pattern in patterns)}


def _indices(run: Run, instance: list[Any], schema: dict[str, Any]) -> set[Any]:
    items = schema.get("items")
    if "unevaluatedItems" in schema or (
        items is not None and ("additionalItems" in schema or not isinstance(items, list))
    ):
        return set(range(len(instance)))
    first = max(len(schema.get("prefixItems", ())), len(items or ()))
    seen = set(range(min(first, len(instance))))
    if "contains" in schema:
        seen |= {index for index, item in enumerate(instance) if fits(run, item, schema["contains"])}
    return seen


# Where a draft has the keyword as the newest one has it.
_OURS: Final[dict[str, Check]] = {
    "additionalProperties": _additional,
    "anyOf": validator.check_any_of,
    "contains": _contains,
    "enum": _enum,
    "exclusiveMaximum": _broken("exclusiveMaximum", "number", operator.ge),
    "exclusiveMinimum": _broken("exclusiveMinimum", "number", operator.le),
    "items": validator.check_items,
    "maximum": _broken("maximum", "number", operator.gt),
    "maxItems": _sized("maxItems", list, operator.gt),
    "maxLength": _sized("maxLength", str, operator.gt),
    "maxProperties": _sized("maxProperties", dict, operator.gt),
    "minimum": _broken("minimum", "number", operator.lt),
    "minItems": _sized("minItems", list, operator.lt),
    "minLength": _sized("minLength", str, operator.lt),
    "minProperties": _sized("minProperties", dict, operator.lt),
    "multipleOf": _broken("multipleOf", "number", _is_no_multiple),
    "not": _not,
    "oneOf": validator.check_one_of,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "properties": validator.check_properties,
    "required": validator.check_required,
    "type": validator.check_type,
    "uniqueItems": _broken("uniqueItems", "array", _repeats),
}
# In every draft that has them.
_LINKED: Final[dict[str, Check]] = {
    "$dynamicRef": validator.check_reference,
    "$recursiveRef": validator.check_reference,
    "$ref": validator.check_reference,
    "unevaluatedItems": _unevaluated_items,
    "unevaluatedProperties": _unevaluated_properties,
}


def checks_of(draft: Any) -> dict[str, Check]:
    """The keywords of a draft by their names. ``draft`` is jsonschema's class for it."""
    checks: dict[str, Check] = dict(draft.VALIDATORS)
    checks |= {name: check for name, check in _OURS.items() if checks.get(name) is _STANDARD[name]}
    checks |= {name: check for name, check in _LINKED.items() if name in checks}
    return checks | {name: _lenient(checks[name]) for name in _WHOLE if name in checks}


_NEWEST: Final = checks_of(Draft202012Validator)


def flat_validator(schema: Schema, draft: Any = Draft202012Validator) -> validator.FlatValidator:
    """The validator for a schema without references: a shipped one, or a user's after ``link``."""
    checks = _NEWEST if draft is Draft202012Validator else checks_of(draft)
    return validator.FlatValidator(schema, checks, validator.types_of_draft(draft))
