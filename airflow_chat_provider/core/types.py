"""The types that JSON has, by one name: what a parameter may be where a server or a DAG's author decides it."""

from typing import Any, TypeAlias

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None
JSONObject: TypeAlias = dict[str, Any]
