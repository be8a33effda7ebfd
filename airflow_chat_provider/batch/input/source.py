"""Where the rows come from: a list, or a file that is read line by line and never held whole."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple, Protocol

from airflow_chat_provider.batch.files import file_error, local_path, readable, stored
from airflow_chat_provider.batch.input.row import Row, row_error
from airflow_chat_provider.core.json_text.nesting import LEVELS, TooDeep, fault, loads

_MAX_LINE = 1 << 28  # bytes; what is longer is no file of requests
_BUFFER = 1 << 20
_MARK = codecs.BOM_UTF8

Wanted = Callable[[int], bool]


class Survey(NamedTuple):
    """What one pass over the input tells: how many rows it has (0 is no mistake), and a digest of all that is in it."""

    rows: int
    digest: str


class Source(Protocol):
    """An input. ``rows`` parses the wanted ones alone."""

    name: str

    def survey(self) -> Survey:
        """Read all of it once; raises InvalidRequest for what is wrong with it as a whole."""

    def rows(self, wanted: Wanted) -> Iterator[Row]:
        """The rows whose index is wanted."""


def open_source(given: Any) -> Source:
    """``input``: rows, or the path of a .jsonl or .csv file."""
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return Rows(given)
    name = str(given)
    suffixes = [suffix for suffix in PurePosixPath(name).suffixes if suffix != ".gz"]
    kind = suffixes[-1].lower() if suffixes else ""
    if kind in (".jsonl", ".ndjson"):
        return JsonLines(given)
    if kind in (".csv", ".tsv"):
        return Csv(given, "\t" if kind == ".tsv" else ",")
    raise file_error("input", name[:200], "is no path of a .jsonl or .csv file, and no list of rows")


class Rows:
    """A list of rows that an upstream task made, or that stands in the DAG."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.name = "input"
        self._rows = rows

    def survey(self) -> Survey:
        digest, count = blake2b(digest_size=16), 0
        for row in self._rows:
            digest.update(_for_digest(row))
            digest.update(b"\n")
            count += 1
        return Survey(count, digest.hexdigest())

    def rows(self, wanted: Wanted) -> Iterator[Row]:
        for index, value in enumerate(self._rows):
            if wanted(index):
                yield _checked(Row(index, f"input[{index}]", value))


def _for_digest(row: Any) -> bytes:
    try:
        return json.dumps(row, sort_keys=True, default=str).encode()
    except Exception:  # noqa: BLE001 - keys of several types; it refers to itself; nested too deep; no text
        return _shown(row).encode("utf-8", "backslashreplace")


def _shown(row: Any) -> str:
    try:
        return repr(row)
    except Exception:  # noqa: BLE001 - an object of the user's, or a number too long to be written out
        return f"a {type(row).__name__} of {len(row) if isinstance(row, Sized) else 1}"


class _File:
    """A file of UTF-8 text, compressed or not."""

    def __init__(self, path: Any) -> None:
        self.path = path
        self.name = PurePosixPath(str(path)).name

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """Its bytes, as a file that is quick to read in lines."""
        with readable("input", self.path), io.BufferedReader(self._raw(), _BUFFER) as file:
            yield file

    def _raw(self) -> Any:
        local = local_path(self.path)
        if local is None:
            there = stored(self.path, "input")
            return there.fs.open(there.path, "rb", compression="infer")
        return gzip.open(local) if local.suffix == ".gz" else local.open("rb", buffering=0)


class JsonLines(_File):
    """One JSON object in each line; empty lines are passed over."""

    def survey(self) -> Survey:
        digest, count, number = blake2b(digest_size=16), 0, 0
        with self._open() as file:
            while line := file.readline(_MAX_LINE):
                number += 1
                digest.update(line)
                count += not _is_blank(line)
                self._check(line, number)
        if not count:
            self._check_compressed()
        return Survey(count, digest.hexdigest())

    def _check_compressed(self) -> None:
        """Python takes a compressed file of no bytes at all for an empty one; it is an upload that was cut off."""
        with readable("input", self.path):
            if self.name.endswith(".gz") and (local_path(self.path) or stored(self.path, "input")).stat().st_size == 0:
                raise EOFError

    def _check(self, line: bytes, number: int) -> None:
        if len(line) == _MAX_LINE:
            raise file_error("input", self.path, f"has a line of more than {_MAX_LINE >> 20} MiB (line {number})")
        try:
            line.decode()
        except UnicodeDecodeError:
            raise file_error("input", self.path, f"is not UTF-8 (line {number}): save it as UTF-8") from None

    def rows(self, wanted: Wanted) -> Iterator[Row]:
        with self._open() as file:
            index = -1
            for number, line in enumerate(file, 1):
                if _is_blank(line):
                    continue
                index += 1
                if wanted(index):
                    yield _parsed(line, index, f"{self.name}:{number}")


