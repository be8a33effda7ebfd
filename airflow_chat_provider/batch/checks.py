"""The batch operator's arguments: what each may be, checked when the DAG is parsed, and read when the task runs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from airflow_chat_provider.batch.files import file_error
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.task.argument_kinds import Kind, choice, switch, text, wrong
from airflow_chat_provider.task.arguments import ARGUMENTS as CHAT_ARGUMENTS
from airflow_chat_provider.task.arguments import REQUEST_FIELDS

_WHOLE = ("max_concurrency", "part_rows")
# Each of these already means something in a row's line.
_TAKEN = (
    *("index", "id", "custom_id", "row", "usage", "incomplete", "error", "asked", "body", "took"),
    *("cost", "digest", "reused", "same_as", "batch"),
)
_OCTAL = re.compile(r"(?:0o?)?([0-7]{3})")
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_SHARD = re.compile(r"\s*(?:(?P<part>\d+)\s*/\s*(?P<of>\d+)|(?P<start>\d*)\s*:\s*(?P<stop>\d*))\s*")
_OTHER_FILES = 200  # open files and sockets of Airflow, of libraries and of the batch itself


def number(name: str, value: object) -> float:
    """The argument ``name`` as a number over 0; a template may have left it as text. Raises InvalidRequest."""
    found = _float(value)
    whole = name in _WHOLE
    if not 0 < found < math.inf or (whole and not found.is_integer()):
        what = "a number of 1 or more" if whole else "a number over 0"
        raise wrong(name, what, value, "minimum")
    return found


def optional_number(name: str, value: object) -> float | None:
    """The same for an argument that may be None: no limit."""
    return None if value is None else number(name, value)


def most_failures(value: object, rows: int) -> float:
    """How many of ``rows`` rows may fail: a number of rows, or a share like "5%"; None: all of them."""
    if value is None:
        return math.inf
    share = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if share is not None and float(share[1]) <= 100:
        return rows * float(share[1]) / 100
    found = _float(value)
    if not found >= 0:
        why = f"max_failures must be a number of rows or a share like '5%', not {str(value)[:64]!r}"
        raise InvalidRequest(why, path="max_failures", keyword="enum")
    return found


def file_mode(value: object) -> int | None:
    """The mode of new files: a number, or octal digits as chmod takes them. None: the umask and ACLs decide."""
    if value is None:
        return None
    digits = _OCTAL.fullmatch(value) if isinstance(value, str) else None
    mode = int(digits[1], 8) if digits else value
    if isinstance(mode, int) and not isinstance(mode, bool) and mode & 0o600 == 0o600 and not mode & ~0o666:
        return mode
    raise InvalidRequest(
        "file_mode must be a mode like 0o600 or '0640', by which the owner may read and write and nobody may execute, "
        f"or None to leave it to the umask, not {str(value)[:64]!r}",
        path="file_mode",
        keyword="enum",
    )


def allow_sockets(count: int) -> None:
    """Raise this process's limit of open files for ``count`` calls at once. Raises InvalidRequest where it may not."""
    from airflow_chat_provider.transport.open_files import allow

    needed = count + _OTHER_FILES
    limit = allow(needed)
    if limit < needed:
        raise InvalidRequest(
            f"Lower max_concurrency to {max(1, limit - _OTHER_FILES)}, or raise this worker's limit of open files "
            f"(ulimit -n, now {limit}): {count} calls at once need {needed}",
            path="max_concurrency",
            keyword="maximum",
        )


class Shard(NamedTuple):
    """The rows whose index is ``range(start, stop, step)``."""

    start: int = 0
    stop: int | None = None
    step: int = 1

    @classmethod
    def parse(cls, text: object) -> Shard:
        """``"2/8"`` is the second of eight parts; ``"1000:2000"`` is rows 1000 to 1999, counted from 0; None is all.

        Raises InvalidRequest for anything else.
        """
        if text is None:
            return cls()
        match = _SHARD.fullmatch(str(text))
        if match is None:
            raise _bad(text)
        if match["of"]:
            part, of = int(match["part"]), int(match["of"])
            if not 1 <= part <= of:
                raise _bad(text)
            return cls(part - 1, None, of)
        start, stop = int(match["start"] or 0), int(match["stop"]) if match["stop"] else None
        if stop is not None and stop <= start:
            raise _bad(text)
        return cls(start, stop)

    def indices(self, total: int) -> range:
        """The indices of the rows in this part, where the input has ``total`` rows."""
        return range(total)[self.start : self.stop : self.step]

    def __str__(self) -> str:
        return f"{self.start + 1}-of-{self.step}" if self.step > 1 else f"{self.start}-{self.stop or 'end'}"


