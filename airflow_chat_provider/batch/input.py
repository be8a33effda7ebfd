"""Where the rows come from: a list, or a file, which is read line by line and never held in memory as a whole."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from airflow_chat_provider.batch.csv_places import places
from airflow_chat_provider.batch.files import file_error, local_path, readable, stored
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.core.json_text.nesting import LEVELS, TooDeep, fault, loads
from airflow_chat_provider.core.spelling import with_article

_ID_BITS = 4096  # Python refuses to write out more than 4,300 digits
_OPENAI_LINE = frozenset({"custom_id", "method", "url", "body"})
_BARE_LINE = frozenset({"custom_id", "body"})
_MAX_LINE = 1 << 28  # bytes; a file with a longer line is not a file of rows
_MARK = codecs.BOM_UTF8
_A_LIST = "a JSON list begins here; put each object on a line of its own, without brackets and commas around it"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the input. ``index`` counts from 0 over the whole input, also in a shard.

    ``place`` is where a reader finds the row (``reviews.jsonl:17``). ``error`` says why there is no ``value``.
    ``size`` is in bytes of its file.
    """

    index: int
    place: str
    value: Any = None
    error: ChatCompletionError | None = None
    size: int = 0

    @property
    def is_request_line(self) -> bool:
        """Is it a line of a batch file? Such a line is sent as it is."""
        return isinstance(self.value, dict) and (self.value.keys() >= _OPENAI_LINE or self.is_bare_line)

    @property
    def is_bare_line(self) -> bool:
        """Is it a line of Together's or Mistral's batch files, which may leave out method and url?

        A row of data may have columns of these names, too. So the line must hold nothing else, and its body messages.
        """
        value = self.value
        return isinstance(value, dict) and _BARE_LINE <= value.keys() < _OPENAI_LINE and _has_messages(value["body"])

    def own_id(self, id_key: str) -> str | None:
        """The row's id as text, so that 5 and "5" are the same id; None where it has none."""
        value = self.value.get(id_key) if isinstance(self.value, dict) else None
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value) if value.bit_length() <= _ID_BITS else None
        return str(value) if isinstance(value, str) and value else None


def _has_messages(body: Any) -> bool:
    messages = body.get("messages") if isinstance(body, Mapping) else None
    return isinstance(messages, list) and all(isinstance(one, Mapping) and "role" in one for one in messages)


def row_error(place: str, why: str, keyword: str = "row", at: str | None = None) -> InvalidRequest:
    """The error of a row that is not sent; ``at`` is the place in the row, if that is known."""
    return InvalidRequest(f"Correct {at or place}: {why}", path=place, keyword=keyword)


def body_of(line: dict[str, Any], place: str, endpoint: str) -> Any:
    """The request in a line of a batch file. Raises InvalidRequest for a method or url that is not the connection's."""
    method, url = line.get("method", "POST"), line.get("url", endpoint)
    if not isinstance(line["custom_id"], str) or not line["custom_id"]:
        raise row_error(place, "custom_id must be text")
    if method != "POST":
        raise row_error(place, "method must be POST")
    if not isinstance(url, str) or not url.rstrip("/").endswith(endpoint.rstrip("/")):
        raise row_error(place, f"url must end in {endpoint}, the endpoint of the connection")
    return line["body"]


class Survey(NamedTuple):
    """The result of one pass over the input: how many rows it has (0 is allowed), and a digest of its content."""

    rows: int
    digest: str


def open_source(given: object) -> Source:
    """The source that the argument ``input`` names: rows, or the path of a .jsonl or .csv file. Nothing is read yet."""
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return Rows(given)
    name = str(given)
    suffixes = [suffix for suffix in PurePosixPath(name).suffixes if suffix != ".gz"]
    kind = suffixes[-1].lower() if suffixes else ""
    if kind in (".jsonl", ".ndjson"):
        return JsonLines(given)
    if kind in (".csv", ".tsv"):
        return Csv(given, "\t" if kind == ".tsv" else ",")
    raise file_error("input", name[:200], "must be the path of a .jsonl or .csv file, or a list of rows")


