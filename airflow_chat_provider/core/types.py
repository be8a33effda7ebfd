"""The types that JSON has, and the choices that an operator's arguments leave: names for annotations alone."""

from typing import Any, Literal, TypeAlias

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None
"""What a parameter may be where a server or a DAG's author decides it."""
JSONObject: TypeAlias = dict[str, Any]
ResultFormat: TypeAlias = Literal["raw", "message", "text", "json", "tool_calls"]
OnIncomplete: TypeAlias = Literal["warn", "fail", "ignore"]
