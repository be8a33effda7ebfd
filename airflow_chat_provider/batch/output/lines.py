"""A row's line in the output: how it is written, and how the next run reads it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.batch.input import Row
from airflow_chat_provider.core.answer.reply import Reply, doubts, incomplete
from airflow_chat_provider.core.answer.result import incomplete_error, result
from airflow_chat_provider.core.answer.usage import LARGEST, Calls, Spending
from airflow_chat_provider.core.cost.prices import number, read_amount, stated
from airflow_chat_provider.core.errors import ChatCompletionError, kind_named
from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.json_text.writing import sanitize

if TYPE_CHECKING:
    from airflow_chat_provider.core.types import OnIncomplete, ResultFormat


DIGEST, REUSED, SAME_AS = "digest", "reused", "same_as"
"""Keys of a line: the digest of its request; and where its answer is from, if the row was not asked for."""


def default_id(index: int) -> str:
    """The id of a row that has none of its own."""
    return f"row-{index}"


class Shape(NamedTuple):
    """How the user wants a row's line. The answer to a line of a batch file has the form of OpenAI's batch output."""

    id_key: str = "custom_id"
    result_format: ResultFormat = "raw"
    response_key: str | None = None
    on_incomplete: OnIncomplete = "warn"
    keep_row: bool = True

    def success(
        self,
        row: Row,
        request: Mapping[str, Any],
        reply: Reply,
        took: Spending,
        warnings: list[str],
        digest: str | None = None,
    ) -> tuple[bytes, str | None]:
        """The line for a reply without an error, and why the reply is incomplete (None: it is complete).

        ``took`` is what all the row's calls took; ``warnings`` takes what is doubtful about the reply; ``digest`` is
        that of the row's request.
        Raises IncompleteReply (on_incomplete="fail"), and InvalidOutput if the answer does not have the form that the
        user wants.
        """
        reason = None if self.on_incomplete == "ignore" else incomplete(reply.body)
        if reason is not None and self.on_incomplete == "fail":
            raise incomplete_error(reply, reason)
        warnings.extend((*reply.doubts, *doubts(reply.body)))
        line = self._head(row)
        if row.is_request_line:
            line |= {"response": _response(reply.status, reply.request_id, reply.body), "error": None}
            if self.response_key:
                line[self.response_key] = result(reply, self.result_format, request, warnings)
            if took.usage and took.usage != reply.body.get("usage"):
                line["usage"] = took.usage
        else:
            line[self.response_key or "response"] = result(reply, self.result_format, request, warnings)
            line |= {"usage": took.usage}
            if reason is not None:
                line["incomplete"] = reason
        return encode_line({**line, **_priced(took), **_counted(took.calls, _ONE), **_known_by(digest)}), reason

    def copied(
        self, row: Row, answer: Mapping[str, Any], key: str, source: Mapping[str, Any], took: Spending, digest: str
    ) -> tuple[bytes, str | None] | None:
        """The line for a row whose request another line answers, and why that answer is incomplete.

        None where it is of no use: it is incomplete (on_incomplete="fail"), or the line is of another form.
        ``key``: under which the other line has what it keeps of the answer. ``source`` says where that is from.
        ``took`` is what calls for this row took all the same, in earlier runs: those for the answer do not count here.
        """
        parts = None if has_failed(answer) else self._parts(row, answer, key)
        if parts is None:
            return None
        reason = None if self.on_incomplete == "ignore" else incomplete_in(answer) or _raw_incomplete(answer.get(key))
        if reason is not None and self.on_incomplete == "fail":
            return None
        line = {**self._head(row), **parts}
        if took.usage or not row.is_request_line:
            line["usage"] = took.usage
        if reason is not None and not row.is_request_line:
            line["incomplete"] = reason
        own = {**_priced(took), **_counted(took.calls, Calls())}
        return encode_line({**line, **own, **source, **_known_by(digest)}), reason

    def _parts(self, row: Row, answer: Mapping[str, Any], key: str) -> dict[str, Any] | None:
        """What a line keeps of its answer, from one that has it under ``key``; None if that has another form."""
        if row.is_request_line != ("custom_id" in answer):
            return None
        parts: dict[str, Any] = {}
        if row.is_request_line:
            if not isinstance(answer.get("response"), dict):
                return None
            parts = {"response": answer["response"], "error": None}
        if self.response_key or not row.is_request_line:
            if key not in answer:
                return None
            parts[self.response_key or "response"] = answer[key]
        return parts

    def failure(
        self,
        row: Row,
        error: ChatCompletionError,
        asked: int,
        took: Spending,
        source: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The line for a row that failed. ``asked``: how many calls for it came to an end; ``took``: what all took.

        ``source`` is put at its end: which row's failure it shares, or its digest, by which others do; and the vendor's
        id of the batch that the last call was in, if it was in one.
        """
        line, code = self._head(row), error.code
        failure = {
            "class": type(error).__name__,
            "code": type(error).__name__ if code is None else code,
            "message": error.message,
            "status": error.status,
            "request_id": error.request_id,
        }
        if row.is_request_line:
            line |= _failed_response(error, failure)
        else:
            line["error"] = failure
            if error.body is not None:
                line["body"] = error.body
        if took.usage:
            line["usage"] = took.usage
        counted = _counted(took.calls, Calls(attempts=asked))
        return encode_line({**line, **_priced(took), **counted, "asked": asked, **(source or {})})

    def own_id(self, row: Row) -> str | None:
        """The row's own id; None if it has none."""
        return row.own_id("custom_id" if row.is_request_line else self.id_key)

    def _head(self, row: Row) -> dict[str, Any]:
        if row.is_request_line:
            return {"index": row.index, "id": f"batch_req_{row.index}", "custom_id": row.value["custom_id"]}
        kept = {"row": row.value} if self.keep_row and row.value is not None else {}
        return {"index": row.index, "id": self.own_id(row) or default_id(row.index), **kept}


