"""What an answer has to be: JSON that fits a schema, or calls of the tools that were offered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

from airflow_chat_provider.core.answer.model_types import ModelClass, problem_of_model, schema_of_type
from airflow_chat_provider.core.answer.object_root import key_for, with_object_root, wrapped
from airflow_chat_provider.core.json_text.nesting import LEVELS, TooDeep, loads
from airflow_chat_provider.core.messages import called, read_arguments
from airflow_chat_provider.core.request.schema import Problem, RequestSchema, load_user_schema, text_of_schema
from airflow_chat_provider.core.request.validator import holds_unknown
from airflow_chat_provider.core.types import JSON, JSONObject

_ARGUMENT = "response_schema"
_PARAMETERS = "The parameters of tool"
_BAD_NAME = r"[^a-zA-Z0-9_-]+"
_TO_BE_STRICT = "change that, and servers can enforce the schema"
_LONGEST_NAME = 64  # characters; of a schema and of a tool in OpenAI's API


# A JSON Schema; or a type that Pydantic knows, which need not be a ``type``: list[Model], A | B, a TypeAdapter.
Schema = Any


class OutputSchema:
    """A JSON Schema, or a type with one (Pydantic's), that an answer has to fit.

    A class's own validators, and its patterns with ``regex_engine="python-re"``, may take any time: nothing here can
    bound it.
    """

    def __init__(
        self, schema: JSONObject, validator: RequestSchema, model: ModelClass | None = None, name: str = "answer"
    ) -> None:
        self.schema = schema
        self.name = re.sub(_BAD_NAME, "_", str(schema.get("title") or name)).strip("_")[:_LONGEST_NAME] or "answer"
        self._validator = validator
        self._model = model
        self._root = with_object_root(schema)
        self.key = key_for(self._root)
        """The only key of the object that servers are asked for, if the schema is not an object's; else None."""

    @property
    def is_class(self) -> bool:
        """Does a class check the answer? Only a process that has the DAG's code has it."""
        return self._model is not None

    def problem(self, answer: JSON) -> Problem | None:
        """Where ``answer``, the JSON that came, does not fit; None if it fits."""
        return self.judge(answer)[0]

    def judge(self, answer: JSON) -> tuple[Problem | None, str | None]:
        """Where ``answer`` does not fit; and the key of what the schema is about, if it came in an object as asked."""
        if self.key is None or not isinstance(answer, dict) or answer.keys() != {self.key}:
            return self._problem(answer), None
        found = self._problem(answer[self.key], (self.key,))
        if found is not None and self._problem(answer) is None:  # the server has passed over the object
            return None, None
        return found, self.key

    def _problem(self, value: JSON, under: tuple[str, ...] = ()) -> Problem | None:
        found = self._validator.problem(value, under)
        if found is not None or self._model is None:
            return found
        return problem_of_model(self._model, value, self._validator.names, under)

    @cached_property
    def response_format(self) -> tuple[JSONObject, str | None]:
        """The request's ``response_format``, strict if servers take this schema so; and why it is not strict."""
        # A class has no optional properties: one with a default may stand in every answer.
        schema = _closed(self._root) if self._model is not None else self._root
        why = _not_strict(schema, has_object=self.key is not None or schema.get("type") == "object")
        json_schema = {"name": self.name, "schema": self._asked(self._root if why else schema), "strict": why is None}
        return {"type": "json_schema", "json_schema": json_schema}, why

    def _asked(self, schema: JSONObject) -> JSONObject:
        return schema if self.key is None else wrapped(schema, self.key)

    @cached_property
    def digest(self) -> str:
        """A short text that tells this schema from others."""
        text = json.dumps(self.schema, sort_keys=True, default=str)
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    @cached_property
    def prompt(self) -> str:
        """The instruction for a server that takes no schema."""
        text = json.dumps(self._asked(self.schema), ensure_ascii=False)
        return f"Answer in JSON, with nothing before or after it, that fits this JSON Schema:\n{text}"


def load_output(source: Schema | OutputSchema) -> OutputSchema | None:
    """The schema that ``response_schema`` is: a JSON Schema, or a type that Pydantic knows; None for None.

    Raises InvalidRequest for a schema that cannot be used.
    """
    if source is None or isinstance(source, OutputSchema):
        return source
    if not isinstance(source, Mapping):
        name, schema, model = schema_of_type(source, _ARGUMENT)
        text = text_of_schema(schema, name, _ARGUMENT)
        # A type matches its patterns itself, by Python's engine if it says so.
        return OutputSchema(schema, load_user_schema(text, name, _ARGUMENT, all_patterns=False), model, name)
    text = text_of_schema(source, _ARGUMENT, _ARGUMENT)
    return OutputSchema(dict(source), load_user_schema(text, _ARGUMENT, _ARGUMENT))


def output_from_text(text: str, name: str) -> OutputSchema:
    """The schema in the text of the file ``name``; raises InvalidRequest if it cannot be used."""
    validator = load_user_schema(text, name, _ARGUMENT)
    return OutputSchema(loads(text), validator)


def _not_strict(schema: JSONObject, *, has_object: bool) -> str | None:
    """Why servers do not take a schema as a strict one, and where; None if they do.

    ``has_object``: they are asked for an object.
    """
    from airflow_chat_provider.core.request.rules.report import Report
    from airflow_chat_provider.core.request.rules.tools import check_schema
    from airflow_chat_provider.core.servers import server_at

    report = Report(server_at(None))
    if not has_object:
        return 'response_schema has no type at its root; write "type": "object" there'
    check_schema(schema, _ARGUMENT, report, strict=True, remedy=_TO_BE_STRICT)
    return next(iter(report.warnings()), None)


def _closed(node: Any) -> Any:
    """A schema with every object closed and every property required, as strict servers want it."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict):
        for name, value in closed["properties"].items():
            if isinstance(value, dict):  # no strict server takes a default
                closed["properties"][name] = {key: item for key, item in value.items() if key != "default"}
        closed["required"] = list(node["properties"])
        closed.setdefault("additionalProperties", False)
    return closed


class ToolCall(NamedTuple):
    """One call that the model makes. ``problem``: why it cannot be executed; ``doubt``: what was assumed to read it."""

    id: str | None
    name: str
    arguments: Any
    problem: Problem | None = None
    doubt: str | None = None


class Tools:
    """The tools that a request offers, and whether one has to be called (``needed``).

    What only a template knows is not checked. Raises InvalidRequest for parameters that cannot be used as a schema.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._parameters: dict[str, RequestSchema | None] = {}
        self._free: set[str] = set()
        for tool in _objects(request.get("tools")):
            kind = str(tool.get("type", "function"))
            function = tool.get(kind)
            if isinstance(function, Mapping):
                self._offer(function)
                if kind == "custom":  # takes text of any form
                    self._free.add(str(function.get("name")))
        for function in _objects(request.get("functions")):
            self._offer(function)
        self.needed = _needs_call(request.get("tool_choice"))

    def _offer(self, function: Mapping[str, Any]) -> None:
        name, parameters = str(function.get("name")), function.get("parameters")
        schema = None
        if isinstance(parameters, Mapping) and parameters and not holds_unknown(parameters):
            schema = load_parameters(name, parameters)
        self._parameters[name] = schema

    def calls(self, message: Mapping[str, Any]) -> list[ToolCall]:
        """The calls in a message, each parsed and checked."""
        calls = [self._call(call.id, call.name, call.arguments, call.doubt) for call in called(message)]
        legacy = message.get("function_call")
        if isinstance(legacy, Mapping):
            name = legacy.get("name")
            calls.append(self._call(None, name if isinstance(name, str) else "", legacy.get("arguments")))
        return calls

    def _call(self, identity: str | None, name: str, given: JSON, doubt: str | None = None) -> ToolCall:
        if name not in self._parameters:
            return ToolCall(identity, name, given, self._unknown(name))
        if name in self._free:
            return ToolCall(identity, name, given)
        what = f"the arguments of {name}"
        try:
            arguments, how = read_arguments(given)
            why = None if isinstance(arguments, dict) else "are not a JSON object"
        except TooDeep:
            why = f"are nested too deep ({LEVELS})"
        except (ValueError, TypeError):
            why = "are not JSON"
        if why is not None:
            return ToolCall(identity, name, given, Problem.from_text(f"{what} {why}"))
        schema = self._parameters[name]
        found = schema.problem(arguments) if schema is not None else None
        problem = Problem(f"{what}: {found.told}", f"{what}: {found.said}") if found is not None else None
        doubts = [f"A call of {name} {doubt}"] if doubt else []
        doubts += [f"The arguments of {name} {how}"] if how else []
        return ToolCall(identity, name, arguments, problem, "; ".join(doubts) or None)

    def _unknown(self, name: str) -> Problem:
        offered = f"; the request offers {', '.join(self._parameters) or 'none'}"
        return Problem(f"there is no tool {name[:64]!r}{offered}", f"it calls a tool that was not offered{offered}")


def load_parameters(name: str, parameters: Mapping[str, Any]) -> RequestSchema:
    """The schema of a tool's arguments; raises InvalidRequest if it cannot be used."""
    return load_user_schema(text_of_schema(parameters, name, _PARAMETERS), name, _PARAMETERS)


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    """The objects in a list, whatever else it holds: requests may be sent unchecked, and servers send anything."""
    for item in value if isinstance(value, list | tuple) else ():
        if isinstance(item, Mapping):
            yield item


def _needs_call(choice: JSON) -> bool:
    """Does ``tool_choice`` demand a call? "required", and every object but ``allowed_tools`` in another mode."""
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        choice = allowed.get("mode") if isinstance(allowed, Mapping) else None
    return choice == "required" or isinstance(choice, Mapping)
