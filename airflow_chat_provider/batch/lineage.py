"""The files of a batch, by the URIs under which lineage knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.airflow_api.lineage import note_inputs, note_outputs, uri_of
from airflow_chat_provider.batch.output.store import ERRORS, RESULTS
from airflow_chat_provider.task.lineage import Facts, File, counts

if TYPE_CHECKING:
    from airflow_chat_provider.batch.input import Source

_ROWS = ("total", "succeeded", "failed", "missing", "incomplete")


def begun(reader: object, configuration: Mapping[str, Any], source: Source, rows: int) -> Facts:
    """The facts about a batch that is about to read its input. Airflow is told of the file, if it is one."""
    path = getattr(source, "path", None)
    facts = Facts(configuration, inputs=() if path is None else (File(uri_of(path), rows),))
    note_inputs(reader, (file.uri for file in facts.inputs))
    return facts


def ended(writer: object, facts: Facts | None, manifest: Mapping[str, Any]) -> Facts:
    """The facts about a batch that has ended, well or not. Airflow is told of the files that it has written."""
    rows = {name: manifest[name] for name in _ROWS}
    outputs = _written(manifest)
    note_outputs(writer, (file.uri for file in outputs))
    return (facts or Facts({}))._replace(usage=counts(manifest["usage"]), rows=rows, outputs=outputs)


def _written(manifest: Mapping[str, Any]) -> tuple[File, ...]:
    lines = {RESULTS: manifest["succeeded"], ERRORS: sum(manifest["failed"].values())}
    found: dict[str, int] = {}
    for kind, rows in lines.items():
        if rows:
            uri = _uri(manifest[kind])
            found[uri] = found.get(uri, 0) + rows
    return tuple(File(uri, rows) for uri, rows in found.items())


def note_reading(reader: object, where: str) -> None:
    """Tell Airflow of lines of a batch that a task reads back."""
    note_inputs(reader, [_uri(where)])


def _uri(where: str) -> str:
    """The URI of lines of one kind, which lie at ``where`` by the manifest.

    In an object store they are several files (``results-*.jsonl``), other ones after each run: their folder.
    """
    folder, _, name = where.rpartition("/")
    return uri_of(folder if "*" in name else where)
