"""Variables and Connections as a template reads them: one that is missing is told by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow_chat_provider.airflow_api.compat import NOTSET, AirflowNotFoundException, AirflowRuntimeError

OF_AIRFLOW = ("variable", "connection")
"""An InvalidRequest's ``keyword`` for these: what is missing is not in the request."""
_MISSING = ("VARIABLE_NOT_FOUND", "CONNECTION_NOT_FOUND")
_MAY_PASS = ("API_SERVER_ERROR", "GENERIC_ERROR")


class Unread(Exception):
    """A Variable or a Connection that Airflow does not give. ``final``: another try would not get it either."""

    def __init__(self, kind: str, name: str, why: str, *, final: bool = True) -> None:
        super().__init__(kind, name, why)
        self.kind = kind
        self.name = name
        self.why = why
        self.final = final


def naming_what_is_missing(context: Mapping[str, Any]) -> dict[str, Any]:
    """A task's context, whose ``var`` and ``conn`` raise Unread. Airflow's errors differ from version to version."""
    named = dict(context)
    if isinstance(variables := named.get("var"), Mapping):
        named["var"] = {kind: _Store("Variable", values, kind == "json") for kind, values in variables.items()}
    if "conn" in named:
        named["conn"] = _Store("Connection", named["conn"])
    return named


class _Store:
    """Airflow's accessor, whose attributes are Variables or Connections; hence the names of our own."""

    def __init__(self, kind: str, accessor: Any, holds_json: bool = False) -> None:  # noqa: FBT001, FBT002 - private
        self.__kind = kind
        self.__accessor = accessor
        self.__or = " or does not hold JSON" if holds_json else ""
        self.__had: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self.__had:  # asked for once: a batch's rows all have the same
            with self.__reading(name):
                self.__had[name] = getattr(self.__accessor, name)
        return self.__had[name]

    def get(self, name: str, *default: Any, **more: Any) -> Any:
        """As the accessor has it; without a default a Variable must be there."""
        with self.__reading(name):
            value = self.__accessor.get(name, *default, **more)
        if value is NOTSET:
            raise Unread(self.__kind, name, f"does not exist{self.__or}")
        return value

    def __repr__(self) -> str:
        return repr(self.__accessor)

    @contextmanager
    def __reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except (AirflowNotFoundException, LookupError):  # LookupError: Airflow 3.1 outside of a task's run
            raise Unread(self.__kind, name, f"does not exist{self.__or}") from None
        except AirflowRuntimeError as error:
            code = error_code(error)
            if code in _MISSING:
                raise Unread(self.__kind, name, f"does not exist{self.__or}") from None
            raise Unread(self.__kind, name, f"cannot be read ({code})", final=not may_pass(error)) from None
        except PermissionError:  # a secrets backend says no
            raise Unread(self.__kind, name, "may not be read by this task") from None
        except ValueError:
            raise Unread(self.__kind, name, "does not hold JSON") from None


def may_pass(error: Exception) -> bool:
    """May the same template do without this error another time?"""
    if isinstance(error, AirflowRuntimeError):
        return error_code(error) in _MAY_PASS
    return isinstance(error, ConnectionError | TimeoutError)


def error_code(error: AirflowRuntimeError) -> str:
    """Airflow's own name for what went wrong: VARIABLE_NOT_FOUND, ..."""
    return str(getattr(error.error.error, "value", error.error.error))
