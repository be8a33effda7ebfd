"""The batch operator's arguments: what each may be, checked when the DAG is parsed, and read when the task runs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence

from airflow_chat_provider.batch.files import check_folder
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.task.arguments import ARGUMENTS as CHAT_ARGUMENTS
from airflow_chat_provider.task.arguments import REQUEST_FIELDS, Kind, choice, switch, text, wrong

_WHOLE = ("max_concurrency", "part_rows")
# Each of these already means something in a row's line.
_TAKEN = ("index", "id", "custom_id", "row", "usage", "incomplete", "error", "asked", "body")
_OCTAL = re.compile(r"(?:0o?)?([0-7]{3})")
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
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
        "file_mode must let the owner read and write, and nobody execute, like 0o600 or '0640', or be None, which "
        f"leaves it to the umask; it is {str(value)[:64]!r}",
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


def _float(value: object) -> float:
    """``value`` as a number; NaN for anything that is not one."""
    try:
        return math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # TypeError is caught
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _number(name: str, value: object) -> None:
    if value is None:
        raise wrong(name, "a number", value)
    number(name, value)


def _input(name: str, value: object) -> None:
    from airflow_chat_provider.batch.input.source import open_source

    if isinstance(value, bytes | bytearray) or not (isinstance(value, str | Sequence) or _is_path(value)):
        raise wrong(name, "the path of a .jsonl or .csv file, or a list of rows", value)
    open_source(value)  # it reads nothing yet


def _folder(name: str, value: object) -> None:
    if isinstance(value, str):
        text(name, value)
        check_folder(value)
    elif not _is_path(value):
        raise wrong(name, "the path of a folder", value)


def _is_path(value: object) -> bool:
    """Is it a path? An ObjectStoragePath is not an os.PathLike."""
    return isinstance(value, os.PathLike) or hasattr(type(value), "joinpath")


def _response_key(name: str, value: object) -> None:
    text(name, value)
    if value in _TAKEN:
        why = f"Choose another response_key: a result uses the names {', '.join(_TAKEN)} itself"
        raise InvalidRequest(why, path="response_key", keyword="enum")


def _shard(name: str, value: object) -> None:  # noqa: ARG001 - the error names it
    from airflow_chat_provider.batch.input.shard import Shard

    Shard.parse(value)


def _max_failures(name: str, value: object) -> None:  # noqa: ARG001 - the error names it
    most_failures(value, 0)


def _file_mode(name: str, value: object) -> None:  # noqa: ARG001 - the error names it
    file_mode(value)


_SHARED = (
    *REQUEST_FIELDS,
    *("chat_conn_id", "configuration", "request_schema", "response_schema", "output_retries", "result_format"),
    *("on_incomplete", "timeout", "deadline", "max_attempts"),
)
ARGUMENTS: dict[str, Kind] = {
    **{name: CHAT_ARGUMENTS[name] for name in _SHARED},
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
