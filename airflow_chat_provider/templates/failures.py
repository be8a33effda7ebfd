"""How a template fails: always as an InvalidRequest, which names the place and quotes no data.

Airflow logs a template that fails with everything that stands in it, and its errors for a missing Variable or
Connection differ from version to version. So templates read both through accessors of this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_chat_provider.airflow_api.compat import NOTSET, exceptions
from airflow_chat_provider.core.errors import InvalidRequest

FROM_AIRFLOW = ("variable", "connection")
"""The ``keyword`` of an InvalidRequest that reports a missing Variable or Connection."""
_MISSING = ("VARIABLE_NOT_FOUND", "CONNECTION_NOT_FOUND")
_TEMPORARY = ("API_SERVER_ERROR", "GENERIC_ERROR")
_SIGNALS = (exceptions.AirflowSkipException, exceptions.AirflowFailException, exceptions.AirflowRescheduleException)
"""A macro raises these to decide how the task ends."""
_SAFE_TO_QUOTE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError)
"""Python's errors whose messages name types and names, and hardly ever a value."""


@contextmanager
def failing_at(where: str, source: str, what: str = "template") -> Iterator[None]:
    """Turn any error of the template ``source`` into an InvalidRequest for the place ``where``."""
    try:
        yield
    except (InvalidRequest, *_SIGNALS):
        raise
    except _Unreadable as error:
        raise _unreadable(error, where, source) from None
    except exceptions.XComNotFound as error:
        raise left_nothing(where, error) from None
    except Exception as error:  # noqa: BLE001 - macros, filters and references raise what they like
        raise _failed(error, where, source, what) from None


def left_nothing(where: str, why: object = "") -> InvalidRequest:
    """The error for a place whose template gave nothing."""
    detail = f": {why}" if why else ""
    return InvalidRequest(
        f"Check whether the upstream task was skipped or failed: {where}: the upstream task left nothing{detail}",
        path=where,
        keyword="upstream",
    )


def _unreadable(error: _Unreadable, where: str, source: str) -> InvalidRequest:
    name = f"the {error.kind} {error.name!r}" if _is_written(error.name, source) else f"a {error.kind}"
    remedy = f"Define {name} for this Airflow, or leave it out of the template" if error.final else "Try again"
    failure = InvalidRequest(
        f"{remedy}: {where}: the template fails: {name} {error.why}", path=where, keyword=error.kind.lower()
    )
    failure.final = error.final
    return failure


def _failed(error: Exception, where: str, source: str, what: str) -> InvalidRequest:
    line, name = getattr(error, "lineno", None), getattr(error, "name", None)
    place = f" ({name}:{line})" if line and name else f" (line {line})" if line else ""
    words = _words(error, source)
    why = f"{type(error).__name__}: {words[:200]}" if words else type(error).__name__
    remedy = "Try again" if _is_temporary(error) else f"Correct the {what.partition(' ')[0]}"
    keyword = "undefined" if words.endswith(" is undefined") else "template"
    failure = InvalidRequest(f"{remedy}: {where}: the {what} fails{place}: {why}", path=where, keyword=keyword)
    failure.final = not _is_temporary(error)
    return failure


def _words(error: Exception, source: str) -> str:
    """The error's own message; empty if it may quote a value, which may be an upstream task's text."""
    from jinja2 import TemplateError, UndefinedError

    if isinstance(error, AirflowRuntimeError):
        return _error_code(error)
    if not isinstance(error, TemplateError) and not isinstance(error, _SAFE_TO_QUOTE):
        return ""
    words = first_line(error)
    if isinstance(error, KeyError):
        return words if words.strip("'\"") in source else ""
    if isinstance(error, UndefinedError):
        for middle in (" has no attribute ", " has no element "):
            owner, found, missing = words.partition(middle)
            if found and not _is_written(missing.strip("'\""), source):  # {{ names[row.name] }}: the name is data
                return f"{owner}{middle}with the name that a value gives"
    return words


def first_line(error: Exception) -> str:
    """The first line of the error's message, in at most 200 characters."""
    return next(iter(str(getattr(error, "message", None) or error).splitlines()), "")[:200]


def _is_written(name: str, source: str) -> bool:
    """True if the DAG's author wrote this name: in the template, or perhaps in another one that it includes."""
    includes = any(tag in source for tag in ("include", "extends", "import"))
    return name in source or (includes and name.isidentifier())


class _Unreadable(Exception):
    """Airflow does not give this Variable or Connection. ``final``: trying again would not help."""

    def __init__(self, kind: str, name: str, why: str, *, final: bool = True) -> None:
        super().__init__(kind, name, why)
        self.kind = kind
        self.name = name
        self.why = why
        self.final = final


def naming_what_is_missing(context: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a task's context in which ``var`` and ``conn`` name the Variable or Connection that is missing."""
    named = dict(context)
    if isinstance(variables := named.get("var"), Mapping):
        named["var"] = {form: _Store("Variable", values, form) for form, values in variables.items()}
    if "conn" in named:
        named["conn"] = _Store("Connection", named["conn"])
    return named


class _Store:
    """Wraps Airflow's accessor, whose attributes are Variables or Connections: hence the mangled names of our own."""

    def __init__(self, kind: Literal["Variable", "Connection"], accessor: Any, form: str = "value") -> None:
        self.__kind = kind
        self.__accessor = accessor
        self.__missing = "does not exist or does not hold JSON" if form == "json" else "does not exist"
        self.__known: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self.__known:  # read once, so that all rows of a batch get the same value
            with self.__reading(name):
                self.__known[name] = getattr(self.__accessor, name)
        return self.__known[name]

    def get(self, name: str, *default: Any, **more: Any) -> Any:
        """Like the accessor's ``get``; but a Variable without a default must exist."""
        with self.__reading(name):
            value = self.__accessor.get(name, *default, **more)
        if value is NOTSET:
            raise _Unreadable(self.__kind, name, self.__missing)
        return value

    def __repr__(self) -> str:
        return repr(self.__accessor)

    @contextmanager
    def __reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except (exceptions.AirflowNotFoundException, LookupError):  # LookupError: Airflow 3.1 outside of a task's run
            raise _Unreadable(self.__kind, name, self.__missing) from None
        except AirflowRuntimeError as error:
            code = _error_code(error)
            if code in _MISSING:
                raise _Unreadable(self.__kind, name, self.__missing) from None
            raise _Unreadable(self.__kind, name, f"cannot be read ({code})", final=not _is_temporary(error)) from None
        except PermissionError:  # a secrets backend refuses
            raise _Unreadable(self.__kind, name, "may not be read by this task") from None
        except ValueError:
            raise _Unreadable(self.__kind, name, "does not hold JSON") from None


def _is_temporary(error: Exception) -> bool:
    """True if the same template may succeed in another try."""
    if isinstance(error, AirflowRuntimeError):
        return _error_code(error) in _TEMPORARY
    return isinstance(error, ConnectionError | TimeoutError)


def _error_code(error: AirflowRuntimeError) -> str:
    """Airflow's own code for the error, such as VARIABLE_NOT_FOUND."""
    return str(getattr(error.error.error, "value", error.error.error))
