"""The files that go out with a row's request: their paths are what the author's templates make of the row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.attachments import NO_ATTACHMENTS, Attachments, paths_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_chat_provider.templates.request_template import RequestTemplate

_TEMPLATE = re.compile(r"\{\{|\{%|\{#")


def files_of(template: RequestTemplate, row: Mapping[str, Any], max_bytes: int) -> Attachments:
    """The files for a row; nothing is read yet. A column that is empty names none. Raises InvalidRequest.

    The text in front of a template confines what a row may name: ``/data/{{ row.file }}`` reads nothing but what is
    below ``/data``. So ``..`` is refused in what follows that text.
    """
    written, given = template.attachments(row)
    paths = tuple(_paths(given, written))
    return Attachments(paths, max_bytes) if paths else NO_ATTACHMENTS


def _paths(given: Any, written: Any) -> Iterator[str]:
    if isinstance(given, list | tuple):
        several = isinstance(written, list | tuple)  # or one template gave them all
        for index, one in enumerate(given):
            yield from _paths(one, written[index] if several else written)
    elif given is not None and not (isinstance(given, str) and not given.strip()):
        begin = _TEMPLATE.split(str(written), maxsplit=1)[0]
        for path in paths_of(given):
            if path == begin and path.endswith("/"):
                continue  # /data/{{ row.file }} for an empty column
            if path != str(written):
                _check_below(path, begin[: begin.rfind("/") + 1])
            yield path


def _check_below(path: str, folder: str) -> None:
    if ".." in re.split(r"[/\\]", unquote(path.removeprefix(folder))):
        why = "a path that comes from a row must not lead upwards"
        raise InvalidRequest(f"Leave '..' out of the path: attachments: {why}", path="attachments", keyword="file")