class Rows:
    """A list of rows from an upstream task, or from the DAG file. ``name`` is for a reader.

    ``is_local``: it takes little to read it again.
    """

    is_local = True

    def __init__(self, rows: Sequence[Any]) -> None:
        self.name = "input"
        self._rows = rows

    def survey(self) -> Survey:
        """Read it once to the end. Raises InvalidRequest where it is not a readable input."""
        digest, count = blake2b(digest_size=16), 0
        for row in self._rows:
            digest.update(_for_digest(row))
            digest.update(b"\n")
            count += 1
        return Survey(count, digest.hexdigest())

    def rows(self, is_wanted: Callable[[int], bool]) -> Iterator[Row]:
        """The rows whose index is wanted; only these are parsed. What is wrong with one of them is in its ``error``."""
        for index, value in enumerate(self._rows):
            if is_wanted(index):
                yield _checked(Row(index, f"input[{index}]", value))


def _for_digest(row: Any) -> bytes:
    try:
        return json.dumps(row, sort_keys=True, default=str).encode()
    except Exception:  # noqa: BLE001 - keys of several types; a row that holds itself; deep nesting; str() fails
        try:
            text = repr(row)
        except Exception:  # noqa: BLE001 - an object of the user's, or a number too long to be written out
            text = f"a {type(row).__name__} of {len(row) if isinstance(row, Sized) else 1}"
        return text.encode("utf-8", "backslashreplace")


class _File:
    """A file of UTF-8 text, compressed or not."""

    def __init__(self, path: object) -> None:
        self.path = path
        self.name = PurePosixPath(str(path)).name
        self.is_local = local_path(path) is not None

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """Its bytes, decompressed, in a file that reads lines fast."""
        raw: Any
        with readable("input", self.path):
            local = local_path(self.path)
            if local is None:
                there = stored(self.path, "input")
                raw = there.fs.open(there.path, "rb", compression="infer")
            else:
                # The reader below closes it.
                raw = gzip.open(local) if local.suffix == ".gz" else local.open("rb", buffering=0)  # noqa: SIM115
            with io.BufferedReader(raw, 1 << 20) as file:
                yield file

    def _decoded(self, line: bytes, number: int, encoding: str = "utf-8") -> str:
        try:
            return line.decode(encoding)
        except UnicodeDecodeError as error:
            if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise self._broken("1:1", "it is UTF-16; save it as UTF-8") from None
            column = len(error.object[: error.start].decode()) + 1
            raise self._broken(f"{number}:{column}", "this is not UTF-8; save the file as UTF-8") from None

    def _broken(self, place: object, why: str) -> InvalidRequest:
        """The error of a file in which something is wrong at ``place``: a line, or a line and a column."""
        where = f"{self.name}:{place}"
        return InvalidRequest(f"Correct {where}: {why} (input {str(self.path)!r})", path="input", keyword="file")


class JsonLines(_File):
    """One JSON object in each line; empty lines are skipped."""

    def survey(self) -> Survey:
        digest, count, number = blake2b(digest_size=16), 0, 0
        with self._open() as file:
            while line := file.readline(_MAX_LINE):
                number += 1
                digest.update(line)
                count += not _is_blank(line)
                if len(line) == _MAX_LINE:
                    raise self._broken(number, f"the line is longer than {_MAX_LINE >> 20} MiB")
                self._decoded(line, number)
        if not count and self.name.endswith(".gz"):
            with readable("input", self.path):
                if (local_path(self.path) or stored(self.path, "input")).stat().st_size == 0:
                    raise EOFError  # Python reads a compressed file of 0 bytes as empty, but an upload was cut off
        return Survey(count, digest.hexdigest())

    def rows(self, is_wanted: Callable[[int], bool]) -> Iterator[Row]:
        with self._open() as file:
            index = -1
            for number, line in enumerate(file, 1):
                if _is_blank(line):
                    continue
                index += 1
                if is_wanted(index):
                    yield _parsed(line, index, f"{self.name}:{number}")


def _is_blank(line: bytes) -> bool:
    """Is there nothing but white space, perhaps after the byte order mark that some programs write?"""
    return line.isspace() or (line.startswith(_MARK) and not line[len(_MARK) :].strip())


