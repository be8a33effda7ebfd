"""What a template fails with, as an InvalidRequest that names the place and quotes no data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_chat_provider.airflow_api.compat import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowRuntimeError,
    AirflowSkipException,
    XComNotFound,
)
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.templates.stores import Unread, error_code, may_pass

_SIGNALS = (AirflowSkipException, AirflowFailException, AirflowRescheduleException)
"""What a macro raises to say what is to become of the task."""
_REVEALING = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError)
"""Python's errors whose words name types and names, and seldom a value."""


@contextmanager
def failing_at(where: str, source: str, what: str = "template") -> Iterator[None]:
    """What the template ``source`` fails with, as an InvalidRequest. ``what`` says what it is, where it is another."""
    try:
        yield
    except (InvalidRequest, *_SIGNALS):
        raise
    except Unread as error:
        raise _unread(error, where, source) from None
    except XComNotFound as error:
        raise left_nothing(where, error) from None
    except Exception as error:  # noqa: BLE001 - macros, filters and references raise what they like
        raise _failed(error, where, source, what) from None


def left_nothing(where: str, why: object) -> InvalidRequest:
    """An upstream task left nothing for ``where``."""
    said = f": {why}" if why else ""
    return InvalidRequest(
        f"{where}: the upstream task left nothing (was it skipped, or did it fail?){said}",
        path=where,
        keyword="upstream",
    )


def _unread(error: Unread, where: str, source: str) -> InvalidRequest:
    name = f"the {error.kind} {error.name!r}" if is_written(error.name, source) else f"a {error.kind}"
    remedy = f"Define {name} for this Airflow, or leave it out of the template" if error.final else "Try again"
    told = InvalidRequest(
        f"{remedy}: {where}: the template fails: {name} {error.why}", path=where, keyword=error.kind.lower()
    )
    told.final = error.final
    return told


def _failed(error: Exception, where: str, source: str, what: str) -> InvalidRequest:
    line, name = getattr(error, "lineno", None), getattr(error, "name", None)
    place = f" ({name}:{line})" if line and name else f" (line {line})" if line else ""
    said = _said(error, source)
    why = f"{type(error).__name__}: {said[:200]}" if said else type(error).__name__
    told = InvalidRequest(f"{where}: the {what} fails{place}: {why}", path=where, keyword="template")
    told.final = not may_pass(error)
    return told


def _said(error: Exception, source: str) -> str:
    """The error's own words, unless there may be a value in them, which may be the upstream's text."""
    from jinja2 import TemplateError, UndefinedError

    if isinstance(error, AirflowRuntimeError):
        return error_code(error)
    if not isinstance(error, TemplateError) and not isinstance(error, _REVEALING):
        return ""
    said = next(iter(str(getattr(error, "message", None) or error).splitlines()), "")
    if isinstance(error, KeyError):
        return said if said.strip("'\"") in source else ""
    if isinstance(error, UndefinedError):
        for words in (" has no attribute ", " has no element "):
            what, found, missing = said.partition(words)
            if found and not is_written(missing.strip("'\""), source):  # {{ names[row.name] }}
                return f"{what}{words}of the name that a value gives"
    return said


def is_written(name: str, source: str) -> bool:
    """Does the DAG's author say this name, in the template or (as far as one can see) in one that it takes in?"""
    takes_in = any(tag in source for tag in ("include", "extends", "import"))
    return name in source or (takes_in and name.isidentifier())