_ONE = Calls(requests=1, attempts=1)


def _priced(took: Spending) -> dict[str, Any]:
    """What the row cost, where that is known."""
    return {} if took.cost is None else {"cost": number(took.cost)}


def _known_by(digest: str | None) -> dict[str, Any]:
    # It comes last: whoever looks for a digest finds it there without parsing the line.
    return {} if digest is None else {DIGEST: digest}


def _counted(calls: Calls, usual: Calls) -> dict[str, Any]:
    """The counts of a row's calls, for the next run of the batch. Most rows have the usual ones, which are left out."""
    return {} if calls == usual else {"took": calls._asdict()}


def _response(status: int | None, request_id: str | None, body: Any) -> dict[str, Any]:
    # Some readers, vLLM's among them, reject null as the id: it is empty where the server named none.
    return {"status_code": status, "request_id": request_id or "", "body": body}


def _failed_response(error: ChatCompletionError, failure: dict[str, Any]) -> dict[str, Any]:
    """A failure in the form of OpenAI's error file, for a line of a batch file.

    If the server refused the request, its words are in the response's body and ``error`` is null; else ``error`` says
    what went wrong. ``failure`` is what the lines of other rows have as ``error``. OpenAI's codes are text and its
    bodies are objects: a body of another form is kept as ``body``, as in the lines of other rows.
    """
    body = error.body
    kept = body if isinstance(body, dict) else None
    refused = (error.status or 0) >= 400 and kept is not None and isinstance(kept.get("error"), dict)
    line: dict[str, Any] = {
        "response": None if error.status is None else _response(error.status, error.request_id, kept),
        "error": None if refused else {"code": str(failure["code"]), "message": failure["message"]},
        "failure": failure,
    }
    return line if body is kept or body is None else {**line, "body": body}


def encode_line(line: Mapping[str, Any]) -> bytes:
    """One line of JSON that any reader takes; values that strict JSON does not allow are replaced. Never raises."""
    try:
        return _dump(line)
    except Exception:  # noqa: BLE001 - NaN, half a surrogate pair, deep nesting, an object whose str() fails
        return _dump({name: _strict(value) for name, value in line.items()})


def _strict(value: Any) -> Any:
    with contextlib.suppress(Exception):  # as above: the line is paid for, so one value must not cost it
        with contextlib.suppress(RecursionError):
            value = json.loads(json.dumps(value, default=str, skipkeys=True))
        strict = sanitize(value)[0]
        _dump(strict)
        return strict
    return f"(a {type(value).__name__} that is not JSON)"