def _parsed(line: bytes, index: int, place: str) -> Row:
    try:
        return _checked(Row(index, place, loads(line.decode("utf-8-sig")), size=len(line)))
    except json.JSONDecodeError as error:
        words, _, column = fault(error)
        is_list = index == 0 and line.decode("utf-8-sig").strip() == "["
        why = _A_LIST if is_list else f"it is not JSON: {words}"
        return Row(index, place, error=row_error(place, why, "json", f"{place}:{column}"))
    except TooDeep:
        why = f"it is nested too deeply ({LEVELS})"
    except ValueError:
        why = "it has a number that is too long"
    return Row(index, place, error=row_error(place, why, "json"))


def _checked(row: Row) -> Row:
    if isinstance(row.value, dict):
        return row
    if isinstance(row.value, Mapping):
        return replace(row, value=dict(row.value))
    why = f"a row must be an object, not {'null' if row.value is None else with_article(type(row.value).__name__)}"
    return replace(row, value=None, error=row_error(row.place, why, "type"))


class Csv(_File):
    """A table with a header. Each row becomes an object of texts."""

    def __init__(self, path: object, delimiter: str) -> None:
        super().__init__(path)
        self._delimiter = delimiter
        self._record: list[str] = []

    def survey(self) -> Survey:
        digest = blake2b(digest_size=16)
        with self._table(digest.update) as (header, table):
            if len(header) == 1 and any(sign in header[0] for sign in ";\t|"):
                words = "Save %s with commas (or with tabs, as .tsv): its first line names one column only, %r"
                log.warning(words, self.name, header[0][:100])
            return Survey(sum(1 for _ in table), digest.hexdigest())

    def rows(self, is_wanted: Callable[[int], bool]) -> Iterator[Row]:
        with self._table() as (header, table):
            for index, (number, cells) in enumerate(table):
                if not is_wanted(index):
                    continue
                place = f"{self.name}:{number}"
                if len(cells) == len(header):
                    yield Row(index, place, dict(zip(header, cells, strict=True)), size=sum(map(len, cells)))
                else:
                    yield Row(index, place, error=self._miscounted(place, number, cells, header))

    def _miscounted(self, place: str, number: int, cells: list[str], header: list[str]) -> InvalidRequest:
        count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        why = f"the row has {count}, but the header has {len(header)}"
        found = places(self._record, self._delimiter)
        line, column = found.cells[len(header)] if len(found.cells) > len(header) else found.end
        return row_error(place, why, at=f"{self.name}:{number + line}:{column}")

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
                if not header:  # an export of no rows still has its header, so this file was cut off
                    why = "is empty" if header is None else "has an empty first line"
                    raise file_error("input", self.path, f"{why}; the first line must name the columns")
                bad = next((name for name in header if not name.strip() or header.count(name) > 1), None)
                if bad is not None:
                    why = f"has two columns named {bad!r}" if bad.strip() else "has a column without a name"
                    raise file_error("input", self.path, f"{why} in its first line")
                yield header, self._cells(reader)
        finally:
            csv.field_size_limit(limit)

    def _lines(self, file: IO[bytes], seen: Callable[[bytes], object]) -> Iterator[str]:
        for number, line in enumerate(file, 1):
            seen(line)
            text = self._decoded(line, number, "utf-8-sig" if number == 1 else "utf-8")
            self._record.append(text)
            yield text

    def _cells(self, reader: Any) -> Iterator[tuple[int, list[str]]]:
        number = reader.line_num + 1
        self._record.clear()
        while (cells := self._next(reader)) is not None:
            if cells:  # an empty line is not a row
                yield number, cells
            number = reader.line_num + 1
            self._record.clear()

    def _next(self, reader: Any) -> list[str] | None:
        try:
            return next(reader, None)
        except csv.Error as error:
            found = places(self._record, self._delimiter)
            line, column = found.stray or found.opened or found.end
            first = reader.line_num - len(self._record) + 1
            raise self._broken(f"{first + line}:{column}", f"it is not valid CSV: {error}") from None


Source = Rows | JsonLines | Csv
"""An input. All have the attribute and the methods that ``Rows`` describes."""
