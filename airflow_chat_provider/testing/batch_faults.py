"""What goes wrong with batches. Script it on a `BatchServer`.

`wrong_ids()` to `token_limit()` are ends of the next batch. The others meet the next calls of their kind, as often as
`times` says, None always.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from airflow_chat_provider.testing import faults
from airflow_chat_provider.testing.batch_server import CallFault
from airflow_chat_provider.testing.batches import BatchEnd, failure
from airflow_chat_provider.testing.replies import End, Reply, Step, error

_ENQUEUED = (
    "Enqueued token limit reached for test-model in organization org-test. Limit: 90,000 enqueued tokens. Please try"
    " again once some in_progress batches have been completed."
)


def expired(rows: int = 0) -> BatchEnd:
    """The completion window ends after so many requests."""
    return BatchEnd("expired", rows)


def cancelled(rows: int = 0) -> BatchEnd:
    """Somebody else cancels the batch after so many requests."""
    return BatchEnd("cancelled", rows)


def failed(code: str = "invalid_json_line", message: str = "This line is not parseable as valid JSON.") -> BatchEnd:
    """The file does not pass the vendor's validation: nothing is answered."""
    return BatchEnd("failed", errors=[failure(code, message)])


def token_limit() -> BatchEnd:
    """As OpenAI refuses a batch while others of the account wait: its validation fails."""
    return failed("token_limit_exceeded", _ENQUEUED)


def wrong_ids() -> BatchEnd:
    """Each answer has the id of another request."""
    return BatchEnd(spoil=lambda lines: _with_ids(lines, [*_ids(lines)[1:], *_ids(lines)[:1]]))


def strange_id() -> BatchEnd:
    """The first answer has an id that nobody sent."""
    return BatchEnd(spoil=lambda lines: _with_ids(lines, ["nobody", *_ids(lines)[1:]]))


def same_id_twice() -> BatchEnd:
    """The first answer is there twice."""
    return BatchEnd(spoil=lambda lines: lines[:1] + lines)


def rows_missing(rows: int = 1) -> BatchEnd:
    """The batch is completed, but so many answers, the first ones, are in neither file."""
    return BatchEnd(spoil=lambda lines: lines[rows:])


def shuffled() -> BatchEnd:
    """The answers come in another order, as the API allows it."""
    return BatchEnd(spoil=lambda lines: lines[1::2] + lines[::2])


def not_json() -> BatchEnd:
    """The first line of the output file is not JSON."""
    return BatchEnd(spoil=lambda lines: [b"<html>oops</html>\n", *lines[1:]])


def output_short() -> BatchEnd:
    """The output file itself ends in the middle of its last line."""
    return BatchEnd(spoil=lambda lines: [*lines[:-1], *(line[: len(line) // 2] for line in lines[-1:])])


def output_cut(times: int | None = 1) -> CallFault:
    """The connection is closed in the middle of a file's content."""
    return CallFault("GET", "/files/{id}/content", _half, times)


def upload_lost(times: int | None = 1) -> CallFault:
    """A file is stored, but the connection is reset before the answer."""
    return CallFault("POST", "/files", _lost, times)


def start_lost(times: int | None = 1) -> CallFault:
    """A batch is started, but the connection is reset before the answer."""
    return CallFault("POST", "/batches", _lost, times)


def cancel_lost(times: int | None = 1) -> CallFault:
    """A batch is being cancelled, but the connection is reset before the answer."""
    return CallFault("POST", "/batches/{id}/cancel", _lost, times)


def no_right(status: int = 403, times: int | None = None) -> CallFault:
    """The key is not allowed to use files and batches."""
    message = "You have insufficient permissions for this operation. Missing scopes: api.files.write"
    return CallFault("*", "*", error(status, message), times)


def deleted(times: int | None = None) -> CallFault:
    """The batch is not there any more."""
    return CallFault("GET", "/batches/{id}", error(404, "No batch found with this id."), times)


def busy(times: int | None = 1, retry_after: float = 0.1) -> CallFault:
    """A start is refused, because too many tokens of the account wait already."""
    headers = {"Retry-After": str(retry_after)}
    return CallFault("POST", "/batches", error(429, _ENQUEUED, "token_limit_exceeded", headers=headers), times)


def out_of_order(times: int | None = 1, status: int = 500) -> CallFault:
    """The state of a batch cannot be read."""
    return CallFault("GET", "/batches/{id}", error(status, "The server had an error.", kind="server_error"), times)


def no_list(status: int = 404) -> CallFault:
    """The server has no list of batches."""
    return CallFault("GET", "/batches", error(status, "Not found"), None)


def _lost(_reply: Reply) -> Reply:
    return faults.reset()


def _half(reply: Reply) -> Reply:
    def steps(reply_: Reply) -> Iterator[Step]:
        head, first, *_ = reply.steps(reply_)
        yield head
        yield first[: len(first) // 2] if isinstance(first, bytes) else first

    return replace(reply, steps=steps, end=End.CLOSE)


def _ids(lines: list[bytes]) -> list[str]:
    return [json.loads(line)["custom_id"] for line in lines]


def _with_ids(lines: list[bytes], ids: list[str]) -> list[bytes]:
    return [
        json.dumps({**json.loads(line), "custom_id": name}).encode() + b"\n"
        for line, name in zip(lines, ids, strict=True)
    ]