def _dump(line: Any) -> bytes:
    # default=str: a row of an upstream task may hold dates and the like.
    text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str, skipkeys=True)
    return text.encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A line as the next run reads it. ``own_id`` is None for a row without an id. ``failed``: it has no answer.

    ``failure``: the kind and the message of a failed row's error, if the line has them. ``source``: REUSED or SAME_AS
    if another line's answer was taken. ``batch``: the vendor's batch that a failed row was in.
    """

    index: int
    own_id: str | None
    took: Spending
    incomplete: bool
    failed: bool
    asked: int
    failure: tuple[str, str] | None = None
    source: str | None = None
    batch: str | None = None


class Foreign(Exception):
    """A line that this batch did not write."""


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Parse a line that a batch wrote; None for a damaged one. Raises Foreign for any other JSON object.

    After a power loss, a disk leaves NUL bytes: also in front of a line that was written later.
    """
    try:
        value = loads(line.strip(b"\0 \r\n"))
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    index = value.get("index")
    if type(index) is not int or index < 0 or "id" not in value:
        raise Foreign
    return value


def has_failed(line: Mapping[str, Any]) -> bool:
    """Is this the line of a row that failed?"""
    return line.get("asked") is not None


def read_line(line: bytes) -> Recorded | None:
    """What the next run has to know of a line that a batch wrote; None for a damaged one. May raise Foreign."""
    value = parse_line(line)
    if value is None:
        return None
    is_request_line, failed, asked = "custom_id" in value, has_failed(value), value.get("asked")
    own_id = value["custom_id" if is_request_line else "id"]
    body = _body_in(value)
    source = next((key for key in (REUSED, SAME_AS) if key in value), None)
    asked = asked if type(asked) is int and 0 < asked <= LARGEST else 0
    usual = Calls(attempts=asked) if failed else _ONE if source is None else Calls()
    usage = value.get("usage") or (body.get("usage") if source is None else None)
    return Recorded(
        value["index"],
        own_id if isinstance(own_id, str) else None,
        Spending(usage, _calls(value.get("took"), usual), cost=_cost(value.get("cost"), usage)),
        not failed and incomplete_in(value) is not None,
        failed,
        asked,
        _failure(value.get("failure" if is_request_line else "error")) if failed else None,
        source,
        batch if failed and isinstance(batch := value.get("batch"), str) else None,
    )


def _body_in(line: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a response that a line has; empty where it has none."""
    response = line.get("response") if "custom_id" in line else line
    body = response.get("body") if isinstance(response, dict) else None
    return body if isinstance(body, dict) else {}


def incomplete_in(line: Mapping[str, Any]) -> str | None:
    """Why the answer in a line is incomplete; None if it is complete, or nobody knows."""
    if "incomplete" in line:
        return str(line["incomplete"])
    return _incomplete(_body_in(line)) if "custom_id" in line else None


def _raw_incomplete(kept: Any) -> str | None:
    """The same for what a line keeps of an answer: only the raw response tells."""
    return _incomplete(kept.get("body")) if isinstance(kept, dict) else None


def _incomplete(body: Any) -> str | None:
    with contextlib.suppress(LookupError, TypeError, AttributeError):  # somebody has changed the line
        return incomplete(body) if body.get("choices") else None
    return None


def error_in(line: Mapping[str, Any]) -> ChatCompletionError | None:
    """The error in the line of a row that failed; None where somebody has changed it."""
    found = line.get("failure" if "custom_id" in line else "error")
    if not has_failed(line) or not isinstance(found, dict) or _failure(found) is None:
        return None
    body = line["body"] if "body" in line else _body_in(line) or None
    return ChatCompletionError.from_dict({**found, "error": found["class"], "body": body})


def _failure(error: Any) -> tuple[str, str] | None:
    """The kind and the message of an error as ``Shape.failure`` writes it; None for anything else."""
    if not isinstance(error, dict):
        return None
    name, status, message = (error.get(key) for key in ("class", "status", "message"))
    if not (isinstance(name, str) and name[:64].isidentifier() and isinstance(message, str)):
        return None
    return kind_named(name[:64], status if type(status) is int and 0 <= status < 1000 else None), message


def _cost(cost: Any, usage: Any) -> Decimal | None:
    """The cost in a line; what the server said of it, if the line is older than that."""
    known = read_amount(cost) if type(cost) in (int, float) else None
    return stated(usage) if known is None else known


def _calls(counts: Any, usual: Calls) -> Calls:
    """The counts of a line; the usual ones where it has none, or somebody has changed them."""
    if not isinstance(counts, dict):
        return usual
    found: list[Any] = [counts.get(name) for name in Calls._fields]
    return Calls(*found) if all(type(one) is int and 0 <= one <= LARGEST for one in found) else usual
