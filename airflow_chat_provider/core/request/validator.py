"""jsonschema's keywords as OpenAPI means them: ``nullable``, ``discriminator``, and errors that quote no data.

Where jsonschema tries every branch of a ``oneOf`` and then explains why none fits, these look at the discriminator
(or at the one branch whose ``type`` fits), so that an error names the branch that was meant. ``UNKNOWN`` stands for a
value that only a template knows: every keyword lets it pass.

None takes longer than in proportion to the value: an answer of any size may come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from jsonschema import Draft202012Validator

from airflow_chat_provider.core.request.equality import form, is_multiple, repeats
from airflow_chat_provider.core.request.patterns import matches
from airflow_chat_provider.core.request.unevaluated import unevaluated_items, unevaluated_properties
from airflow_chat_provider.core.request.walk import (
    Check,
    Errors,
    FlatValidator,
    Run,
    Schema,
    failure,
    fits,
    types_of_draft,
    walk,
)


class Unknown:
    """The type of UNKNOWN."""

    def __repr__(self) -> str:
        return "<known when the task runs>"


UNKNOWN: Final = Unknown()

_STANDARD: Final[dict[str, Check]] = dict(Draft202012Validator.VALIDATORS)
_FEW = 20  # texts that are looked through faster than anything else
# These compare whole values, and so cannot judge one that is partly unknown.
_WHOLE = ("const", "contains", "if", "not", "uniqueItems", "unevaluatedItems", "unevaluatedProperties")


def holds_unknown(value: Any) -> bool:
    """Is there an UNKNOWN anywhere in value?"""
    if isinstance(value, dict):
        return any(map(holds_unknown, value.values()))
    if isinstance(value, list):
        return any(map(holds_unknown, value))
    return value is UNKNOWN


def types_of(schema: Schema) -> list[str]:
    """The type names that a schema states, null included where it is ``nullable``."""
    stated = schema.get("type", ())
    names = [stated] if isinstance(stated, str) else list(stated)
    return [*names, "null"] if names and schema.get("nullable") and "null" not in names else names


def discriminator(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema's ``discriminator`` where it is one as OpenAPI 3 writes it."""
    found = schema.get("discriminator")
    if not isinstance(found, dict) or not isinstance(found.get("propertyName"), str):
        return None
    mapping = found.get("mapping", {})
    return found if isinstance(mapping, dict) and all(isinstance(to, str | dict) for to in mapping.values()) else None


def _type(run: Run, types: Any, instance: Any, schema: Schema) -> Errors:
    if instance is UNKNOWN or (instance is None and schema.get("nullable")):
        return
    if isinstance(types, str):
        if run.is_type(instance, types):
            return
    elif any(run.is_type(instance, name) for name in types):
        return
    yield failure("type", types_of(schema), instance, schema)


def _enum(run: Run, allowed: Any, instance: Any, schema: Schema) -> Errors:
    if type(instance) is str and len(allowed) < _FEW:  # equal to no value of another type
        if instance not in allowed:
            yield failure("enum", allowed, instance, schema)
        return
    if (instance is None and schema.get("nullable")) or holds_unknown(instance):
        return
    if form(instance) not in run.allowed(allowed, form):
        yield failure("enum", allowed, instance, schema)


def _required(run: Run, names: Any, instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, dict):
        for name in names:
            if name not in instance:
                yield failure("required", name, instance, schema)


def _may_fit(run: Run, branch: Schema, instance: Any) -> bool:
    """May ``instance`` match the branch, as far as its ``type`` tells?"""
    if not isinstance(branch, dict):
        return bool(branch)
    names = types_of(branch)
    return not names or any(run.is_type(instance, name) for name in names)


def _discriminated(run: Run, instance: Any, schema: Schema) -> Errors | None:
    """The errors of the branch that the discriminator names; None where it names none of ours to judge."""
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


def _choice(keyword: str) -> Check:
    def check(run: Run, branches: list[Schema], instance: Any, schema: Schema) -> Errors:
        if instance is UNKNOWN:
            return
        if (found := _discriminated(run, instance, schema)) is not None:
            yield from found
            return
        fitting = [branch for branch in branches if _may_fit(run, branch, instance)]
        if not fitting:
            names = dict.fromkeys(name for b in branches if isinstance(b, dict) for name in types_of(b))
            yield failure("type", list(names), instance, schema)
        elif len(fitting) == 1:  # no other branch can match
            yield from walk(run, instance, fitting[0])
        else:
            matching = sum(_matching(run, branch, instance) for branch in fitting)
            if matching == 0 or (keyword == "oneOf" and matching > 1 and not holds_unknown(instance)):
                yield failure(keyword, matching, instance, schema)

    return check


def _matching(run: Run, branch: Schema, instance: Any) -> bool:
    """Does a branch fit? Each is tried once on a value: trees of such choices would be tried without end."""
    key = (id(branch), id(instance))
    if key not in run.known:
        run.known[key] = fits(run, instance, branch)
    return run.known[key]