def _is_blank(line: bytes) -> bool:
    """Nothing but white space; and the mark with which some programs begin an empty file."""
    return line.isspace() or (line.startswith(_MARK) and not line[len(_MARK) :].strip())


def _parsed(line: bytes, index: int, place: str) -> Row:
    try:
        return _checked(Row(index, place, loads(line.decode("utf-8-sig")), size=len(line)))
    except json.JSONDecodeError as error:
        why = "it is not JSON: {0} at column {2}".format(*fault(error))
    except TooDeep:
        why = f"it is nested too deep ({LEVELS})"
    except ValueError:
        why = "it holds a number that is too long"
    return Row(index, place, error=row_error(place, why, "json"))


def _checked(row: Row) -> Row:
    if isinstance(row.value, dict):
        return row
    if isinstance(row.value, Mapping):
        return replace(row, value=dict(row.value))
    why = f"a row must be an object, not {'null' if row.value is None else f'a {type(row.value).__name__}'}"
    return replace(row, value=None, error=row_error(row.place, why, "type"))


class Csv(_File):
    """A table with a header; each row an object of texts."""

    def __init__(self, path: Any, delimiter: str) -> None:
        super().__init__(path)
        self._delimiter = delimiter

    def survey(self) -> Survey:
        digest = blake2b(digest_size=16)
        with self._table(digest.update) as (_, table):
            return Survey(sum(1 for _ in table), digest.hexdigest())

    def rows(self, wanted: Wanted) -> Iterator[Row]:
        with self._table() as (header, table):
            for index, (number, cells) in enumerate(table):
                if not wanted(index):
                    continue
                place = f"{self.name}:{number}"
                if len(cells) == len(header):
                    yield Row(index, place, dict(zip(header, cells, strict=True)), size=sum(map(len, cells)))
                else:
                    why = f"it has {len(cells)} cells, and the header {len(header)}"
                    yield Row(index, place, error=row_error(place, why))

    @contextmanager
    def _table(
        self, seen: Callable[[bytes], object] = lambda _: None
    ) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]:
        """The header, and the line number and cells of each row; ``seen`` is given all bytes of the file."""
        limit = csv.field_size_limit(_MAX_LINE)
        try:
            with self._open() as file:
                reader = csv.reader(self._lines(file, seen), delimiter=self._delimiter, strict=True)
                header = self._next(reader)
                if not header:  # it is cut off, or of another kind: an export of no rows has its header
                    why = "is empty" if header is None else "has an empty first line"
                    raise file_error("input", self.path, f"{why}; its first line must name the columns")
                self._check_header(header)
                yield header, self._cells(reader)
        finally:
            csv.field_size_limit(limit)

    def _lines(self, file: IO[bytes], seen: Callable[[bytes], object]) -> Iterator[str]:
        encoding = "utf-8-sig"
        for number, line in enumerate(file, 1):
            seen(line)
            try:
                yield line.decode(encoding)
            except UnicodeDecodeError:
                raise file_error("input", self.path, f"is not UTF-8 (line {number}): save it as UTF-8") from None
            encoding = "utf-8"

    def _cells(self, reader: Any) -> Iterator[tuple[int, list[str]]]:
        number = reader.line_num + 1
        while (cells := self._next(reader)) is not None:
            if cells:  # an empty line is no row
                yield number, cells
            number = reader.line_num + 1

    def _next(self, reader: Any) -> list[str] | None:
        try:
            return next(reader, None)
        except csv.Error as error:
            raise file_error("input", self.path, f"is no CSV (line {reader.line_num}): {error}") from None

    def _check_header(self, header: list[str]) -> None:
        bad = next((name for name in header if not name.strip() or header.count(name) > 1), None)
        if bad is not None:
            why = f"has two columns {bad!r}" if bad.strip() else "has a column without a name"
            raise file_error("input", self.path, f"{why} in its first line")
