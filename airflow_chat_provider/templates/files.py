"""Files that arguments name, found as Airflow finds templates: next to the DAG, or in its template_searchpath."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_chat_provider.core.errors import InvalidRequest

if TYPE_CHECKING:
    import jinja2


def is_path(text: str) -> bool:
    """True if an argument's text is the path of a file, and not the JSON itself."""
    return text.strip().endswith(".json") and "\n" not in text.strip()


def no_path(argument: str) -> InvalidRequest:
    """The error for data that looks like the path of a file: data must not choose which file is read."""
    return InvalidRequest(
        f"Write the path in {argument} out in the DAG, without a template: {argument}: a text from a template or an "
        "upstream task is data, and no file is read for it",
        path=argument,
        keyword="file",
    )


def read_file(environment: jinja2.Environment, name: str, argument: str) -> tuple[str, Callable[[], bool]]:
    """The text of the file that an argument names, and a function that tells whether the file is still the same.

    Raises InvalidRequest, which tells the places searched.
    """
    from jinja2 import FileSystemLoader, TemplateNotFound

    is_absolute = Path(name).is_absolute()
    loader = FileSystemLoader(Path(name).parent) if is_absolute else environment.loader
    try:
        if loader is not None:
            text, _, is_current = loader.get_source(environment, Path(name).name if is_absolute else name)
            return text, is_current or (lambda: True)
        remedy, why = "Give the task a DAG", "cannot be found without one"
    except UnicodeDecodeError:
        remedy, why = "Save the file as UTF-8", "is not UTF-8"
    except TemplateNotFound:
        remedy, why = "Correct the path", "does not exist" if is_absolute else f"is in none of {_places(environment)}"
    except OSError as error:
        remedy, why = "Make the file readable", f"cannot be read: {error.strerror or error}"
    raise InvalidRequest(f"{remedy}: {argument}: the file {name!r} {why}", path=argument, keyword="file")


def _places(environment: jinja2.Environment) -> str:
    return ", ".join(repr(str(place)) for place in getattr(environment.loader, "searchpath", ()))
