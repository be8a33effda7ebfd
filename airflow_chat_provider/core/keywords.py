"""jsonschema's keywords as OpenAPI means them: ``nullable``, ``discriminator``, and errors that quote no data.

Where jsonschema tries every branch of a ``oneOf`` and then explains why none fits, these look at the discriminator
(or at the one branch whose ``type`` fits), so that an error names the branch that was meant. ``UNKNOWN`` stands for a
value that only a template knows: every keyword lets it pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend


class Unknown:
    """The type of UNKNOWN."""

    def __repr__(self) -> str:
        return "<known when the task runs>"


UNKNOWN: Final = Unknown()

_WHOLE = ("const", "contains", "if", "not", "uniqueItems", "unevaluatedItems", "unevaluatedProperties")

Errors = Iterator[ValidationError]
Descend = Callable[..., Errors]
Schema = Any  # a JSON Schema: a dict, or True / False


def holds_unknown(value: Any) -> bool:
    """Is there an UNKNOWN anywhere in value?"""
    if isinstance(value, dict):
        return any(map(holds_unknown, value.values()))
    if isinstance(value, list):
        return any(map(holds_unknown, value))
    return value is UNKNOWN


def failure(
    keyword: str, value: Any, instance: Any, schema: Schema, path: tuple[str | int, ...] = ()
) -> ValidationError:
    """A ValidationError without a message: jsonschema's own messages quote the prompt."""
    return ValidationError("", validator=keyword, validator_value=value, instance=instance, schema=schema, path=path)


def types_of(schema: Schema) -> list[str]:
    """The type names that a schema states, null included where it is ``nullable``."""
    stated = schema.get("type", ())
    names = [stated] if isinstance(stated, str) else list(stated)
    return [*names, "null"] if names and schema.get("nullable") and "null" not in names else names


