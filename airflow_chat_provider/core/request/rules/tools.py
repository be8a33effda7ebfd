"""Rules of tools and functions, of the choice between them, and of the JSON Schemas inside a request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from airflow_chat_provider.core.request.rules.report import Report, as_dict, as_list, child, quoted, unsure
from airflow_chat_provider.core.request.validator import UNKNOWN

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
NAMES = "OpenAI and other servers take 1 to 64 letters (a-z), digits, '_' or '-' only"
_MOST_TOOLS = 128
_LONGEST_DESCRIPTION = 1024
_KINDS = ("function", "custom")


def check(request: Mapping[str, Any], report: Report) -> None:
    tools, functions = as_list(request.get("tools")), as_list(request.get("functions"))
    _check_count(request.get("tools"), report)
    _check_all(list(_definitions(tools)), report)
    _check_all([(f"$.functions[{i}]", "function", as_dict(f)) for i, f in enumerate(functions)], report)
    _check_needs(request, report)
    if not unsure(request.get("tools")) and not any(map(_may_define_anything, tools)):
        _check_choice(request.get("tool_choice"), tools, report)
    if not unsure(request.get("functions"), *functions, *(as_dict(f).get("name") for f in functions)):
        _check_function_call(request.get("function_call"), functions, report)
    _check_deprecated(request, report)


def fits(name: str) -> bool:
    """Does every server accept this name?"""
    return _NAME.fullmatch(name) is not None


def check_name(name: object, path: str, report: Report, rule: str, *, here: bool = False) -> None:
    if isinstance(name, str) and not fits(name):
        problem, remedy = f"is {quoted(name)}, and {NAMES}", "rename it everywhere it is used"
        report.refused_by_openai(rule, path, problem, remedy, here=here)


def _check_function_name(name: object, path: str, report: Report) -> None:
    own = report.server.function_names
    if not (own and isinstance(name, str) and re.fullmatch(own, name)):
        check_name(name, path, report, "function_name", here=report.server.strict_function_names)


def deprecated(path: str, report: Report) -> None:
    problem, remedy = "belongs to deprecated function calling", "use tools and tool_choice"
    report.warn("deprecated_functions", path, problem, remedy)


def _definitions(tools: Sequence[Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, kind and definition of each tool. The built-in tools of other vendors have no definition."""
    for index, tool in enumerate(tools):
        kind = as_dict(tool).get("type")
        if kind in _KINDS:
            yield f"$.tools[{index}].{kind}", kind, as_dict(tool.get(kind))


def _check_count(tools: object, report: Report) -> None:
    if not isinstance(tools, (list, tuple)):
        return
    if not tools:
        problem, remedy = "is an empty array", "leave tools out if there are none"
        report.refused_by_openai("empty_tools", "$.tools", problem, remedy)
    elif len(tools) > _MOST_TOOLS:
        problem = f"has {len(tools)} tools, and OpenAI takes {_MOST_TOOLS} at most"
        report.refused_by_openai("too_many_tools", "$.tools", problem, "offer fewer tools")


def _check_all(definitions: Sequence[tuple[str, str, dict[str, Any]]], report: Report) -> None:
    names: set[str] = set()
    for path, kind, definition in definitions:
        name = definition.get("name")
        _check_function_name(name, f"{path}.name", report)
        if isinstance(name, str):
            if name in names:
                problem = f"is {quoted(name)}, which is the name of an earlier tool, too"
                report.warn("duplicate_tool_name", f"{path}.name", problem, "give each tool its own name")
            names.add(name)
        _check_description(definition.get("description"), path, report)
        if kind == "function":
            check_parameters(definition, path, report)


def _check_description(description: object, path: str, report: Report) -> None:
    if isinstance(description, str) and len(description) > _LONGEST_DESCRIPTION:
        problem = f"has {len(description)} characters, and some servers refuse more than {_LONGEST_DESCRIPTION}"
        remedy = "shorten it, or say the rest in a system message"
        report.warn("tool_description", f"{path}.description", problem, remedy)


def _check_needs(request: Mapping[str, Any], report: Report) -> None:
    if not request.get("tools"):
        if request.get("tool_choice") not in (None, "none", UNKNOWN):
            _useless("tool_choice", "tools", report.refused_by_openai)
        if request.get("parallel_tool_calls") not in (None, UNKNOWN):
            _useless("parallel_tool_calls", "tools", report.refused_by_openai_alone)
    if request.get("function_call") not in (None, UNKNOWN) and not request.get("functions"):
        _useless("function_call", "functions", report.refused_by_openai)


def _useless(key: str, needed: str, refused: Callable[[str, str, str, str], None]) -> None:
    remedy = f"define {needed}, or leave {key} out"
    refused(f"{key}_without_{needed}", f"$.{key}", f"is set without {needed}", remedy)


def _may_define_anything(tool: object) -> bool:
    """Is this tool's name or kind unknown here: until the task runs, or because it is a vendor's own?"""
    kind = as_dict(tool).get("type")
    definition = as_dict(tool).get(kind) if isinstance(kind, str) else None
    is_builtin = isinstance(kind, str) and kind not in _KINDS
    return is_builtin or unsure(tool, kind, definition, as_dict(definition).get("name"))


