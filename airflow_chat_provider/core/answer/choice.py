"""A choice among tasks, as a model is asked for it: one name of a schema's enum, or calls of one tool for each task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.types import JSONObject

_BAD_NAME = r"[^a-zA-Z0-9_-]+"
_LONGEST_NAME = 60  # characters of an id in the name of its tool: 64 are allowed, and a number may follow
_NO_ARGUMENTS: JSONObject = {"type": "object", "properties": {}, "additionalProperties": False}


class Choice:
    """The tasks among which a model chooses, as ``described`` gives them."""

    def __init__(self, branches: Mapping[str, JSONObject]) -> None:
        self._branches = branches
        self._names = _tool_names(branches)

    def schema(self) -> JSONObject:
        """The schema of an answer that names one task."""
        return {
            "title": "branch",
            "type": "object",
            "properties": {"branch": {"type": "string", "enum": list(self._branches)}},
            "required": ["branch"],
            "additionalProperties": False,
        }

    def prompt(self) -> str:
        """The instruction that lists the tasks, for an answer that fits ``schema``."""
        lines = [f"- {name}: {branch.get('description') or name}" for name, branch in self._branches.items()]
        return "\n".join(["Choose one of these, and answer in JSON with its name as branch:", *lines])

    def tools(self) -> list[JSONObject]:
        """A tool for each task."""
        tools = []
        for name, task in self._names.items():
            branch = self._branches[task]
            function = {
                "name": name,
                "description": branch.get("description") or task,
                "parameters": branch.get("parameters") or _NO_ARGUMENTS,
            }
            tools.append({"type": "function", "function": function})
        return tools

    def picked(self, answer: JSONObject | list[JSONObject]) -> dict[str, Any]:
        """The task ids that an answer picks, each with its arguments: the schema's answer, or a list of calls."""
        if isinstance(answer, Mapping):
            return {answer["branch"]: {}}
        return {self._names[call["name"]]: call["arguments"] for call in answer}


def described(branches: Mapping[Any, Any] | Iterable[Any]) -> dict[str, JSONObject]:
    """The operator's ``branches``: for each task id ``description`` and ``parameters`` (a JSON Schema), if given.

    ``branches`` is a list of ids, or a mapping from each id to a description or to both. Raises InvalidRequest.
    """
    found: dict[str, JSONObject] = {}
    for name in branches:
        given = branches[name] if isinstance(branches, Mapping) else {}
        branch = {"description": given} if isinstance(given, str) else given
        is_known = isinstance(branch, Mapping) and branch.keys() <= {"description", "parameters"}
        if not isinstance(name, str) or not is_known:
            raise InvalidRequest(
                f"Correct {str(name)[:64]!r} in branches: write a task id, with its description or with a dict of "
                "description and parameters (a JSON Schema)",
                path="branches",
                keyword="type",
            )
        found[name] = dict(branch)
    return found


def _tool_names(branches: Mapping[str, JSONObject]) -> dict[str, str]:
    """The task id for each tool's name. Ids may have dots and more characters than a tool's name."""
    names: dict[str, str] = {}
    for task in branches:
        name = plain = re.sub(_BAD_NAME, "_", task)[-_LONGEST_NAME:]
        number = 2
        while name in names:
            name, number = f"{plain}_{number}", number + 1
        names[name] = task
    return names