def discriminator(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema's ``discriminator`` where it is one as OpenAPI 3 writes it."""
    found = schema.get("discriminator")
    return found if isinstance(found, dict) and isinstance(found.get("propertyName"), str) else None


def _type(validator: Any, types: Any, instance: Any, schema: Schema) -> Errors:
    if instance is UNKNOWN or (instance is None and schema.get("nullable")):
        return
    if isinstance(types, str):
        if validator.is_type(instance, types):
            return
    elif any(validator.is_type(instance, name) for name in types):
        return
    yield failure("type", types_of(schema), instance, schema)


def _enum(validator: Any, allowed: Any, instance: Any, schema: Schema) -> Errors:
    if type(instance) is str:  # equal to no value of another type
        if instance not in allowed:
            yield failure("enum", allowed, instance, schema)
        return
    if (instance is None and schema.get("nullable")) or holds_unknown(instance):
        return
    if next(Draft202012Validator.VALIDATORS["enum"](validator, allowed, instance, schema), None):
        yield failure("enum", allowed, instance, schema)


def _required(validator: Any, names: Any, instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, dict):
        for name in names:
            if name not in instance:
                yield failure("required", name, instance, schema)


def _fits(validator: Any, branch: Schema, instance: Any) -> bool:
    """May ``instance`` match the branch, as far as its ``type`` tells?"""
    if not isinstance(branch, dict):
        return bool(branch)
    names = types_of(branch)
    return not names or any(validator.is_type(instance, name) for name in names)


def _discriminated(descend: Descend, validator: Any, instance: Any, schema: Schema) -> Errors | None:
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
    return descend(validator, instance, {"$ref": branch} if isinstance(branch, str) else branch)


def _choice(descend: Descend, keyword: str) -> Callable[..., Errors]:
    def check(validator: Any, branches: list[Schema], instance: Any, schema: Schema) -> Errors:
        if instance is UNKNOWN:
            return
        if (found := _discriminated(descend, validator, instance, schema)) is not None:
            yield from found
            return
        fitting = [branch for branch in branches if _fits(validator, branch, instance)]
        if not fitting:
            names = dict.fromkeys(name for b in branches if isinstance(b, dict) for name in types_of(b))
            yield failure("type", list(names), instance, schema)
        elif len(fitting) == 1:  # no other branch can match
            yield from descend(validator, instance, fitting[0])
        else:
            matching = sum(next(descend(validator, instance, branch), None) is None for branch in fitting)
            if matching == 0 or (keyword == "oneOf" and matching > 1 and not holds_unknown(instance)):
                yield failure(keyword, matching, instance, schema)

    return check


def _lenient(original: Callable[..., Any]) -> Callable[..., Errors]:
    """A keyword that compares whole values, and so cannot judge one that is partly unknown."""

    def check(validator: Any, value: Any, instance: Any, schema: Schema) -> Errors:
        if not holds_unknown(instance):
            yield from original(validator, value, instance, schema) or ()

    return check


def _keywords(descend: Descend, validator_class: Any) -> dict[str, Callable[..., Errors]]:
    known = validator_class.VALIDATORS
    whole = {name: _lenient(known[name]) for name in _WHOLE if name in known}
    choices = {name: _choice(descend, name) for name in ("oneOf", "anyOf")}
    ours = {"type": _type, "enum": _enum, "required": _required, **whole, **choices}
    return {name: check for name, check in ours.items() if name in known}  # an older draft has fewer


def _walk(validator: Any, instance: Any, schema: Schema, path: object = None) -> Errors:
    """jsonschema's ``descend`` for a schema without references: no resolver and no new validator at each step."""
    checks = validator.VALIDATORS
    for keyword, value in schema.items():
        check = checks.get(keyword)
        if check is None:
            continue
        for error in check(validator, value, instance, schema) or ():
            if not isinstance(error.validator, str):
                error.validator, error.validator_value = keyword, value
                error.instance, error.schema = instance, schema
            if path is not None:
                error.path.appendleft(path)
            yield error


def _properties(validator: Any, properties: dict[str, Schema], instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, dict):
        for name, subschema in properties.items():
            if name in instance:
                yield from _walk(validator, instance[name], subschema, name)


def _items(validator: Any, subschema: Schema, instance: Any, schema: Schema) -> Errors:
    if isinstance(instance, list):
        for index, item in enumerate(instance):
            yield from _walk(validator, item, subschema, index)


def _standard_descend(validator: Any, instance: Any, schema: Schema) -> Errors:
    return iter(validator.descend(instance, schema))


def _additional(validator: Any, extra: Schema, instance: Any, schema: Schema) -> Errors:
    if extra is not True and isinstance(instance, dict):
        names = [name for name in instance if name not in schema.get("properties", ())]
        if extra is False and names:
            yield failure("additionalProperties", extra, instance, schema)
        for name in names if extra else ():
            yield from _walk(validator, instance[name], extra, name)


class FlatValidator:
    """The validator of the schemas that we ship, whose references are inlined when they are loaded.

    Not made by jsonschema's ``extend``, which takes a millisecond, and walks twice as slowly.
    """

    VALIDATORS: ClassVar[dict[str, Callable[..., Any]]] = {
        **Draft202012Validator.VALIDATORS,
        **_keywords(_walk, Draft202012Validator),
        "properties": _properties,
        "items": _items,
        "additionalProperties": _additional,
    }

    format_checker = None  # jsonschema's keyword `format` asks for it; formats are not asserted

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def is_type(self, instance: Any, name: str) -> bool:
        return bool(Draft202012Validator.TYPE_CHECKER.is_type(instance, name))

    def iter_errors(self, instance: Any) -> Errors:
        return _walk(self, instance, self._schema)


def extended(validator_class: Any) -> Any:
    """A user's schema: any draft and references, with the same meaning of nullable and discriminator."""
    return extend(validator_class, _keywords(_standard_descend, validator_class))  # type: ignore[no-untyped-call]
