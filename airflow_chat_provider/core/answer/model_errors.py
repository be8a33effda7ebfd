"""What a Pydantic model class has against an answer, in words with the answer in them and in words without."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from airflow_chat_provider.core.paths import join_known
from airflow_chat_provider.core.request.schema import Problem

_SHOWN = 5
# What Pydantic's messages take from the class alone. Others quote the input, or what a validator of the user's says.
_OF_THE_CLASS = frozenset(
    {
        *("actual_length", "class", "class_name", "decimal_places", "discriminator", "encoding", "expected"),
        *("expected_plural", "expected_schemes", "expected_tags", "expected_version", "field_type", "ge", "gt"),
        *("le", "lt", "max_digits", "max_length", "min_length", "multiple_of", "pattern", "tz_expected"),
        "whole_digits",
    }
)


def problem_of_model(model: Any, value: Any, names: Container[str]) -> Problem | None:
    """Where ``value`` does not fit a model class; ``names``: the properties that its schema names."""
    try:
        model.model_validate(value)
    except ValueError as error:  # Pydantic's ValidationError is one
        errors = getattr(error, "errors", None)
        if not callable(errors):
            return Problem.from_text("the model class refuses it")
        found = errors(include_input=False, include_url=False)[:_SHOWN]
        told = [f"{'.'.join(map(str, one['loc'])) or '$'}: {one['msg']}" for one in found]
        said = [f"{_place(one['loc'], value, names)}: {_words(one)}" for one in found]
        return Problem("; ".join(told), "; ".join(said))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - of a validator of the user's
        return Problem.from_text(f"the model class fails with it ({type(error).__name__})")
    return None


def _place(loc: tuple[int | str, ...], value: Any, names: Container[str]) -> str:
    """The path of an error. Pydantic's has names of types and validators in between, which lead nowhere."""
    keys: list[int | str] = []
    for step in loc:
        there, value = _below(value, step)
        if there or step in names:  # the last for one that is missing
            keys.append(step)
    return join_known(keys, names)


def _below(value: Any, step: int | str) -> tuple[bool, Any]:
    if isinstance(value, dict) and step in value:
        return True, value[step]
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return True, value[step]
    return False, value


def _words(error: Mapping[str, Any]) -> str:
    """Pydantic's message, if nothing but the class is in it."""
    from pydantic_core import PydanticKnownError

    kind, given = str(error["type"]), error.get("ctx") or {}
    if not given.keys() <= _OF_THE_CLASS:
        return f"breaks a rule of the model class ({kind if _is_known(kind) else 'its own'})"
    try:
        # By the type alone, whose words are Pydantic's: a validator of the user's could name any type and say anything.
        return PydanticKnownError(kind, given or None).message()  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return "breaks a rule of the model class (its own)"


def _is_known(kind: str) -> bool:
    from typing import get_args

    from pydantic_core.core_schema import ErrorType

    return kind in get_args(ErrorType)