def _lenient(original: Check) -> Check:
    """A keyword that lets pass what it cannot judge."""

    def check(run: Run, value: Any, instance: Any, schema: Schema) -> Errors:
        if not holds_unknown(instance):
            yield from original(run, value, instance, schema) or ()

    return check


def _reference(run: Run, target: Schema, instance: Any, schema: Schema) -> Errors:
    return walk(run, instance, target)


def _properties(run: Run, properties: dict[str, Schema], instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, dict):
        for name, subschema in properties.items():
            if name in instance:
                yield from walk(run, instance[name], subschema, name)


def _items(run: Run, subschema: Schema, instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, list):
        for index in range(len(schema.get("prefixItems", ())), len(instance)):
            yield from walk(run, instance[index], subschema, index)


def _pattern_properties(run: Run, patterns: dict[str, Schema], instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, dict):
        for pattern, subschema in patterns.items():
            for name, value in instance.items():
                if matches(pattern, name):
                    yield from walk(run, value, subschema, name)


def _additional(run: Run, extra: Schema, instance: Any, schema: Schema) -> Errors:
    if extra is not True and isinstance(instance, dict):
        known, patterns = schema.get("properties", ()), schema.get("patternProperties", ())
        names = [name for name in instance if name not in known and not any(matches(p, name) for p in patterns)]
        if extra is False and names:
            yield failure("additionalProperties", names, instance, schema)
        for name in names if extra else ():
            yield from walk(run, instance[name], extra, name)


def _pattern(run: Run, pattern: str, instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, str) and not matches(pattern, instance):
        yield failure("pattern", pattern, instance, schema)


def _broken(keyword: str, kind: str, breaks: Callable[[Any, Any], bool]) -> Check:
    """A keyword that looks at values of one type and gives one verdict."""

    def check(run: Run, value: Any, instance: Any, schema: Schema) -> Errors:
        if run.is_type(instance, kind) and breaks(instance, value):
            yield failure(keyword, value, instance, schema)

    return check


def _not(run: Run, subschema: Schema, instance: Any, schema: Schema) -> Errors:
    if fits(run, instance, subschema):
        yield failure("not", subschema, instance, schema)


def _contains(run: Run, subschema: Schema, instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, list):
        count = sum(fits(run, item, subschema) for item in instance)
        least, most = schema.get("minContains", 1), schema.get("maxContains", count)
        if count < least or count > most:
            keyword, value = ("minContains", least) if count < least else ("maxContains", most)
            yield failure(keyword if keyword in schema else "contains", value, instance, schema)


# Where a draft has the keyword as the newest one has it.
_OURS: Final[dict[str, Check]] = {
    "additionalProperties": _additional,
    "anyOf": _choice("anyOf"),
    "contains": _contains,
    "enum": _enum,
    "exclusiveMaximum": _broken("exclusiveMaximum", "number", lambda number, limit: number >= limit),
    "exclusiveMinimum": _broken("exclusiveMinimum", "number", lambda number, limit: number <= limit),
    "items": _items,
    "maximum": _broken("maximum", "number", lambda number, limit: number > limit),
    "maxItems": _broken("maxItems", "array", lambda items, limit: len(items) > limit),
    "maxLength": _broken("maxLength", "string", lambda text, limit: len(text) > limit),
    "maxProperties": _broken("maxProperties", "object", lambda keys, limit: len(keys) > limit),
    "minimum": _broken("minimum", "number", lambda number, limit: number < limit),
    "minItems": _broken("minItems", "array", lambda items, limit: len(items) < limit),
    "minLength": _broken("minLength", "string", lambda text, limit: len(text) < limit),
    "minProperties": _broken("minProperties", "object", lambda keys, limit: len(keys) < limit),
    "multipleOf": _broken("multipleOf", "number", lambda number, of: not is_multiple(number, of)),
    "not": _not,
    "oneOf": _choice("oneOf"),
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "properties": _properties,
    "required": _required,
    "type": _type,
    "uniqueItems": _broken("uniqueItems", "array", lambda items, wanted: wanted and repeats(items)),
}
# In every draft that has them.
_LINKED: Final[dict[str, Check]] = {
    "$dynamicRef": _reference,
    "$recursiveRef": _reference,
    "$ref": _reference,
    "unevaluatedItems": unevaluated_items,
    "unevaluatedProperties": unevaluated_properties,
}


def checks_of(draft: Any) -> dict[str, Check]:
    """The keywords of a draft, given as jsonschema's class for it."""
    checks: dict[str, Check] = dict(draft.VALIDATORS)
    checks |= {name: check for name, check in _OURS.items() if checks.get(name) is _STANDARD[name]}
    checks |= {name: check for name, check in _LINKED.items() if name in checks}
    return checks | {name: _lenient(checks[name]) for name in _WHOLE if name in checks}


_NEWEST: Final = checks_of(Draft202012Validator)


def flat_validator(schema: Schema, draft: Any = Draft202012Validator) -> FlatValidator:
    """The validator of a schema without references: of ours, which are inlined, or of a user's, once it is linked."""
    checks = _NEWEST if draft is Draft202012Validator else checks_of(draft)
    return FlatValidator(schema, checks, types_of_draft(draft))