def _check_choice(choice: object, tools: Sequence[Any], report: Report) -> None:
    named_tools = ((kind, tool.get("name")) for _, kind, tool in _definitions(tools))
    defined = {(kind, name) for kind, name in named_tools if isinstance(name, str)}
    for path, named in _chosen(as_dict(choice)):
        kind = named.get("type")
        name = as_dict(named.get(kind)).get("name") if kind in _KINDS else None
        if isinstance(name, str) and (kind, name) not in defined:
            _undefined(f"{path}.{kind}.name", name, "tools", report)


def _chosen(choice: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if choice.get("type") == "allowed_tools":
        allowed = as_list(as_dict(choice.get("allowed_tools")).get("tools"))
        for index, tool in enumerate(allowed):
            yield f"$.tool_choice.allowed_tools.tools[{index}]", as_dict(tool)
    else:
        yield "$.tool_choice", choice


def _check_function_call(choice: object, functions: Sequence[Any], report: Report) -> None:
    name = as_dict(choice).get("name")
    if isinstance(name, str) and all(as_dict(function).get("name") != name for function in functions):
        _undefined("$.function_call.name", name, "functions", report)


def _undefined(path: str, name: str, place: str, report: Report) -> None:
    problem = f"is {quoted(name)}, which $.{place} does not define"
    report.refused_by_openai("undefined_tool", path, problem, f"define it in {place}, or name one that is there")


def _check_deprecated(request: Mapping[str, Any], report: Report) -> None:
    for key in ("functions", "function_call"):
        if request.get(key) is not None:
            deprecated(f"$.{key}", report)
    if request.get("functions") and request.get("tools"):
        problem = "is set together with tools, and the server decides which of them counts"
        report.warn("functions_and_tools", "$.functions", problem, "define every function under tools")


# Deeper and larger than any schema that a server takes; the limits keep a hostile or circular one harmless.
_DEEPEST = 64
_MOST_SCHEMAS = 20_000
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
_SINGLE = frozenset({"items", "additionalProperties", "contains", "not", "if", "then", "else"})
_STRICT_REMEDY = "correct the schema, or leave strict out"

Trail = tuple[str | int, ...]


def check_parameters(function: dict[str, Any], path: str, report: Report) -> None:
    parameters = function.get("parameters")
    if not isinstance(parameters, dict):
        return
    path = f"{path}.parameters"
    _check_root(parameters, path, report)
    check_schema(parameters, path, report, strict=function.get("strict") is True)


def check_schema(
    schema: dict[str, Any], path: str, report: Report, *, strict: bool, remedy: str = _STRICT_REMEDY
) -> None:
    for node, trail in _subschemas(schema):
        if _is(node, "array") and "items" not in node and "prefixItems" not in node:
            what = "say what the array holds"
            report.refused_by_openai("array_without_items", _at(path, trail), "is an array without items", what)
        if strict and (_is(node, "object") or "properties" in node):
            _check_strict(node, _at(path, trail), report, remedy)


def _check_root(parameters: dict[str, Any], path: str, report: Report) -> None:
    if unsure(parameters.get("type")):
        return
    if not _is(parameters, "object"):
        problem, remedy = "has no type object at its root", 'set its "type" to "object"'
        report.refused_by_openai("parameters_root", path, problem, remedy)
    elif "properties" not in parameters:
        problem, remedy = "is an object without properties, which some servers refuse", 'add "properties": {}'
        report.warn("parameters_properties", path, problem, remedy)


def _check_strict(node: dict[str, Any], path: str, report: Report, remedy: str) -> None:
    if node.get("additionalProperties") is not False and not unsure(node.get("additionalProperties")):
        problem = "is an object without additionalProperties: false, which a strict schema needs"
        report.refused_by_openai("strict_schema", path, problem, remedy)
    if unsure(node.get("required"), *as_list(node.get("required"))):
        return
    required = {name for name in as_list(node.get("required")) if isinstance(name, str)}
    missing = next((name for name in as_dict(node.get("properties")) if name not in required), None)
    if missing is not None:
        problem = "is a property that is not in required, where a strict schema has them all"
        place = child(f"{path}.properties", missing)
        report.refused_by_openai("strict_schema", place, problem, remedy)


def _is(node: dict[str, Any], kind: str) -> bool:
    stated = node.get("type")
    return stated == kind or (isinstance(stated, list) and kind in stated)


def _at(path: str, trail: Trail) -> str:
    for step in trail:
        path = f"{path}[{step}]" if isinstance(step, int) else child(path, step)
    return path


def _subschemas(root: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Trail]]:
    """The schema and all schemas in it, in the order of the document. Each object comes once, so that circles end."""
    stack: list[tuple[dict[str, Any], Trail]] = [(root, ())]
    seen: set[int] = set()
    while stack and len(seen) < _MOST_SCHEMAS:
        node, trail = stack.pop()
        if id(node) in seen or len(trail) > _DEEPEST:
            continue
        seen.add(id(node))
        yield node, trail
        stack.extend(reversed(list(_children(node, trail))))


def _children(node: dict[str, Any], trail: Trail) -> Iterator[tuple[dict[str, Any], Trail]]:
    for keyword, value in node.items():
        if isinstance(value, dict):
            if keyword in _SINGLE:
                yield value, (*trail, keyword)
            elif keyword in _MAPS:
                yield from ((v, (*trail, keyword, name)) for name, v in value.items() if isinstance(v, dict))
        elif isinstance(value, list) and keyword in _LISTS:
            yield from ((v, (*trail, keyword, i)) for i, v in enumerate(value) if isinstance(v, dict))
