"""What the rules find: the first error is raised, and warnings are collected, one for each rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.paths import error_text, step, warning_text
from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.core.servers import Server

_LONGEST = 64
WAY_OUT = "; request_schema='open' sends it as it is"


class Report:
    """A finding has a rule (snake case), a JSON path, a problem ("is empty") and a remedy ("leave it out").

    ``is_open``: the user has chosen to send what the rules refuse, so each finding is a warning.
    """

    __slots__ = ("_found", "_is_open", "_places", "server")

    def __init__(self, server: Server, *, is_open: bool = False) -> None:
        self.server = server
        self._is_open = is_open
        self._found: dict[str, tuple[str, str, str]] = {}
        self._places: dict[str, int] = {}

    def refuse(self, rule: str, path: str, problem: str, remedy: str) -> None:
        """For what this server refuses, and for what is nearly always a mistake. The user can still send it."""
        if not self._is_open:
            raise InvalidRequest(error_text(path, problem + WAY_OUT, remedy), path=path, keyword=rule)
        self.warn(rule, path, problem, remedy)

    def warn(self, rule: str, path: str, problem: str, remedy: str) -> None:
        self._found.setdefault(rule, (path, problem, remedy))
        self._places[rule] = self._places.get(rule, 0) + 1

    def refused_by_openai(self, rule: str, path: str, problem: str, remedy: str, *, here: bool = False) -> None:
        """An error at OpenAI and Azure, and if ``here``; elsewhere a warning, because some servers accept it."""
        if self.server.openai or here:
            self.refuse(rule, path, problem, remedy)
        else:
            self.warn(rule, path, problem, remedy)

    def refused_by_openai_alone(self, rule: str, path: str, problem: str, remedy: str) -> None:
        """The same for what matters to OpenAI only: no finding if the server is known to be another one."""
        if self.server.openai or not self.server.known:
            self.refused_by_openai(rule, path, problem, remedy)

    def warnings(self) -> list[str]:
        return [warning_text(*found, self._places[rule]) for rule, found in self._found.items()]


def child(path: str, key: object) -> str:
    """The JSON path of ``key`` under ``path``. A key may be any Python object; JSON turns it into text."""
    return path + step(str(key))


def quoted(name: str) -> str:
    """A name for a message. It is shown by ``repr``: control characters and lone surrogates must not reach a log."""
    return repr(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…")


def shown(value: float) -> str:
    """A number for a message. Python refuses to write out more than 4,300 digits."""
    return "out of all bounds" if abs(value) >= 10**18 else str(value)


def unsure(*values: Any) -> bool:
    """Is one of these known only when the task runs? Until then, a rule that depends on it stays silent.

    Its template may also give None, which counts as not set.
    """
    return any(value is UNKNOWN for value in values)


def as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def as_number(value: object) -> int | float | None:
    """The JSON number; None for anything else. ``True`` is an int to Python only."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def more_than(value: object, limit: int) -> bool:
    number = as_number(value)
    return number is not None and number > limit
