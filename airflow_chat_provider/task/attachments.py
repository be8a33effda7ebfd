"""The argument ``attachments``: checked when the DAG is parsed, and found on the machine where the task runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.request.attachments import (
    Attachments,
    check_name,
    check_turn,
    is_path_object,
    paths_of,
)
from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.templates.dag_templates import holds_template, markers, templates_of

if TYPE_CHECKING:
    from airflow.sdk import DAG


def check_paths(name: str, value: Any) -> None:
    """Check the paths as far as no template hides them. Raises InvalidRequest."""
    is_template = markers()
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)
    for place, item in ((f"{name}[{i}]", one) for i, one in enumerate(value)) if several else ((name, value),):
        if is_path_object(item) or not holds_template(item, is_template):
            for path in paths_of(item, place):
                check_name(path)


def check_user_message(arguments: Mapping[str, Any], request: Any) -> None:
    """Raise InvalidRequest if there are attachments, and surely no user message to put them into.

    ``request``: what is known of it when the DAG is parsed.
    """
    given = arguments.get("attachments")
    if given is None or (isinstance(given, list | tuple) and not given) or not isinstance(request, Mapping):
        return
    messages = request.get("messages", UNKNOWN)
    hidden = messages is UNKNOWN or not isinstance(messages, list | tuple)
    if not hidden and not any(one is UNKNOWN or _role(one) is UNKNOWN for one in messages):
        check_turn(messages)


def _role(message: Any) -> Any:
    return message.get("role", UNKNOWN) if isinstance(message, Mapping) else None


def located(attachments: Attachments, dag: DAG | None) -> Attachments:
    """The files with absolute paths, since a trigger has another working directory, and no DAG.

    Relative paths are looked for as the files of other arguments are: next to the DAG's file, and in its
    ``template_searchpath``; for a task without a DAG in the working directory.
    """
    return attachments._replace(paths=tuple(_located(path, dag) for path in attachments.paths))


def _located(path: str, dag: DAG | None) -> str:
    if "://" in path or Path(path).is_absolute():
        return path
    places = [Path.cwd()]
    if dag is not None:
        places = [Path(place) for place in getattr(templates_of(dag).environment.loader, "searchpath", ())] or places
    found = next((place for place in places if _is_there(place / path)), places[0])
    return str((found / path).absolute())


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, a folder without permission: whoever reads the file says why
        return False
