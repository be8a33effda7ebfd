"""The types whose values an answer may have to be: Pydantic models, and all else that Pydantic makes a schema of."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import is_dataclass
from types import GenericAlias, UnionType
from typing import Any, Protocol, cast, get_args, get_origin

from airflow_chat_provider.core.paths import join_known
from airflow_chat_provider.core.request.schema import Problem, bad_schema
from airflow_chat_provider.core.types import JSON, JSONObject

_LONGEST_TEXT = 64  # characters of a wrong argument that are shown
_MOST_ERRORS = 5  # of a model class that are told
# What Pydantic's messages take from the class alone. Others quote the input, or what a validator of the user's says.
_OF_THE_CLASS = frozenset(
    {
        *("actual_length", "class", "class_name", "decimal_places", "discriminator", "encoding", "expected"),
        *("expected_plural", "expected_schemes", "expected_tags", "expected_version", "field_type", "ge", "gt"),
        *("le", "lt", "max_digits", "max_length", "min_length", "multiple_of", "pattern", "tz_expected"),
        "whole_digits",
    }
)


class ModelClass(Protocol):
    """A Pydantic model class, or another with these two methods."""

    __name__: str

    def model_json_schema(self) -> JSONObject:
        """The JSON Schema of its instances."""

    def model_validate(self, value: JSON) -> object:
        """Make an instance; raises ValueError, mostly Pydantic's ValidationError."""


class _OfAdapter:
    """A type that is not a model class, with the methods of one."""

    def __init__(self, adapter: Any, name: str) -> None:
        self._adapter = adapter
        self.__name__ = name

    def model_json_schema(self) -> JSONObject:
        return cast("JSONObject", self._adapter.json_schema())

    def model_validate(self, value: JSON) -> object:
        return self._adapter.validate_python(value)


def is_type(value: object) -> bool:
    """Is it a type, or what stands for one: ``list[Model]``, ``A | B``, a ``TypeAdapter``?"""
    return isinstance(value, type | UnionType | GenericAlias) or get_origin(value) is not None or _is_adapter(value)


def _is_adapter(value: object) -> bool:
    return all(callable(getattr(type(value), method, None)) for method in ("json_schema", "validate_python"))


def schema_of_type(source: Any, argument: str) -> tuple[str, JSONObject, ModelClass]:
    """A type's name, its JSON Schema, and what checks a value. Raises InvalidRequest for a type that has no schema."""
    name = _name_of(source)
    try:
        model = _as_model(source, name)
        return name, model.model_json_schema(), model
    except Exception as error:  # noqa: BLE001 - Pydantic has errors of its own
        raise bad_schema(name, argument, _why_no_schema(source, error)) from None


def _as_model(source: Any, name: str) -> ModelClass:
    if isinstance(source, type) and all(
        callable(getattr(source, method, None)) for method in ("model_json_schema", "model_validate")
    ):
        return cast("ModelClass", source)
    if _is_adapter(source):
        return _OfAdapter(source, name)
    from pydantic import TypeAdapter

    return _OfAdapter(TypeAdapter(source), name)


def _name_of(source: Any) -> str:
    """A type's name as its author wrote it, without modules."""
    if _is_adapter(source):
        return _name_of(getattr(source, "_type", type(source)))
    if isinstance(source, type) and get_origin(source) is None:
        return source.__name__
    return re.sub(r"\b[A-Za-z_][\w<>]*\.(?=[A-Za-z_<])", "", str(source))[:_LONGEST_TEXT]


def _why_no_schema(source: Any, error: Exception) -> str:
    """Pydantic's reason, if it is about the type alone."""
    from pydantic import PydanticUserError

    kind = type(error).__name__
    if kind == "PydanticSchemaGenerationError":
        what = "a plain class" if isinstance(source, type) else "a class in it"
        return f"{what} has no JSON Schema; use a Pydantic model, a dataclass or a TypedDict"
    why = str(error).partition("\n")[0].rstrip(".") if isinstance(error, PydanticUserError) else ""
    return f"it has no JSON Schema ({kind}{': ' + why if why else ''})"


def may_be_path(text: str) -> bool:
    """May a text be the path of a file, rather than JSON or a name?"""
    return re.search(r"[./\\]", text) is not None and not _is_json(text)


def _is_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def instead_of(value: object, argument: str) -> str | None:
    """What to write for a value that is neither a schema nor a type; None if there is no saying."""
    kind = type(value)
    if isinstance(value, str) and _is_json(value):
        return f"Give {argument} as a dict, json.loads(text), or put the text into a .json file"
    if isinstance(value, list | tuple) and value and all(map(is_type, value)):
        names = list(map(_name_of, value))
        if isinstance(value, list) and len(names) == 1:
            return f"Write {argument}=list[{names[0]}] instead of a list with that class in it"
        return f"Write {argument}={' | '.join(names)} for an answer that is one of them"
    if callable(getattr(value, "model_json_schema", None)) or is_dataclass(value):
        return f"Give {argument} the class {kind.__name__}, not an instance of it"
    return None


def problem_of_model(
    model: ModelClass, value: JSON, names: Container[object], under: tuple[str, ...] = ()
) -> Problem | None:
    """Where ``value`` does not fit a model class; ``names``: the properties that its schema names.

    ``under``: where the value is in the answer, as the model is told it.

    The model is told Pydantic's own messages. Logs get those that quote neither the answer nor the user's code.
    """
    try:
        model.model_validate(value)
    except ValueError as error:  # Pydantic's ValidationError is one
        errors = getattr(error, "errors", None)
        if not callable(errors):
            return Problem.from_text("the model class refuses it")
        found = errors(include_input=False, include_url=False)[:_MOST_ERRORS]
        told = [f"{'.'.join(map(str, (*under, *one['loc']))) or '$'}: {one['msg']}" for one in found]
        said = [f"{_place(one['loc'], value, names)}: {_words(one)}" for one in found]
        return Problem("; ".join(told), "; ".join(said))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - of a validator of the user's
        return Problem.from_text(f"the model class fails on it ({type(error).__name__})")
    return None


def _place(loc: tuple[int | str, ...], value: JSON, names: Container[object]) -> str:
    """The path of an error. Pydantic's has names of types and validators in between, which lead nowhere."""
    keys: list[int | str] = []
    here: Any = value
    for step in loc:
        leads = isinstance(here, dict) and step in here
        leads = leads or (isinstance(here, list) and isinstance(step, int) and step < len(here))
        if leads:
            here = here[step]
        if leads or step in names:  # the last one, if it is missing
            keys.append(step)
    return join_known(keys, names)


def _words(error: Mapping[str, Any]) -> str:
    """Pydantic's message, if it has nothing in it but what the class says."""
    from pydantic_core import PydanticKnownError
    from pydantic_core.core_schema import ErrorType

    kind, given = str(error["type"]), error.get("ctx") or {}
    if not given.keys() <= _OF_THE_CLASS:
        return f"breaks a rule of the model class ({kind if kind in get_args(ErrorType) else 'its own'})"
    try:
        # By the type alone, whose words are Pydantic's: a validator of the user's could name any type and say anything.
        return PydanticKnownError(kind, given or None).message()  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return "breaks a rule of the model class (its own)"
