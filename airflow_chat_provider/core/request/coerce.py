"""Which JSON type the schema states at each path, and a request's values converted to it.

A template always renders to text, and a value from XCom has whatever type its producer gave it. The schema decides that
``temperature`` is a number and ``content`` is text. A value is converted only if it cannot stand as it is, and left out
if a template left it empty. ``Written`` is what the author wrote before any template was rendered: a null that stands
there is meant.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import unquote

from airflow_chat_provider.core.json_text.nesting import TooDeep, loads, too_deep
from airflow_chat_provider.core.paths import join
from airflow_chat_provider.core.request.json_values import number
from airflow_chat_provider.core.request.validator import Schema, discriminator

Path = tuple[str | int, ...]
Meant = Callable[[Path], bool]


class Written(NamedTuple):
    """The arguments ``request`` (parsed, if it is a text or a file) and ``messages``; None for one that is data."""

    request: Any = None
    messages: Any = None

    def nulls(self, folded: object, arguments: Mapping[str, Any]) -> Meant:
        """A test for paths of ``folded``, the request made of these arguments: did the author write a null there?"""
        own = self.messages
        if arguments.get("messages") is None and isinstance(self.request, Mapping):
            own = self.request.get("messages")
        there = folded.get("messages") if isinstance(folded, Mapping) else None
        appended = 1 if arguments.get("prompt") is not None else 0
        # A system prompt may stand before them all.
        before = len(there) - len(own) - appended if isinstance(there, list) and isinstance(own, list | tuple) else -1

        def meant(path: Path) -> bool:
            if path[0] != "messages":
                return _is_null(self.request, path)
            index = path[1] if len(path) > 1 else None
            if not isinstance(index, int) or index < before or before < 0:
                return False
            return _is_null(own, (index - before, *path[2:]))

        return meant


def _is_null(value: object, path: Path) -> bool:
    for key in path:
        if not isinstance(value, Mapping | list | tuple):
            return False
        holder: Any = value
        try:
            value = holder[key]
        except (LookupError, TypeError):
            return False
    return value is None


_NUMBERS = {"number", "integer"}
_LITERAL_LIMIT = 1_000_000  # characters. Python literals are written by hand; the parser is slow and deep
_TEXTS = ("model", "stop")  # of the request: empty ones are refused by every server, whatever the schema says
_NEW = object()  # stands for a property that a Node has not been asked for yet


class Node:
    """A place in a schema, reduced to types: which of them may stand here, in its properties and in its items.

    ``types`` is None if every type may stand. ``children`` holds the Node of each property by its name, and the items'
    under ``int``. It is filled as requests reach into it, so that recursive schemas work.
    """

    __slots__ = ("_root", "_schemas", "by", "children", "types")

    def __init__(self, schemas: list[dict[str, Any]], root: Schema) -> None:
        self._root = root
        self._schemas = schemas
        self.children: dict[object, Node | None] = {}
        self.types = self._types()
        self.by: str | None = next((d["propertyName"] for d in map(discriminator, schemas) if d), None)

    @classmethod
    def from_schema(cls, schema: Schema) -> Node:
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
        """The Node of a property, or (for any index) of the items; None if the schema does not restrict them."""
        if not self._schemas:
            return None
        slot: object = int
        if isinstance(key, str):
            # All other names share a slot: requests bring any number of them.
            slot = key if any(key in schema.get("properties", ()) for schema in self._schemas) else _NEW
        if slot not in self.children:
            found = [_below(schema, key) for schema in self._schemas]
            alternatives = [alt for sub in found for alt in _alternatives(sub, self._root, ())]
            told = alternatives and {} not in alternatives  # else nothing is known below, however deep
            self.children[slot] = Node(alternatives, self._root) if told else None
        return self.children[slot]

    def requires(self, key: str) -> bool:
        """Does at least one of the alternatives require this property?"""
        return any(_requires(schema, key) for schema in self._schemas)

    @property
    def takes_empty_text(self) -> bool:
        """May ``""`` stand here?"""
        texts = [schema for schema in self._schemas if "string" in schema.get("type", "string")]
        return any("" in schema.get("enum", ("",)) and not schema.get("minLength") for schema in texts)

    def branch(self, instance: dict[str, Any]) -> Node:
        """The Node of the branch that the discriminator of ``instance`` names; an unknown branch allows everything."""
        value = instance.get(self.by or "")
        slot = ("branch", value if isinstance(value, str) else None)
        if slot not in self.children:
            self.children[slot] = Node(self._branch_schemas(slot[1]), self._root)
        return self.children[slot] or self

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


_ANYTHING = Node([], None)


def _requires(schema: dict[str, Any], key: str) -> bool:
    names, by = schema.get("required"), discriminator(schema)
    if by and by["propertyName"] == key:
        return "defaultMapping" not in by
    return isinstance(names, list) and key in names


def _below(schema: dict[str, Any], key: str | int) -> Any:
    """The schema of a property or of the items; True if anything may stand there, False if nothing may."""
    container = "array" if isinstance(key, int) else "object"
    if container not in schema.get("type", container):
        return False
    if isinstance(key, int):
        return schema.get("items", True) if "prefixItems" not in schema else True
    properties = schema.get("properties", {})
    if key in properties:
        return properties[key]
    return schema.get("additionalProperties", True) if "patternProperties" not in schema else True


def _alternatives(schema: Schema, root: Schema, seen: tuple[int, ...]) -> list[dict[str, Any]]:
    """The schemas of which a value has to meet one. Unions and references are opened, discriminated unions are not."""
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


def _resolve(reference: str, root: Schema) -> Any:
    """The target of a reference within the schema; True, which allows everything, for any other reference."""
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


class _Unset(NamedTuple):
    """What to do about values that are not set. ``found`` collects the paths of empty texts that were left out."""

    found: list[Path]
    is_meant: Meant


def _nothing(path: Path) -> bool:  # noqa: ARG001 - of any path
    return False


def filled(request: object, node: Node | None, is_meant: Meant = _nothing) -> tuple[Any, list[str]]:
    """``typed``, without the optional properties that are not set; and the paths of the empty texts among those.

    Not set is None where the schema has no null, and an empty text where no text, or no empty one, may stand.
    ``is_meant`` tells the paths of nulls that are kept all the same.
    """
    unset = _Unset([], is_meant)
    if isinstance(request, dict):
        for key in _TEXTS:
            value = request.get(key)
            if isinstance(value, str) and (not value or (key == "model" and value.isspace())):
                request = {name: item for name, item in request.items() if name != key}
                unset.found.append((key,))
    return typed(request, node, unset), [join(path) for path in unset.found]


def is_blank(value: object) -> bool:
    """Is it a text of nothing but white space?"""
    return isinstance(value, str) and not value.strip()


def typed(value: object, node: Node | None, unset: _Unset | None = None, path: Path = ()) -> Any:
    """``value`` converted to the types that ``node`` states; the same object if nothing had to change.

    A Decimal becomes a number if no type is stated. ``unset`` leaves out values that are not set; ``path`` is then the
    path of ``value``.
    """
    node = _ANYTHING if node is None else node
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
        return _typed_object(value, node.branch(value) if node.by else node, unset, path)
    return _typed_array(value, node.child(0), unset, path) if isinstance(value, list) else value


def _typed_object(value: dict[str, Any], node: Node, unset: _Unset | None, path: Path) -> dict[str, Any]:
    new = value
    for key, old in value.items():
        child: Any = node.children.get(key, _NEW)
        if child is _NEW:
            child = node.child(key)
        # Most leaves are texts where a text may stand: they are told without a call.
        may_stand = type(old) is str and (child is None or child.types is None or "string" in child.types)
        item = old if may_stand else typed(old, child, unset, (*path, key))
        left_out = False
        if unset is not None and child is not None and (item is None or (type(item) is str and not item.strip())):
            left_out = _is_left_out(item, child, node, unset, (*path, key))
        if left_out or item is not old:
            new = dict(value) if new is value else new
            if left_out:
                del new[key]
            else:
                new[key] = item
    return new


def _typed_array(value: list[Any], node: Node | None, unset: _Unset | None, path: Path) -> list[Any]:
    new = value
    for index, old in enumerate(value):
        item = typed(old, node, unset, (*path, index))
        if item is not old:
            new = [*value] if new is value else new
            new[index] = item
    return new


def _is_left_out(value: str | None, child: Node, node: Node, unset: _Unset, path: Path) -> bool:
    """Is this property of ``node`` to be left out? ``value`` is None or an empty text; the path of a text is noted."""
    if not _is_unset(value, child) or node.requires(str(path[-1])):
        return False
    if value is None:
        return not unset.is_meant(path)
    unset.found.append(path)
    return True


def _is_unset(value: str | None, node: Node) -> bool:
    if node.types is None:
        return False
    if value is None:
        return "null" not in node.types
    return "string" not in node.types or (not value and not node.takes_empty_text)


def _written(value: Decimal, types: frozenset[str] | None) -> int | float | str:
    """A decimal as a number; as text with all its digits if only text may stand."""
    if types is not None and "string" in types and not types & _NUMBERS:
        return format(value, "f")  # without an exponent
    return number(value, whole=types is not None and "integer" in types and "number" not in types)


def _number(value: object, types: frozenset[str]) -> Any:
    if "integer" in types and "number" not in types and isinstance(value, float) and value.is_integer():
        return int(value)  # servers that count refuse 5.0
    if types & _NUMBERS or "string" not in types:
        return value
    try:
        return str(value)
    except ValueError:  # thousands of digits
        return value


def _read(text: str, types: frozenset[str]) -> Any:
    """The value that ``text`` writes as JSON, or as a Python literal, if its type may stand; else ``text``."""
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


def _name(value: object) -> frozenset[str]:
    """The names of the JSON types that a value has."""
    if isinstance(value, float):
        integral = value.is_integer()
        finite = value - value == 0
        return frozenset({"number", "integer"} if integral else {"number"}) if finite else frozenset()
    names = {bool: {"boolean"}, int: _NUMBERS, list: {"array"}, dict: {"object"}, type(None): {"null"}}
    return frozenset(names.get(type(value), ()))
