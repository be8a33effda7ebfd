"""A row of a batch in a template, and what to say of a column that it does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.spelling import close_to

ROW = "row"
"""The variable by which a batch's templates see their row."""
_SHOWN, _LONGEST = 20, 50


class Columns(dict[str, Any]):
    """A row in a template: ``row.items`` is the column of that name, and only without one the method of a dict."""

    _missed: tuple[Any, ...] = ()

    def __getattribute__(self, name: str) -> Any:
        # Jinja's sandbox takes an attribute that begins with an underscore for Python's own, and looks no further.
        return self[name] if name[:1] != "_" and name in self else super().__getattribute__(name)

    def __missing__(self, name: Any) -> Any:
        """Note the name. Jinja fails only where the value is used: ``{{ row.x | default('') }}`` is no mistake."""
        self._missed = (*self._missed[-_SHOWN:], name)
        raise KeyError(name)

    @contextmanager
    def named(self, where: str, source: str) -> Iterator[None]:
        """Turn Jinja's error for a missing column into one that names the columns there are."""
        from jinja2 import UndefinedError

        try:
            yield
        except UndefinedError as error:
            # Without a name that comes from a value, as in {{ row[row.key] }}: it is data.
            missed = [name for name in self._missed if str(name) in source and repr(name) in str(error)]
            if not missed:
                raise
            raise self._no_column(str(missed[-1]), where) from None

    def _no_column(self, name: str, where: str) -> InvalidRequest:
        names = [str(column) for column in self]
        meant = "".join(f" (did you mean {one!r}?)" for one in close_to(name, names))
        shown = ", ".join(repr(column[:_LONGEST]) for column in names[:_SHOWN]) or "none"
        more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
        return InvalidRequest(
            f"Correct the template: {where}: the row has no column {name[:_LONGEST]!r}{meant}; it has {shown}{more}",
            path=where,
            keyword="column",
        )


@contextmanager
def pointing_to_row() -> Iterator[None]:
    """Say where columns are found, if a batch's template uses a name that nothing has."""
    try:
        yield
    except InvalidRequest as error:
        if error.keyword == "undefined":
            error.reword(f"{error.message} (a column of the row is {{{{ {ROW}.NAME }}}})")
        raise
