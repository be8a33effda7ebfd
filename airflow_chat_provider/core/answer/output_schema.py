"""What an answer has to be: JSON that fits a schema, or calls of the tools that were offered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from airflow_chat_provider.core.answer.model_errors import problem_of_model
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.json_text.nesting import LEVELS, TooDeep, loads
from airflow_chat_provider.core.messages.tool_calls import called, read_arguments
from airflow_chat_provider.core.request.schema import Problem, RequestSchema, load_user_schema, text_of_schema
from airflow_chat_provider.core.request.validator import holds_unknown

_BAD_NAME = re.compile(r"[^a-zA-Z0-9_-]+")
_PARAMETERS = "The parameters of tool"

Schema = Mapping[str, Any] | str | Path | type | None


class OutputSchema:
    """A JSON Schema, or a class with one (Pydantic's), that an answer has to fit.

    A class's own validators, and patterns with ``regex_engine="python-re"``, take the time that they take: nothing here
    can bound it.
    """

    def __init__(self, schema: dict[str, Any], validator: RequestSchema, model: Any = None) -> None:
        self.schema = schema
        self.name = _BAD_NAME.sub("_", str(schema.get("title") or "answer"))[:64] or "answer"
        self._validator = validator
        self._model = model

    @property
    def is_class(self) -> bool:
        """Does a class judge, which only a process with the DAG's code has?"""
        return self._model is not None

    def problem(self, value: Any) -> Problem | None:
        """Where ``value`` does not fit; None where it does."""
        found = self._validator.problem(value)
        if found is not None or self._model is None:
            return found
        return problem_of_model(self._model, value, self._validator.names)

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
    def digest(self) -> str:
        """What tells it from other schemas."""
        text = json.dumps(self.schema, sort_keys=True, default=str)
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

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
        return loads(Path(path).read_text("utf-8"))
    except OSError as error:
        why = f"the file cannot be read ({error.strerror or type(error).__name__})"
    except TooDeep:
        why = f"the file is nested too deep ({LEVELS})"
    except ValueError:
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
    text = text_of_schema(schema, model.__name__, "response_schema")
    # The class matches its patterns itself, and by Python's engine where it says so.
    validator = load_user_schema(text, model.__name__, "response_schema", all_patterns=False)
    return OutputSchema(schema, validator, model)


def _unusable(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"response_schema {name!r} cannot be used: {why}", path="response_schema", keyword="schema")


def _not_strict(schema: dict[str, Any]) -> str | None:
    """Why no strict server takes a schema, and where; None where they do."""
    from airflow_chat_provider.core.request.rules.function_schema import check_schema
    from airflow_chat_provider.core.request.rules.report import Report
    from airflow_chat_provider.core.servers import server_at

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
    """One call that the model wants made; ``problem`` says why it cannot be, ``doubt`` what was guessed to read it."""

    id: str | None
    name: str
    arguments: Any
    problem: Problem | None = None
    doubt: str | None = None


class Tools:
    """The tools that a request offers, and whether one has to be called.

    Raises InvalidRequest for parameters that no answer could be checked by. What only a template knows is left out.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._parameters: dict[str, RequestSchema | None] = {}
        self._free: set[str] = set()
        for tool in _mappings(request.get("tools")):
            kind = str(tool.get("type", "function"))
            for function in _mappings([tool.get(kind)]):
                self._offer(function)
                if kind == "custom":  # takes text of any form
                    self._free.add(str(function.get("name")))
        for function in _mappings(request.get("functions")):
            self._offer(function)
        self.needed = _needs_call(request.get("tool_choice"))

    def _offer(self, function: Mapping[str, Any]) -> None:
        name, parameters = str(function.get("name")), function.get("parameters")
        usable = isinstance(parameters, Mapping) and parameters and not holds_unknown(parameters)
        self._parameters[name] = load_parameters(name, parameters) if usable else None

    def calls(self, message: Mapping[str, Any]) -> list[ToolCall]:
        """The calls in a message, each parsed and checked."""
        calls = [self._call(call.id, call.name, call.arguments, call.doubt) for call in called(message)]
        legacy = message.get("function_call")
        if not isinstance(legacy, Mapping):
            return calls
        name = legacy.get("name")
        return [*calls, self._call(None, name if isinstance(name, str) else "", legacy.get("arguments"))]

    def _call(self, identity: str | None, name: str, given: Any, doubt: str | None = None) -> ToolCall:
        if name not in self._parameters:
            return ToolCall(identity, name, given, self._unknown(name))
        if name in self._free:
            return ToolCall(identity, name, given)
        try:
            arguments, how = read_arguments(given)
        except TooDeep:
            return ToolCall(
                identity, name, given, Problem.from_text(f"the arguments of {name} are nested too deep ({LEVELS})")
            )
        except (ValueError, TypeError):
            return ToolCall(identity, name, given, Problem.from_text(f"the arguments of {name} are not JSON"))
        if not isinstance(arguments, dict):
            return ToolCall(identity, name, given, Problem.from_text(f"the arguments of {name} are not a JSON object"))
        schema = self._parameters[name]
        found = schema.problem(arguments) if schema is not None else None
        where = f"the arguments of {name}: "
        problem = Problem(where + found.told, where + found.said) if found is not None else None
        told = [f"A call of {name} {doubt}"] if doubt else []
        told += [f"The arguments of {name} {how}"] if how else []
        return ToolCall(identity, name, arguments, problem, "; ".join(told) or None)

    def _unknown(self, name: str) -> Problem:
        there_are = f"; there are {', '.join(self._parameters)}"
        return Problem(f"there is no tool {name[:64]!r}{there_are}", f"it calls a tool that was not offered{there_are}")


def load_parameters(name: str, parameters: Any) -> RequestSchema:
    """The schema of a tool's arguments; raises InvalidRequest."""
    return load_user_schema(text_of_schema(parameters, name, _PARAMETERS), name, _PARAMETERS)


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """The objects in what should be a list of them: requests are sent unchecked, too, and servers send anything."""
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list | tuple) else iter(())


def _needs_call(choice: Any) -> bool:
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        choice = allowed.get("mode") if isinstance(allowed, Mapping) else None
    return choice == "required" or isinstance(choice, Mapping)
