"""What can be known of the batch operator's mistakes before a run, and its limits read when it runs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_chat_provider.batch.files import file_error
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.task import kinds
from airflow_chat_provider.task.arguments import REQUEST_FIELDS
from airflow_chat_provider.task.kinds import Kind, choice, switch, text, wrong

_WHOLE = ("max_concurrency", "part_rows")
# Each of these in a row's line means something already.
_TAKEN = ("index", "id", "custom_id", "row", "usage", "incomplete", "error", "asked", "body")
_OCTAL = re.compile(r"(?:0o?)?([0-7]{3})")
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def number(arguments: Mapping[str, Any], name: str) -> float | None:
    """A limit as a number, which a template may have left as text; None: there is none."""
    value = arguments.get(name)
    if value is None:
        return None
    found = _float(value)
    whole = name in _WHOLE
    if not 0 < found < math.inf or (whole and not found.is_integer()):
        what = "a number of 1 or more" if whole else "a number over 0"
        raise wrong(name, what, value, "minimum")
    return found


def most_failures(value: Any, rows: int) -> float:
    """How many of so many rows may fail: a number of them, or "5%"; None: all."""
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


def file_mode(value: Any) -> int | None:
    """The mode of new files: a number, or octal digits as chmod takes them; None: as umask and ACLs say."""
    if value is None:
        return None
    digits = _OCTAL.fullmatch(value) if isinstance(value, str) else None
    mode = int(digits[1], 8) if digits else value
    if type(mode) is int and mode & 0o600 == 0o600 and not mode & ~0o666:
        return mode
    raise InvalidRequest(
        f"file_mode must be like 0o600 or '0640': files that their owner reads and writes, and nobody executes, not "
        f"{str(value)[:64]!r}; or None, for the umask to decide",
        path="file_mode",
        keyword="enum",
    )


def _float(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _number(name: str, value: Any) -> None:
    if value is None:
        raise wrong(name, "a number", value)
    number({name: value}, name)


def _input(name: str, value: Any) -> None:
    from airflow_chat_provider.batch.input.source import open_source

    if isinstance(value, bytes | bytearray) or not (isinstance(value, str | Sequence) or _is_path(value)):
        raise wrong(name, "the path of a .jsonl or .csv file, or a list of rows", value)
    open_source(value)  # which reads nothing yet


def _folder(name: str, value: Any) -> None:
    if isinstance(value, str):
        text(name, value)
        check_folder(value)
    elif not _is_path(value):
        raise wrong(name, "the path of a folder", value)


def check_folder(name: str) -> None:
    """Refuse what is plainly the name of a file."""
    if name.endswith((".jsonl", ".csv", ".json")):
        why = "is a file's name; name a folder, for results, errors and a manifest"
        raise file_error("output", name, why)


def _is_path(value: Any) -> bool:
    """An ObjectStoragePath, too, which is no os.PathLike."""
    return isinstance(value, os.PathLike) or hasattr(type(value), "joinpath")


def _response_key(name: str, value: Any) -> None:
    text(name, value)
    if value in _TAKEN:
        listed = ", ".join(_TAKEN)
        raise InvalidRequest(
            f"response_key must be another name than {listed}: a result has those", path="response_key", keyword="enum"
        )


def _shard(name: str, value: Any) -> None:  # noqa: ARG001 - the error names it
    from airflow_chat_provider.batch.input.shard import Shard

    Shard.parse(value)


def _max_failures(name: str, value: Any) -> None:  # noqa: ARG001 - the error names it
    most_failures(value, 0)


def _file_mode(name: str, value: Any) -> None:  # noqa: ARG001 - the error names it
    file_mode(value)


_SHARED = (
    *REQUEST_FIELDS,
    *("chat_conn_id", "configuration", "request_schema", "response_schema", "output_retries", "result_format"),
    *("on_incomplete", "timeout", "deadline", "max_attempts"),
)
ARGUMENTS: dict[str, Kind] = {
    **{name: kinds.ARGUMENTS[name] for name in _SHARED},
    "input": Kind(_input),
    "output": Kind(_folder),
    "response_key": Kind(_response_key, optional=True),
    "id_key": Kind(text),
    "keep_row": Kind(switch),
    "shard": Kind(_shard, optional=True),
    "max_concurrency": Kind(_number),
    "requests_per_minute": Kind(_number, optional=True),
    "tokens_per_minute": Kind(_number, optional=True),
    "max_failures": Kind(_max_failures, optional=True),
    "on_changed": choice("fail", "restart"),
    "file_mode": Kind(_file_mode, optional=True),
    "part_rows": Kind(_number),
    "part_seconds": Kind(_number),
}
"""What each argument of the batch operator may be."""
