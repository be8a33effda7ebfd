"""Which JSON type the schema states at each path, and values converted to it.

A template always renders to text, and a value from XCom has whatever type its producer gave it: the schema decides
that ``temperature`` is a number and ``content`` is text. Only values that cannot stand as they are get converted.
"""

from __future__ import annotations

import ast
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from airflow_chat_provider.core.json_text.nesting import TooDeep, loads, too_deep
from airflow_chat_provider.core.request.python_values import digits, number
from airflow_chat_provider.core.request.validator import discriminator

_NUMBERS = {"number", "integer"}
_LITERAL_LIMIT = 1_000_000  # Python literals are written by hand; the parser is slow and deep


class Node:
    """A schema seen as types: what may stand here, and what is due in its properties and items.

    ``types`` None means that anything may. Built step by step as requests reach into it, so recursive schemas work.
    """

    __slots__ = ("_children", "_root", "_schemas", "by", "types")

    def __init__(self, schemas: list[dict[str, Any]], root: Any) -> None:
        self._root = root
        self._schemas = schemas
        self._children: dict[object, Node | None] = {}
        self.types = self._types()
        self.by: str | None = next((d["propertyName"] for d in map(discriminator, schemas) if d), None)

    @classmethod
    def of(cls, schema: Any) -> Node:
        return cls(_alternatives(schema, schema, ()), schema)

    def _types(self) -> frozenset[str] | None:
        names: set[str] = set()
        for schema in self._schemas:
            stated = schema.get("type")
            if stated is None:
                if discriminator(schema):
                    names.add("object")
                    continue
                return None
            stated = [stated] if isinstance(stated, str) else stated
            if not all(isinstance(name, str) for name in stated):  # draft 3 has schemas there
                return None
            names.update(stated)
            if schema.get("nullable"):
                names.add("null")
        return frozenset(names) or None

    def child(self, key: str | int) -> Node | None:
        """What is due at a property, or (any index) at the items; None where the schema says nothing."""
        slot: object = key if isinstance(key, str) else int
        if slot not in self._children:
            found = [_below(schema, key) for schema in self._schemas]
            alternatives = [alt for sub in found for alt in _alternatives(sub, self._root, ())]
            told = alternatives and {} not in alternatives  # else nothing is known below, however deep
            self._children[slot] = Node(alternatives, self._root) if told else None
        return self._children[slot]

    def requires(self, key: str) -> bool:
        """Has this property to be there, in one of the alternatives at least?"""
        return any(_requires(schema, key) for schema in self._schemas)

    @property
    def takes_empty_text(self) -> bool:
        """May ``""`` stand here?"""
        texts = [schema for schema in self._schemas if "string" in schema.get("type", "string")]
        return any("" in schema.get("enum", ("",)) and not schema.get("minLength") for schema in texts)

    def branch(self, instance: dict[str, Any]) -> Node:
        """The node for the branch that the discriminator of ``instance`` names; of any other nothing is known."""
        value = instance.get(self.by or "")
        slot = ("branch", value if isinstance(value, str) else None)
        if slot not in self._children:
            self._children[slot] = Node(self._branch_schemas(slot[1]), self._root)
        return self._children[slot] or self

    def _branch_schemas(self, value: str | None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for schema in self._schemas:
            stated = discriminator(schema) or {}
            elsewhere = schema.get("x-elsewhere")  # ours; anything may stand there in a schema of a user's
            kinds = {**(elsewhere if isinstance(elsewhere, dict) else {}), **stated.get("mapping", {})}
            named = kinds.get(value, stated.get("defaultMapping"))
            if isinstance(named, str | dict):
                target = {"$ref": named} if isinstance(named, str) else named
                found += _alternatives(target, self._root, ())
        return found


def _requires(schema: dict[str, Any], key: str) -> bool:
    names, by = schema.get("required"), discriminator(schema)
    if by and by["propertyName"] == key:
        return "defaultMapping" not in by
    return isinstance(names, list) and key in names


def _below(schema: dict[str, Any], key: str | int) -> Any:
    """The schema that a property or the items have; True where anything may stand, False where nothing can."""
    container = "array" if isinstance(key, int) else "object"
    if container not in schema.get("type", container):
        return False
    if isinstance(key, int):
        return schema.get("items", True) if "prefixItems" not in schema else True
    properties = schema.get("properties", {})
    if key in properties:
        return properties[key]
    return schema.get("additionalProperties", True) if "patternProperties" not in schema else True


def _alternatives(schema: Any, root: Any, seen: tuple[int, ...]) -> list[dict[str, Any]]:
    """The schemas of which a value meets one: unions and references opened, discriminated unions left whole."""
    if schema is False or id(schema) in seen:
        return []
    if not isinstance(schema, dict):
        return [{}]  # True, or one schema for each item
    seen = (*seen, id(schema))
    if "$ref" in schema:
        return _alternatives(_resolve(schema["$ref"], root), root, seen)
    if discriminator(schema):
        return [schema]
    for keyword in ("oneOf", "anyOf"):
        if keyword in schema and "properties" not in schema:
            return [alt for branch in schema[keyword] for alt in _alternatives(branch, root, seen)]
    return [schema]


def _resolve(reference: str, root: Any) -> Any:
    """What a reference within the schema refers to; True, which says nothing, for any other."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return True
    node = root
    for part in unquote(reference[2:]).split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        try:
            node = node[int(name)] if isinstance(node, list) else node[name]
        except (LookupError, ValueError, TypeError):
            return True
    return node


def typed(value: Any, node: Node | None) -> Any:
    """``value`` in the types that ``node`` states; the same object where nothing had to change.

    A Decimal is a number where nothing is stated.
    """
    if node is None:
        return _untyped(value)
    types = node.types
    if isinstance(value, str):
        if types is None or "string" in types:
            return value
        value = _read(value, types)
    if isinstance(value, Decimal):
        return _written(value, types)
    if types is not None and isinstance(value, bool):
        return str(value) if "string" in types and "boolean" not in types else value
    if types is not None and isinstance(value, int | float):
        return _number(value, types)
    if isinstance(value, dict):
        return _typed_object(value, node.branch(value) if node.by else node)
    if isinstance(value, list):
        return _typed_array(value, node.child(0))
    return value


def _written(value: Decimal, types: frozenset[str] | None) -> int | float | str:
    """A decimal with all its digits where text is due, and no number may stand."""
    if types is not None and "string" in types and not types & _NUMBERS:
        return digits(value)
    return number(value, whole=types is not None and "integer" in types and "number" not in types)


def _untyped(value: Any) -> Any:
    """``value`` with numbers for its Decimals."""
    if isinstance(value, Decimal):
        return number(value)
    if isinstance(value, list):
        return _changed_list(value, [_untyped(item) for item in value])
    if isinstance(value, dict):
        return _changed_dict(value, {key: _untyped(item) for key, item in value.items() if type(item) is not str})
    return value


def _typed_object(value: dict[str, Any], node: Node) -> dict[str, Any]:
    return _changed_dict(value, {key: typed(item, node.child(key)) for key, item in value.items()})


def _typed_array(value: list[Any], node: Node | None) -> list[Any]:
    return _changed_list(value, [typed(item, node) for item in value])


def _changed_dict(value: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    changed = {key: item for key, item in new.items() if item is not value[key]}
    return {**value, **changed} if changed else value


def _changed_list(value: list[Any], new: list[Any]) -> list[Any]:
    return new if any(a is not b for a, b in zip(new, value, strict=True)) else value


def _number(value: Any, types: frozenset[str]) -> Any:
    if "integer" in types and "number" not in types and isinstance(value, float) and value.is_integer():
        return int(value)  # servers that count refuse 5.0
    if types & _NUMBERS or "string" not in types:
        return value
    try:
        return str(value)
    except ValueError:  # thousands of digits
        return value


def _read(text: str, types: frozenset[str]) -> Any:
    """The value that ``text`` writes, as JSON or else as a Python literal, if it is of a type that is due."""
    for reader in (_from_json, _from_python):
        try:
            value = reader(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, tuple):
            value = list(value)
        if _name(value) & types:
            return _number(value, types) if isinstance(value, float) else value
    return text


def _from_json(text: str) -> Any:
    return loads(text, parse_constant=_refuse)


def _from_python(text: str) -> Any:
    if len(text) > _LITERAL_LIMIT:
        raise ValueError
    if too_deep(text):
        raise TooDeep
    return ast.literal_eval(text.strip())


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _name(value: Any) -> frozenset[str]:
    """The JSON type names that fit a value."""
    if isinstance(value, float):
        integral = value.is_integer()
        finite = value - value == 0
        return frozenset({"number", "integer"} if integral else {"number"}) if finite else frozenset()
    names = {bool: {"boolean"}, int: _NUMBERS, list: {"array"}, dict: {"object"}, type(None): {"null"}}
    return frozenset(names.get(type(value), ()))
