"""Reading back what a batch left in its folder. Nothing is written to it."""

from __future__ import annotations

import heapq
import os
import socket
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

from airflow_chat_provider.batch.files import file_error, local_path, readable
from airflow_chat_provider.batch.output.lines import has_failed, parse_line
from airflow_chat_provider.batch.output.local import LocalStore
from airflow_chat_provider.batch.output.object_store import ObjectStore
from airflow_chat_provider.batch.output.scan import Scan
from airflow_chat_provider.batch.output.store import ERRORS, MANIFEST, RESULTS, Store, identity_in, manifest_in
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.core.spelling import with_article

OnUnfinished = Literal["fail", "ignore"]
Lines = Iterator[dict[str, Any]]

_BLOCK = 4096  # rows
_LEFT_OUT = "Their rows are left out, if they have no other line"


class Output:
    """What one batch left. ``batch`` is the same for all shards of an input."""

    def __init__(self, manifest: object, on_unfinished: OnUnfinished) -> None:
        """Look whether there is a batch. Raises InvalidRequest where there is none that could be read."""
        folder = folder_of(manifest)
        self._store = store_at(folder, "manifest")
        identity = identity_in(self._store)
        if identity is None:
            why = "holds no batch: name the folder that was the batch's output, or one of its shards' folders"
            raise file_error("manifest", folder, why)
        self.batch = identity["fingerprint"].get("input")
        found = manifest if isinstance(manifest, Mapping) else manifest_in(self._store)
        self._finished = found is not None and found.get("missing") == 0
        if not self._finished and on_unfinished == "fail":
            rows = f"{found['missing']} of {found.get('total')}" if found and "missing" in found else "some"
            raise ChatCompletionError(
                f"Run the batch again, or wait for its end; on_unfinished='ignore' reads what there is: {rows} rows of "
                f"{str(folder)!r} have neither a result nor an error yet"
            )

    def where(self, kind: str) -> str:
        """The path of the lines of a kind, for a reader."""
        return self._store.where(kind)

    def results(self) -> Lines:
        """The results, as they lie there. Of several for a row, the first counts, as it does for the batch."""
        seen = _PerRow()
        for line in Scan(self._store, RESULTS, parse_line, _LEFT_OUT):
            index = line["index"]
            if not has_failed(line) and seen.get(index) is None:  # a failed one: somebody has joined the files
                seen.set(index, 0)
                yield line

    def results_in_order(self) -> Lines:
        return self._in_order(RESULTS, lambda line, places: not has_failed(line) and places.get(line["index"]) is None)

    def errors(self) -> Lines:
        """The rows that failed, in order. Of several lines for a row, the last counts: it includes the others."""
        answered = _PerRow()
        if not self._finished:  # a batch that has ended left no errors of rows that were answered later
            for line in self.results():
                answered.set(line["index"], 0)
        yield from self._in_order(ERRORS, lambda line, _: answered.get(line["index"]) is None)

    def _in_order(self, kind: str, counts: Callable[[dict[str, Any], _PerRow], bool]) -> Lines:
        """The lines that count, in the order of their rows; ``counts`` is given a line and where earlier ones lie."""
        places, end = _PerRow(), 0

        def located(line: bytes) -> tuple[int, dict[str, Any]] | None:
            nonlocal end
            begin, end = end, end + len(line)
            value = parse_line(line)
            return None if value is None else (begin, value)

        with self._store.file(kind) as file:
            for begin, line in Scan(self._store, kind, located, _LEFT_OUT).through(file):
                if counts(line, places):
                    places.set(line["index"], begin)
            for begin in places:
                file.seek(begin)
                found = parse_line(file.readline())
                if found is not None:  # it was read before
                    yield found


class _PerRow:
    """A number for each of some rows, in 8 bytes a row. Iterating gives the numbers in the order of the rows."""

    def __init__(self) -> None:
        self._blocks: dict[int, array[int]] = {}

    def get(self, index: int) -> int | None:
        block = self._blocks.get(index // _BLOCK)
        return None if block is None or block[index % _BLOCK] < 0 else block[index % _BLOCK]

    def set(self, index: int, value: int) -> None:
        if (block := self._blocks.get(index // _BLOCK)) is None:
            block = self._blocks[index // _BLOCK] = array("q", [-1]) * _BLOCK
        block[index % _BLOCK] = value

    def __iter__(self) -> Iterator[int]:
        return (value for _, block in sorted(self._blocks.items()) for value in block if value >= 0)


def store_at(folder: object, argument: str) -> Store:
    """The output folder of a batch, to be read. Raises InvalidRequest if it is missing on this machine."""
    local = local_path(folder)
    if local is None:
        return ObjectStore(folder, 1, 1)
    with readable(argument, folder):
        if not local.is_dir():
            what = "is a file" if local.exists() else "does not exist"
            host = socket.gethostname()
            where = f"{what} on this machine ({host}); only an object store is shared by all workers"
            raise file_error(argument, folder, where)
    return LocalStore(local, 0)


def outputs(manifest: object, on_unfinished: OnUnfinished) -> list[Output]:
    """What ``manifest`` names: one batch, or the batches of a mapped task."""
    if on_unfinished not in ("fail", "ignore"):
        why = f"on_unfinished must be 'fail' or 'ignore', not {str(on_unfinished)[:64]!r}"
        raise InvalidRequest(why, path="on_unfinished", keyword="enum")
    several = manifest if isinstance(manifest, Sequence) and not isinstance(manifest, str | bytes) else [manifest]
    return [Output(one, on_unfinished) for one in several]


def joined(batches: Sequence[Output], lines: Sequence[Lines]) -> Lines:
    """The lines of several batches, each of which is in order: merged where they are the shards of one input."""
    if batches and batches[0].batch is not None and all(one.batch == batches[0].batch for one in batches):
        return heapq.merge(*lines, key=lambda line: line["index"])
    return chain.from_iterable(lines)


def folder_of(manifest: object, argument: str = "manifest") -> object:
    """The folder that a manifest names. A path may also name one of the files in it. Raises InvalidRequest."""
    if isinstance(manifest, Mapping):
        paths = [manifest.get(kind) for kind in (RESULTS, ERRORS)]
        if not all(isinstance(path, str) and path for path in paths):
            raise _wrong("a dict without the keys results and errors", argument)
        return _parent(str(paths[0]))
    if manifest is None:
        raise _wrong("None: that task has left no manifest (did it run, and does it push XComs?)", argument)
    if isinstance(manifest, str | os.PathLike) or hasattr(type(manifest), "joinpath"):
        text = str(manifest)
        if not text.strip():
            raise _wrong("an empty text", argument)
        return _parent(text) if text.endswith((".jsonl", f"/{MANIFEST}")) else manifest
    raise _wrong(with_article(type(manifest).__name__), argument)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")


def _wrong(what: str, argument: str) -> InvalidRequest:
    why = f"Give what a ChatCompletionBatchOperator returned, or the path of its output folder, not {what}"
    return InvalidRequest(why, path=argument, keyword="type")
