"""A user's schema with each reference replaced by its target: a missing one is found before an answer is paid for.

The result may contain itself: the schema of a tree refers to itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY, specification_with

from airflow_chat_provider.core.paths import join, step
from airflow_chat_provider.core.request.patterns import refusal
from airflow_chat_provider.core.request.validator import discriminator
from airflow_chat_provider.core.spelling import close_to

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
# Keywords with a schema or a list of schemas, and those with an object of either.
_SCHEMAS = (
    *("additionalItems", "additionalProperties", "contains", "disallow", "else", "extends", "if", "items", "not"),
    *("allOf", "anyOf", "oneOf", "prefixItems", "propertyNames", "then", "type"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_MAPS = frozenset({"dependencies", "dependentSchemas", "patternProperties", "properties"})
# Keywords that look at the same value once more.
_IN_PLACE = ("allOf", "anyOf", "disallow", "else", "extends", "if", "not", "oneOf", "then", "type", *_REFERENCES)
_IN_PLACE_MAPS = ("dependencies", "dependentSchemas")
_REF_ALONE = frozenset(
    {"draft-03", "draft-04", "draft-06", "draft-07"}  # whose `$ref` makes its neighbours nothing
)


class BadSchema(Exception):
    """What is wrong with a schema, in words that can follow its name."""


def link(root: dict[str, Any], cls: Any, *, all_patterns: bool = True) -> dict[str, Any]:
    """A copy of ``root`` with the targets of its references in their place. ``cls``: jsonschema's class for its draft.

    Raises BadSchema for a reference without a target, for a circle that never descends into the value, and, with
    ``all_patterns``, for a pattern that cannot be used.
    """
    linker = _Linker(root, cls, all_patterns=all_patterns)
    linked: dict[str, Any] = linker.link()
    _check_ends(linked)
    return linked


class _Linker:
    def __init__(self, root: dict[str, Any], cls: Any, *, all_patterns: bool) -> None:
        self._root = root
        self._class = cls
        self._all_patterns = all_patterns
        dialect = cls.ID_OF(cls.META_SCHEMA)
        self._specification = specification_with(dialect)
        self._ref_alone = any(draft in dialect for draft in _REF_ALONE)
        self._done: dict[int, dict[str, Any]] = {}

    def link(self) -> Any:
        # With a registry of its own, nothing is fetched over the network.
        resource = self._specification.create_resource(self._root)
        return self._schema(self._root, EMPTY_REGISTRY.resolver_with_root(resource), "$")

    def _schema(self, schema: object, resolver: Any, place: str) -> Any:
        if not isinstance(schema, dict):
            return schema
        if id(schema) in self._done:
            return self._done[id(schema)]
        new = self._done[id(schema)] = {}
        kept = {"$ref": schema["$ref"]} if "$ref" in schema and self._ref_alone else schema
        for keyword, value in kept.items():
            new[keyword] = self._value(keyword, value, resolver, place)
        if self._all_patterns:
            _check_patterns(kept, place)
        return new

    def _value(self, keyword: str, value: object, resolver: Any, place: str) -> Any:
        if keyword in _REFERENCES and isinstance(value, str):
            return self._target(value, resolver, place)
        place += step(keyword)
        if keyword in _SCHEMAS:
            return self._below(value, resolver, place)
        if keyword in _MAPS and isinstance(value, dict):
            return {name: self._below(item, resolver, place + step(name)) for name, item in value.items()}
        if keyword == "discriminator" and (stated := discriminator({keyword: value})):
            return self._discriminator(stated, resolver, place)
        return value

    def _below(self, value: object, resolver: Any, place: str) -> Any:
        if isinstance(value, list):
            return [self._below(item, resolver, f"{place}[{index}]") for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        return self._schema(value, resolver.in_subresource(self._specification.create_resource(value)), place)

    def _discriminator(self, value: dict[str, Any], resolver: Any, place: str) -> dict[str, Any]:
        mapping = {name: self._target(ref, resolver, place) for name, ref in value.get("mapping", {}).items()}
        new = {**value, "mapping": mapping}
        if isinstance(value.get("defaultMapping"), str):
            new["defaultMapping"] = self._target(value["defaultMapping"], resolver, place)
        return new

    def _target(self, reference: str, resolver: Any, place: str) -> Any:
        try:
            found = resolver.lookup(reference)
        except (Unresolvable, LookupError, TypeError, ValueError, AttributeError):  # the last for a pointer into text
            raise BadSchema(self._nowhere(reference, place)) from None
        if not isinstance(found.contents, dict | bool):
            raise BadSchema(f"its reference {_cut(reference)} at {place} leads to a value that is not a schema")
        if isinstance(found.contents, dict) and id(found.contents) not in self._done:
            self._check(reference, found.contents)
        return self._schema(found.contents, found.resolver, _place_of(reference))

    def _check(self, reference: str, schema: dict[str, Any]) -> None:
        """Check a target that stands where the draft expects no schema: it was not checked with the rest."""
        if reference.startswith("#/") and not (reference.count("/") == 2 and reference.startswith(self._checked())):
            self._class.check_schema(schema)

    def _checked(self) -> tuple[str, ...]:
        return ("#/definitions/",) if self._ref_alone else ("#/definitions/", "#/$defs/")

    def _nowhere(self, reference: str, place: str) -> str:
        name = reference.rsplit("/", 1)[-1]
        there = [
            f"#/{holder}/{key}"
            for holder in ("$defs", "definitions")
            if isinstance(self._root.get(holder), dict)
            for key in self._root[holder]
        ]
        close = [found for found in there if found.rsplit("/", 1)[-1] == name] or close_to(reference, there)
        says = f"its reference {_cut(reference)} at {place} leads nowhere"
        if close:
            return f"{says}; did you mean {_cut(close[0])}?"
        return says if reference.startswith("#") else f"{says}, because nothing is fetched: copy that schema into $defs"


def _cut(text: str) -> str:
    return repr(text[:200])


def _place_of(reference: str) -> str:
    return join(reference[2:].split("/")) if reference.startswith("#/") else "$" if reference == "#" else reference


def _check_patterns(schema: dict[str, Any], place: str) -> None:
    found = [(schema["pattern"], f"{place}.pattern")] if isinstance(schema.get("pattern"), str) else []
    of_names = schema.get("patternProperties")
    found += [(name, f"{place}.patternProperties") for name in of_names] if isinstance(of_names, dict) else []
    for pattern, where in found:
        if why := refusal(pattern):
            raise BadSchema(
                f"its pattern {_cut(pattern)} at {where} cannot be matched in linear time; leave out "
                f"look-around, back-references and very large repetitions: {why.rstrip('.')}"
            )


def _check_ends(linked: dict[str, Any]) -> None:
    """Refuse a schema that leads back to itself while it still looks at the same value."""
    graph = {id(schema): [id(below) for below in _in_place(schema)] for schema in _all(linked)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        raise BadSchema("it refers to itself without end") from None


def _in_place(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for keyword in _IN_PLACE:
        yield from _dicts(schema.get(keyword))
    for keyword in _IN_PLACE_MAPS:
        if isinstance(schema.get(keyword), dict):
            yield from _dicts(list(schema[keyword].values()))
    if stated := discriminator(schema):
        yield from _dicts([*stated.get("mapping", {}).values(), stated.get("defaultMapping")])


def _all(linked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every schema in a linked one."""
    stack, seen = [linked], set[int]()
    while stack:
        schema = stack.pop()
        if id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        stack.extend(_in_place(schema))
        for keyword, value in schema.items():
            if keyword in _SCHEMAS:
                stack.extend(_dicts(value))
            elif keyword in _MAPS and isinstance(value, dict):
                stack.extend(_dicts(list(value.values())))


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _dicts(item)
