"""What is written for a row, and what of it is read again by whoever continues."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from airflow_chat_provider.batch.input.row import Row
from airflow_chat_provider.core.answer.ending import doubts, incomplete
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.result import incomplete_error, result
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.json_text.sanitize import sanitize
from airflow_chat_provider.core.types import ResultFormat


def unnamed(index: int) -> str:
    """The id of a row that has none."""
    return f"row-{index}"


class Shape(NamedTuple):
    """What the user wants of a row's line. A line of a batch file is answered in the OpenAI Batch file format."""

    id_key: str = "custom_id"
    result_format: ResultFormat = "raw"
    response_key: str | None = None
    on_incomplete: str = "warn"
    keep_row: bool = True

    def name(self, row: Row) -> str:
        return row.name(self.id_key) or unnamed(row.index)

    def success(
        self, row: Row, request: Mapping[str, Any], reply: Reply, usage: Any, told: list[str] | None = None
    ) -> tuple[bytes, str | None]:
        """The line of a reply without an error, and why it is incomplete, if it is. ``usage``: of all the row's calls.

        ``told`` takes what there is to warn of.
        Raises IncompleteReply (on_incomplete="fail") and InvalidOutput: the answer has not the form that is wanted.
        """
        reason = None if self.on_incomplete == "ignore" else incomplete(reply.body)
        if reason is not None and self.on_incomplete == "fail":
            raise incomplete_error(reply, reason)
        told = [] if told is None else told
        told.extend((*reply.doubts, *doubts(reply.body)))
        line = self._head(row)
        if row.is_request_line:
            line |= {"response": _response(reply.status, reply.request_id, reply.body), "error": None}
            if self.response_key:
                line[self.response_key] = result(reply, self.result_format, request, told)
            if usage and usage != reply.body.get("usage"):
                line["usage"] = usage
        else:
            line[self.response_key or "response"] = result(reply, self.result_format, request, told)
            line |= {"usage": usage}
            if reason is not None:
                line["incomplete"] = reason
        return encode_line(line), reason

    def failure(self, row: Row, error: ChatCompletionError, asked: int, usage: Any) -> bytes:
        """The line of a row that failed. ``asked``: how many calls for it came to an end; ``usage``: of all of them."""
        line, code = self._head(row), error.code
        told = {
            "class": type(error).__name__,
            "code": type(error).__name__ if code is None else code,
            "message": error.message,
            "status": error.status,
            "request_id": error.request_id,
        }
        if row.is_request_line:
            line |= _failed_response(error, told)
        else:
            line["error"] = told
            if error.body is not None:
                line["body"] = error.body
        if usage:
            line["usage"] = usage
        return encode_line({**line, "asked": asked})

    def _head(self, row: Row) -> dict[str, Any]:
        if row.is_request_line:
            return {"index": row.index, "id": f"batch_req_{row.index}", "custom_id": row.value["custom_id"]}
        kept = {"row": row.value} if self.keep_row and row.value is not None else {}
        return {"index": row.index, "id": self.name(row), **kept}


def _response(status: int | None, request_id: str | None, body: Any) -> dict[str, Any]:
    # Readers take no null for the id (vLLM's among them): it is empty where the server named none.
    return {"status_code": status, "request_id": request_id or "", "body": body}


def _failed_response(error: ChatCompletionError, told: dict[str, Any]) -> dict[str, Any]:
    """A failure where OpenAI's error file has it: a refusal's words in the response's body, and ``error`` null.

    ``error`` has what no server has said. ``failure`` is what the line of any other row has as its error. OpenAI's
    codes are text and its bodies objects: what came in another form is ``body``, as for any other row.
    """
    body = error.body
    kept = body if isinstance(body, dict) else None
    has_said = (error.status or 0) >= 400 and kept is not None and isinstance(kept.get("error"), dict)
    line: dict[str, Any] = {
        "response": None if error.status is None else _response(error.status, error.request_id, kept),
        "error": None if has_said else {"code": str(told["code"]), "message": told["message"]},
        "failure": told,
    }
    return line if body is kept or body is None else {**line, "body": body}


def encode_line(line: Mapping[str, Any]) -> bytes:
    """JSON that any reader takes, in one line: what is not JSON of the strict kind is made so. Never raises."""
    try:
        return _dump(line)
    except Exception:  # noqa: BLE001 - NaN, half a surrogate pair, nested too deep, an object that has no text
        return _dump({name: _strict(value) for name, value in line.items()})


def _strict(value: Any) -> Any:
    with contextlib.suppress(Exception):  # as above: the line is paid for, one value of it is not worth it
        with contextlib.suppress(RecursionError):
            value = json.loads(json.dumps(value, default=str, skipkeys=True))
        strict = sanitize(value)[0]
        _dump(strict)
        return strict
    return f"(a {type(value).__name__} that is not JSON)"


def _dump(line: Any) -> bytes:
    # A row of an upstream task may hold dates and the like, which a template can use.
    text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str, skipkeys=True)
    return text.encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a line says to whoever continues. ``name`` is the row's id, where it has one; ``failed``: no answer."""

    index: int
    name: str | None
    usage: Any
    incomplete: bool
    failed: bool
    asked: int


class Foreign(Exception):
    """A line that a batch did not write."""


def read_line(line: bytes) -> Recorded | None:
    """A line that was written here; None for what is left of one. Raises Foreign for other JSON objects.

    A disk that lost its power leaves NULs, before a line that was written afterwards too.
    """
    try:
        value = loads(line.strip(b"\0 \r\n"))
    except ValueError:
        return None
    return _recorded(value) if isinstance(value, dict) else None


def _recorded(value: dict[str, Any]) -> Recorded:
    index, asked = value.get("index"), value.get("asked")
    if type(index) is not int or index < 0 or "id" not in value:
        raise Foreign
    is_request_line = "custom_id" in value
    failed = asked is not None
    name = value["custom_id" if is_request_line else "id"]
    body = _body_of(value) if is_request_line else value.get("body")
    body = body if isinstance(body, dict) else {}
    return Recorded(
        index,
        name if isinstance(name, str) else None,
        value.get("usage") or body.get("usage"),
        "incomplete" in value or (is_request_line and not failed and _is_incomplete(body)),
        failed,
        asked if type(asked) is int and asked > 0 else 0,
    )


def _body_of(value: dict[str, Any]) -> Any:
    response = value.get("response")
    return response.get("body") if isinstance(response, dict) else None


def _is_incomplete(body: dict[str, Any]) -> bool:
    try:
        return bool(body.get("choices")) and incomplete(body) is not None
    except (LookupError, TypeError, AttributeError):  # somebody has changed the line
        return False
