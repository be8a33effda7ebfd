"""JSON's types under one name: the type of a parameter whose value a server or the author of a DAG decides."""

from typing import Any, TypeAlias

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None
JSONObject: TypeAlias = dict[str, Any]