def _bad(text: object) -> InvalidRequest:
    return InvalidRequest(
        "shard must be like '2/8', the second of eight parts, or '1000:2000', rows 1000 to 1999, not "
        f"{str(text)[:64]!r}",
        path="shard",
        keyword="enum",
    )


def _float(value: object) -> float:
    """``value`` as a number; NaN for anything that is not one."""
    try:
        return math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # TypeError is caught
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _input(name: str, value: object) -> None:
    from airflow_chat_provider.batch.input import open_source

    if isinstance(value, bytes | bytearray) or not (isinstance(value, str | Sequence) or _is_path(value)):
        raise wrong(name, "the path of a .jsonl or .csv file, or a list of rows", value)
    open_source(value)  # it reads nothing yet


def _folder(name: str, value: object) -> None:
    if isinstance(value, str):
        text(name, value)
    elif not _is_path(value):
        raise wrong(name, "the path of a folder", value)
    if str(value).endswith((".jsonl", ".csv", ".json")):
        raise file_error(name, value, "is the name of a file; name a folder for results, errors and the manifest")


def _folders(name: str, value: object) -> None:
    """A folder or a batch's manifest, or a list of them. Where an upstream task left nothing, there is none."""
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    for one in value if several else (value,):  # type: ignore[attr-defined]  # it is a sequence
        if isinstance(one, Mapping):
            if not isinstance(one.get("results"), str):
                raise wrong(name, "the path of a folder, or what a ChatCompletionBatchOperator returned", one)
        elif one is not None and one != "":
            _folder(name, one)


def _is_path(value: object) -> bool:
    """Is it a path? An ObjectStoragePath is not an os.PathLike."""
    return isinstance(value, os.PathLike) or hasattr(type(value), "joinpath")


def _response_key(name: str, value: object) -> None:
    text(name, value)
    if value in _TAKEN:
        why = f"Choose another response_key: a result already has the keys {', '.join(_TAKEN)}"
        raise InvalidRequest(why, path="response_key", keyword="enum")


_SHARED = (
    *REQUEST_FIELDS,
    *("chat_conn_id", "configuration", "request_schema", "response_schema", "output_retries", "result_format"),
    *("attachments", "max_attachment_bytes", "on_incomplete", "timeout", "deadline", "max_attempts"),
    *("max_total_tokens", "max_cost", "dry_run", "deferrable"),
)
ARGUMENTS: dict[str, Kind] = {
    **{name: CHAT_ARGUMENTS[name] for name in _SHARED},
    "input": Kind(_input),
    "output": Kind(_folder),
    "response_key": Kind(_response_key, optional=True),
    "id_key": Kind(text),
    "keep_row": Kind(switch),
    "shard": Kind(lambda _, value: Shard.parse(value), optional=True),
    "max_concurrency": Kind(number),
    "requests_per_minute": Kind(number, optional=True),
    "tokens_per_minute": Kind(number, optional=True),
    "max_failures": Kind(lambda _, value: most_failures(value, 0), optional=True),
    "on_changed": choice("fail", "restart"),
    "file_mode": Kind(lambda _, value: file_mode(value), optional=True),
    "part_rows": Kind(number),
    "part_seconds": Kind(number),
    "reuse": Kind(_folders, optional=True),
    "deduplicate": Kind(switch),
    "via": choice("calls", "batch_api"),
    "completion_window": Kind(text),
    "cancel_on_kill": Kind(switch),
}
"""What each argument of the batch operator may be."""
