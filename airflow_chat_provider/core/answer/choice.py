"""A choice among tasks, as a model is asked for it: one of a schema's enum, or a call of one tool for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_chat_provider.core.errors import InvalidRequest

_BAD_NAME = re.compile(r"[^a-zA-Z0-9_-]+")
_NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


class Choice:
    """``branches``: the tasks' ids, each with ``description`` and ``parameters`` (a JSON Schema), if it has them."""

    def __init__(self, branches: Mapping[str, Mapping[str, Any]]) -> None:
        self._branches = branches
        self._names = _names(branches)

    def schema(self) -> dict[str, Any]:
        """The answer that names one."""
        branch = {"type": "string", "enum": list(self._branches)}
        return {
            "title": "branch",
            "type": "object",
            "properties": {"branch": branch},
            "required": ["branch"],
            "additionalProperties": False,
        }

    def prompt(self) -> str:
        """What the model has to know of each, and how it answers."""
        lines = [f"- {name}: {branch.get('description') or name}" for name, branch in self._branches.items()]
        return "\n".join(["Choose one of these, and answer in JSON with its name as branch:", *lines])

    def tools(self) -> list[dict[str, Any]]:
        """A tool for each."""
        return [
            {
                "type": "function",
                "function": {
                    "name": name,
                    "description": self._branches[task].get("description") or task,
                    "parameters": self._branches[task].get("parameters") or _NO_ARGUMENTS,
                },
            }
            for name, task in self._names.items()
        ]

    def picked(self, answer: Any) -> dict[str, Any]:
        """The ids that an answer (the schema's, or a list of calls) picks, each with its arguments."""
        if isinstance(answer, Mapping):
            return {answer["branch"]: {}}
        return {self._names[call["name"]]: call["arguments"] for call in answer}


def described(branches: Any) -> dict[str, dict[str, Any]]:
    """The operator's ``branches``, a list of ids or a mapping, as a mapping; raises InvalidRequest."""
    if isinstance(branches, Mapping):
        found = {name: {"description": of} if isinstance(of, str) else of for name, of in branches.items()}
    else:
        found = {name: {} for name in branches}
    for name, of in found.items():
        if not isinstance(name, str) or not isinstance(of, Mapping) or not of.keys() <= {"description", "parameters"}:
            raise InvalidRequest(
                f"branches: {str(name)[:64]!r} must be a task's id with its description, or with description and "
                "parameters (a JSON Schema)",
                path="branches",
                keyword="type",
            )
    return {name: dict(of) for name, of in found.items()}


def _names(branches: Mapping[str, Any]) -> dict[str, str]:
    """A tool's name for each id: ids may hold dots and more than 64 characters."""
    names: dict[str, str] = {}
    for task in branches:
        name = plain = _BAD_NAME.sub("_", task)[-60:]
        number = 2
        while name in names:
            name, number = f"{plain}_{number}", number + 1
        names[name] = task
    return names
