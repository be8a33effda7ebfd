"""What is written for a row, and what of it is read again by whoever continues."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from airflow_chat_provider.batch.row import Row
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.core.response import Reply, incomplete, incomplete_error, result
from airflow_chat_provider.core.sanitize import sanitize


def unnamed(index: int) -> str:
    """The id of a row that has none."""
    return f"row-{index}"


class Shape(NamedTuple):
    """What the user wants of a row's line. A line of the OpenAI Batch file format is answered in that format."""

    id_key: str = "custom_id"
    result_format: str = "raw"
    response_key: str | None = None
    on_incomplete: str = "warn"
    keep_row: bool = True

    def name(self, row: Row) -> str:
        return row.name(self.id_key) or unnamed(row.index)

    def success(self, row: Row, request: Mapping[str, Any], reply: Reply) -> tuple[bytes, str | None]:
        """The line of a reply without an error, and why it is incomplete, if it is.

        Raises IncompleteReply (on_incomplete="fail") and InvalidOutput: the answer has not the form that is wanted.
        """
        reason = None if self.on_incomplete == "ignore" else incomplete(reply.body)
        if reason is not None and self.on_incomplete == "fail":
            raise incomplete_error(reply, reason)
        line = self._head(row)
        if row.is_request_line:
            line |= {"response": _response(reply.status, reply.request_id, reply.body), "error": None}
            if self.response_key:
                line[self.response_key] = result(reply, self.result_format, request)
        else:
            line[self.response_key or "response"] = result(reply, self.result_format, request)
            line |= {"usage": reply.body.get("usage")}
            if reason is not None:
                line["incomplete"] = reason
        return encode_line(line), reason

    def failure(self, row: Row, error: ChatCompletionError, asked: int) -> bytes:
        """The line of a row that failed. ``asked``: how many calls for it came to an end."""
        line, code = self._head(row), error.code
        told = {
            "class": type(error).__name__,
            "code": type(error).__name__ if code is None else code,
            "message": error.message,
            "status": error.status,
            "request_id": error.request_id,
        }
        if row.is_request_line:
            has = error.status is not None
            line["response"] = _response(error.status, error.request_id, error.body) if has else None
        elif error.body is not None:
            line["body"] = error.body
        return encode_line({**line, "error": told, "asked": asked})

    def _head(self, row: Row) -> dict[str, Any]:
        if row.is_request_line:
            return {"index": row.index, "id": f"batch_req_{row.index}", "custom_id": row.value["custom_id"]}
        kept = {"row": row.value} if self.keep_row and row.value is not None else {}
        return {"index": row.index, "id": self.name(row), **kept}


def _response(status: int | None, request_id: str | None, body: Any) -> dict[str, Any]:
    return {"status_code": status, "request_id": request_id, "body": body}


def encode_line(line: Mapping[str, Any]) -> bytes:
    """JSON that any reader takes, in one line: what is no JSON of the strict kind is made so."""
    try:
        return _dump(line)
    except (ValueError, RecursionError):  # NaN, half a surrogate pair, nested too deep
        with contextlib.suppress(RecursionError):
            line = json.loads(json.dumps(line, default=str, skipkeys=True))
        return _dump(sanitize(line)[0])


def _dump(line: Any) -> bytes:
    # A row of an upstream task may hold dates and the like, which a template can use.
    text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str, skipkeys=True)
    return text.encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a line says to whoever continues."""

    index: int
    name: str
    usage: Mapping[str, Any]
    incomplete: bool
    asked: int


def read_line(line: bytes) -> Recorded | None:
    """A line that was written here; None for anything else."""
    try:
        value = json.loads(line)
        index, name = value["index"], value.get("custom_id") or value["id"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    if type(index) is not int or index < 0 or not isinstance(name, str):
        return None
    body = _body_of(value)
    usage = value.get("usage") or body.get("usage")
    asked = value.get("asked")
    return Recorded(
        index,
        name,
        usage if isinstance(usage, dict) else {},
        "incomplete" in value or ("custom_id" in value and bool(body.get("choices")) and incomplete(body) is not None),
        asked if type(asked) is int else 0,
    )


def _body_of(value: dict[str, Any]) -> dict[str, Any]:
    response = value.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    return body if isinstance(body, dict) else {}
