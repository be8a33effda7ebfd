"""A schema's patterns, matched in linear time.

Python's ``re`` backtracks: ``^(a+)+$`` takes hours for a text of 40 characters, and it holds the interpreter meanwhile,
so that no time limit can end it. Rust's engine does not backtrack. It comes with Pydantic, which comes with Airflow.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

_MOST_WORK = 10**8  # characters times the size of the pattern: a tenth of a second at worst
_COUNT = r"(\)?)\{(\d{1,9})(?:,(\d{0,9}))?\}"


class TooMuchWork(Exception):
    """The value is too large or too deep to be checked against its schema in a reasonable time."""


def matches(pattern: str, text: str) -> bool:
    """Does ``pattern`` match anywhere in ``text``? True for a pattern that cannot be used. Raises TooMuchWork."""
    compiled, size = _compiled(pattern)
    if len(text) * size > _MOST_WORK:
        raise TooMuchWork
    return isinstance(compiled, str) or compiled.isinstance_python(text)


def refusal(pattern: str) -> str | None:
    """Why a pattern cannot be used; None if it can."""
    compiled, _ = _compiled(pattern)
    return compiled if isinstance(compiled, str) else None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> tuple[SchemaValidator | str, int]:
    """The compiled pattern, or why it cannot be used; and its work for each character."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        schema = core_schema.str_schema(pattern=pattern, regex_engine="rust-regex", strict=True)
        return SchemaValidator(schema), _size(pattern)
    except SchemaError as error:
        # The engine's report ends in "error: look-around ... is not supported", or is one sentence.
        text = str(error).rsplit("error: ", 1)[-1].rsplit("SchemaError: ", 1)[-1].strip()
        return text.splitlines()[0][:200] if text else "the engine refuses it", 0


def _size(pattern: str) -> int:
    """The pattern's length with its counted repetitions written out.

    Those of groups multiply, since groups can be nested.
    """
    size, factor = len(pattern), 1
    for group, least, most in re.findall(_COUNT, pattern):
        count = int(most or least)
        if group:
            factor *= max(count, 1)
        else:
            size += count
    return size * factor
