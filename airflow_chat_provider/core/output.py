"""What an answer has to be: JSON that fits a schema, or calls of the tools that were offered."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.schema import RequestSchema, load_user_schema, text_of_schema

_BAD_NAME = re.compile(r"[^a-zA-Z0-9_-]+")

Schema = Mapping[str, Any] | str | Path | type | None


class OutputSchema:
    """A JSON Schema, or a class with one (Pydantic's), that an answer has to fit."""

    def __init__(self, schema: dict[str, Any], validator: RequestSchema, model: Any = None) -> None:
        self.schema = schema
        self.name = _BAD_NAME.sub("_", str(schema.get("title") or "answer"))[:64] or "answer"
        self._validator = validator
        self._model = model

    @property
    def is_class(self) -> bool:
        """Does a class judge, which only a process with the DAG's code has?"""
        return self._model is not None

    def problem(self, value: Any) -> str | None:
        """Where ``value`` does not fit, in words that quote nothing of it; None where it does."""
        found = self._validator.problems(value)
        if found or self._model is None:
            return "; ".join(found) or None
        return _problem_of_model(self._model, value)

    @cached_property
    def response_format(self) -> tuple[dict[str, Any], str | None]:
        """The request's ``response_format``, strict where servers take that; else why it is not."""
        # A class has no optional properties: what it has a default for may stand in every answer.
        schema = _closed(self.schema) if self._model is not None else self.schema
        why = _not_strict(schema)
        sent = self.schema if why else schema
        return {
            "type": "json_schema",
            "json_schema": {"name": self.name, "schema": sent, "strict": why is None},
        }, why

    @cached_property
    def prompt(self) -> str:
        """The same, for a server that has to be told in words."""
        text = json.dumps(self.schema, ensure_ascii=False)
        return f"Answer in JSON, with nothing before or after it, that fits this JSON Schema:\n{text}"


def load_output(source: Schema) -> OutputSchema | None:
    """What ``response_schema`` names: a dict, the path of a JSON file, a Pydantic model class; None: anything."""
    if source is None or isinstance(source, OutputSchema):
        return source
    if isinstance(source, type):
        return _of_class(source)
    given, name = (source, "response_schema") if isinstance(source, Mapping) else (_read(str(source)), str(source))
    text = text_of_schema(given, name, "response_schema")
    return OutputSchema(dict(given), load_user_schema(text, name, "response_schema"))


def _read(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        why = f"the file cannot be read ({error.strerror or type(error).__name__})"
    except (ValueError, RecursionError):
        why = "the file is not JSON in UTF-8"
    raise _unusable(path, why)


def _of_class(model: Any) -> OutputSchema:
    make = getattr(model, "model_json_schema", None)
    if not callable(make) or not callable(getattr(model, "model_validate", None)):
        raise _unusable(model.__name__, "it is a class without model_json_schema; use a Pydantic model")
    try:
        schema = make()
    except Exception as error:  # noqa: BLE001 - Pydantic has errors of its own
        raise _unusable(model.__name__, f"it makes no JSON Schema ({type(error).__name__})") from None
    return OutputSchema(schema, load_user_schema(json.dumps(schema), model.__name__, "response_schema"), model)


def _unusable(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"response_schema {name!r} cannot be used: {why}", path="response_schema", keyword="schema")


def _problem_of_model(model: Any, value: Any) -> str | None:
    try:
        model.model_validate(value)
    except ValueError as error:  # Pydantic's ValidationError is one
        errors = getattr(error, "errors", None)
        if not callable(errors):
            return "the model class refuses it"
        found = errors(include_input=False, include_url=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, one['loc'])) or '$'}: {one['msg']}" for one in found[:5])
    except Exception as error:  # noqa: BLE001 - of a validator of the user's
        return f"the model class fails with it ({type(error).__name__})"
    return None


def _not_strict(schema: dict[str, Any]) -> str | None:
    """Why no strict server takes a schema, and where; None where they do."""
    from airflow_chat_provider.core.rules.function_schema import check_schema
    from airflow_chat_provider.core.rules.report import Report
    from airflow_chat_provider.core.rules.server import server_at

    report = Report(server_at(None))
    if schema.get("type") != "object":
        return "response_schema is no object at its root."
    check_schema(schema, "response_schema", report, strict=True)
    return next(iter(report.warnings()), None)


def _closed(node: Any) -> Any:
    """A schema with every object closed and every property required, as strict servers want it."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict):
        closed["properties"] = {name: _without_default(value) for name, value in closed["properties"].items()}
        closed |= {"required": list(node["properties"])}
        closed.setdefault("additionalProperties", False)
    return closed


def _without_default(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    return {key: value for key, value in schema.items() if key != "default"}


class ToolCall(NamedTuple):
    """One call that the model wants made; ``problem`` says why it cannot be."""

    id: str | None
    name: str
    arguments: Any
    problem: str | None = None


class Tools:
    """The tools that a request offers, and whether one has to be called."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._parameters: dict[str, RequestSchema | None] = {}
        self._free: set[str] = set()
        for tool in request.get("tools") or ():
            kind = str(tool.get("type", "function"))
            self._offer(tool.get(kind) or {})
            if kind == "custom":  # takes text of any form
                self._free.add(str((tool.get(kind) or {}).get("name")))
        for function in request.get("functions") or ():
            self._offer(function)
        self.needed = _needs_call(request.get("tool_choice"))

    def _offer(self, function: Mapping[str, Any]) -> None:
        name, parameters = str(function.get("name")), function.get("parameters")
        usable = isinstance(parameters, Mapping) and parameters
        self._parameters[name] = load_user_schema(json.dumps(parameters), name, "tools") if usable else None

    def calls(self, message: Mapping[str, Any]) -> list[ToolCall]:
        """The calls in a message, each parsed and checked."""
        found = [call for call in message.get("tool_calls") or () if isinstance(call, Mapping)]
        calls = [self._call(call.get("id"), call.get(str(call.get("type", "function"))) or {}) for call in found]
        legacy = message.get("function_call")
        return [*calls, self._call(None, legacy)] if isinstance(legacy, Mapping) else calls

    def _call(self, identity: Any, function: Mapping[str, Any]) -> ToolCall:
        name, text = str(function.get("name")), function.get("arguments", function.get("input"))
        identity = identity if isinstance(identity, str) else None
        if name not in self._parameters:
            offered = ", ".join(self._parameters)
            return ToolCall(identity, name, text, f"there is no tool {name[:64]!r}; there are {offered}")
        if name in self._free:
            return ToolCall(identity, name, text)
        try:
            arguments = json.loads(text) if text else {}
        except (ValueError, RecursionError, TypeError):
            return ToolCall(identity, name, text, f"the arguments of {name} are not JSON")
        if not isinstance(arguments, dict):
            return ToolCall(identity, name, text, f"the arguments of {name} are no JSON object")
        schema = self._parameters[name]
        problems = schema.problems(arguments) if schema is not None else []
        return ToolCall(
            identity, name, arguments, f"the arguments of {name}: {'; '.join(problems)}" if problems else None
        )


def _needs_call(choice: Any) -> bool:
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        choice = (choice.get("allowed_tools") or {}).get("mode")
    return choice == "required" or isinstance(choice, Mapping)
