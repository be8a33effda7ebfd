"""What can be known of the batch operator's mistakes before a run, and its limits read when it runs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from airflow_chat_provider.arguments import REQUEST_FIELDS
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.parsing import REPLY_CHOICES, check_choices, check_output, check_request
from airflow_chat_provider.templating import markers

_CHOICES = {**REPLY_CHOICES, "on_changed": ("fail", "restart")}
# Each of these in a row's line means something already.
_TAKEN = ("index", "id", "custom_id", "row", "usage", "incomplete", "error", "asked", "body")
DEFAULT_MODE = 0o600
_OCTAL = re.compile(r"(?:0o?)?([0-7]{3})")
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def check_arguments(arguments: Mapping[str, Any], dag: Any, *, mapped: bool = False) -> None:
    """Check every argument that holds no template; raises InvalidRequest. ``mapped``: not all are there."""
    from airflow_chat_provider.batch.shard import Shard

    check_choices(arguments, _CHOICES)
    check_output(arguments)
    if arguments.get("response_key") in _TAKEN:
        listed = ", ".join(_TAKEN)
        raise InvalidRequest(
            f"response_key must be another name than {listed}: a result has those", path="response_key", keyword="enum"
        )
    is_template = markers(dag and dag.jinja_environment_kwargs)
    for name in ("max_concurrency", "part_rows", "part_seconds", "requests_per_minute", "tokens_per_minute"):
        if not is_template(arguments.get(name)):
            number(arguments, name)
    if not is_template(arguments.get("max_failures")):
        most_failures(arguments.get("max_failures"), 0)
    file_mode(arguments.get("file_mode", DEFAULT_MODE))
    if not is_template(arguments.get("shard")):
        Shard.parse(arguments.get("shard"))
    if any(arguments.get(name) is not None for name in REQUEST_FIELDS):  # else the rows are requests
        check_request(arguments, dag, mapped=mapped)


def number(arguments: Mapping[str, Any], name: str) -> float | None:
    """A limit as a number, which a template may have left as text; None: there is none."""
    value = arguments.get(name)
    if value is None:
        return None
    found = _float(value)
    least = 0.0 if "per_minute" in name or name == "part_seconds" else 1.0
    if not (least <= found < math.inf) or found == 0:
        what = "a number of 1 or more" if least else "a number over 0"
        raise InvalidRequest(f"{name} must be {what}, not {str(value)[:64]!r}", path=name, keyword="minimum")
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
    except (TypeError, ValueError):
        return math.nan
