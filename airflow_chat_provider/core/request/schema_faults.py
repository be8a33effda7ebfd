"""What is wrong with a JSON Schema, for its author: where it is, what it must be, and what was probably meant.

jsonschema finds the place; but where one keyword has several forms, it only says that none of them fits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from jsonschema import SchemaError

from airflow_chat_provider.core.paths import join
from airflow_chat_provider.core.request.wording import describe, kind, one_of
from airflow_chat_provider.core.spelling import misspelling

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_ALLOWED = ", ".join(map(repr, _TYPES))
# What other languages, libraries and databases call them.
_OTHER_NAMES = {
    "string": "str text varchar char date datetime time timestamp uuid email url uri enum",
    "integer": "int long int32 int64 bigint smallint",
    "number": "float double decimal real numeric float32 float64",
    "boolean": "bool bit",
    "array": "list tuple set sequence",
    "object": "dict map mapping record struct json any",
    "null": "none nil nonetype undefined",
}
_FORMATS = {"datetime": "date-time", "timestamp": "date-time", "url": "uri"} | {
    name: name for name in ("date", "time", "uuid", "email", "uri")
}
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_SCHEMAS = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
# Keywords that say something of a value, or describe the schema. Without any of them it lets everything pass.
_KEYWORDS = frozenset(
    f"""
    $anchor $comment $defs $dynamicAnchor $dynamicRef $id $recursiveRef $ref $schema $vocabulary additionalItems
    const contentEncoding contentMediaType contentSchema default definitions dependencies dependentRequired
    deprecated description disallow divisibleBy enum examples exclusiveMaximum exclusiveMinimum extends format id
    maxContains maxItems maxLength maxProperties maximum minContains minItems minLength minProperties minimum
    multipleOf nullable discriminator pattern readOnly required title type unevaluatedItems unevaluatedProperties
    uniqueItems writeOnly {" ".join((*_MAPS, *_SCHEMAS, *_LISTS))}
    """.split()
)
_LONGEST = 32  # characters of a name that is shown


def fault_of(error: SchemaError) -> tuple[str, str]:
    """The place, and what is wrong there."""
    path, value = list(error.absolute_path), error.instance
    found = _of_keyword(path, value)
    if found is None and error.validator == "type":
        found = f"must be {one_of(cast('Any', error.validator_value))}, got {kind(value)}"
    if found is None and error.validator == "uniqueItems":
        found = "has an item twice"
    return join(path), found or describe(error)


def _of_keyword(path: list[Any], value: Any) -> str | None:
    """What is wrong, if it is one of the slips that are made again and again."""
    last: Any = path[-1] if path else None
    if _is_keyword(path, "type"):
        return _of_type(value)
    if _is_keyword(path, "required") and isinstance(value, bool):
        owner = path[-2] if len(path) > 2 and path[-3] == "properties" else "name"
        return f'must be a list of names: leave it out here, and write "required": ["{owner}"] beside "properties"'
    if last in ("required", "enum") and isinstance(value, str):
        return f"must be a list, got a string: write [{json.dumps(value[:_LONGEST])}]"
    if last == "properties" and isinstance(value, list):
        return 'must be an object that has a schema for each name, as {"name": {"type": "string"}}, got an array'
    if _is_schema(path) and isinstance(value, str):
        if value.lower() in ("true", "false"):
            return "must be true or false or a schema, got a string: write it without quotes"
        hint = f"; write {_written(value)}" if _meant(value) else ""
        return f"must be a schema (an object), got a string{hint}"
    if last == "items" and isinstance(value, list):
        return 'must be one schema for all items, got an array; for one schema for each place, write "prefixItems"'
    return None


def _is_keyword(path: list[Any], name: str) -> bool:
    """Does a path end in this keyword, and not in a property of that name?"""
    return path[-1:] == [name] and (len(path) < 2 or path[-2] not in _MAPS or path[-3:-2] == ["properties"])


def _is_schema(path: list[Any]) -> bool:
    """Does a schema belong at the end of this path?"""
    last, above = (path[-1] if path else None), (path[-2] if len(path) > 1 else None)
    return above in _MAPS or last in _SCHEMAS or (isinstance(last, int) and above in (*_LISTS, "items"))


def _of_type(value: Any) -> str:
    if isinstance(value, list):
        if not value:
            return f"is an empty list, but must be one of {_ALLOWED}, or a list of them"
        value = next((item for item in value if item not in _TYPES), None)
        if value is None:
            return "names a type twice"
    if not isinstance(value, str):
        return f"must be one of {_ALLOWED}, or a list of them, got {kind(value)}"
    meant = f"write {_meant_type(value)}; " if _meant(value) else ""
    return f"is {_quoted(value)}, which is not a type: {meant}the types are {_ALLOWED}"


def _meant(name: str) -> str | None:
    """The type that somebody means by another name."""
    lower = name.strip().lower()
    if lower in _TYPES:
        return lower
    own = next((own for own, others in _OTHER_NAMES.items() if lower in others.split()), None)
    return own or misspelling(name, _TYPES)


def _meant_type(name: str) -> str:
    form = _FORMATS.get(name.lower())
    return f'"{_meant(name)}"' + (f' and beside it "format": "{form}"' if form else "")


def _written(name: str) -> str:
    """The whole schema that somebody means by the name of a type."""
    form = _FORMATS.get(name.lower())
    return f'{{"type": "{_meant(name)}"' + (f', "format": "{form}"}}' if form else "}")


def _quoted(name: str) -> str:
    return repr(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…")


def check_shape(schema: Mapping[str, Any]) -> str | None:
    """What is wrong with an answer's schema that is no schema at all, and lets everything pass; None if it is one."""
    wrapper = schema.get("json_schema")
    if schema.get("type") == "json_schema" and isinstance(wrapper, Mapping):
        return 'it is a response_format: give the schema in it, response_format["json_schema"]["schema"]'
    if not schema or not _KEYWORDS.isdisjoint(schema):
        return None
    if isinstance(schema.get("schema"), Mapping):
        return 'it is what stands around a schema in a response_format: give its "schema" alone'
    if isinstance(schema.get("parameters"), Mapping):
        return 'it is a function of a tool: give its "parameters" alone'
    names = ", ".join(_quoted(str(name)) for name in list(schema)[:3])
    return (
        f"it has no keyword of JSON Schema, only {names}, so every answer would fit; write "
        '{"type": "object", "properties": {...}} around the names'
    )


def not_json(schema: object) -> str:
    """Which value of a schema is not JSON, and what to write instead."""
    path, value = next(_strange(schema, ()), ((), None))
    at = join(path)
    if isinstance(value, type):
        todo = "write a schema"
        if path[-1:] == ("type",) and (meant := _meant(value.__name__)):
            todo = f'write "{meant}"'
        elif callable(getattr(value, "model_json_schema", None)):
            todo = "make a model class of the whole, or write the class's schema there"
        return f"{at} is the class {value.__name__}, not JSON: {todo}"
    return f"{at} is {kind(value)}, which JSON cannot hold" if path else "it holds a value that JSON cannot hold"


def _strange(value: object, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], object]]:
    """Each value that JSON cannot hold, with its path."""
    if len(path) > 64:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strange(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _strange(item, (*path, index))
    elif value is not None and not isinstance(value, str | int | float):
        yield path, value
