"""A batch of the batch server: how it is checked, how it ends, and what its files say."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_chat_provider.testing.batch_files import StoredFile
from airflow_chat_provider.testing.replies import MODEL, Reply, completion

Answer = Callable[[dict[str, Any]], "Reply | tuple[int, Any]"]
"""Makes the answer to a request's body: a reply as of `replies`, or a status and a body."""

Spoil = Callable[[list[bytes]], list[bytes]]

_UNANSWERED = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed, because the batch was cancelled."),
}


@dataclass(frozen=True)
class BatchEnd:
    """How a batch ends: by default it is completed. `batch_faults` has ends that go wrong.

    `rows` is how many of its requests, from the first, are answered before that. `errors` are those of a batch whose
    validation fails. `spoil` makes the lines of the output file from the right ones.
    """

    status: str = "completed"
    rows: int | None = None
    errors: Sequence[dict[str, Any]] = ()
    spoil: Spoil | None = None


@dataclass
class Batch:
    """One batch. `status` is what the last answer said, `polls` is how often it was asked for."""

    id: str
    input: StoredFile = field(repr=False)
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    end: BatchEnd
    total: int
    patience: int = field(repr=False)
    created_at: int = field(default_factory=lambda: int(time.time()), repr=False)
    status: str = "validating"
    polls: int = 0
    counts: tuple[int, int] = (0, 0)
    output: StoredFile | None = None
    error: StoredFile | None = None
    ended_at: int | None = field(default=None, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    @property
    def due(self) -> bool:
        """Does the next look at it see its end?"""
        return not self.ended and (self.end.status == "failed" or self.polls > self.patience)

    def advance(self) -> None:
        """One poll more of those that see it under way."""
        if self.status != "cancelling":
            self.status = "finalizing" if self.polls == self.patience > 1 else "in_progress"
            self.counts = (self.total * self.polls // (self.patience + 1), 0)

    def cancel(self) -> None:
        """Stop before any other request is answered; the next poll sees it cancelled."""
        self.end = BatchEnd("cancelled", rows=self.counts[0])
        self.status = "cancelling"
        self.patience = self.polls

    def finish(self) -> None:
        self.status = self.end.status
        self.ended_at = int(time.time())

    def described(self) -> dict[str, Any]:
        """The object that the API has for it."""
        completed, failed = self.counts
        stamps: dict[str, int | None] = {
            f"{name}_at": None for name in ("completed", "failed", "expired", "cancelling", "cancelled")
        }
        if self.ended:
            stamps[f"{self.status}_at"] = self.ended_at
        started = None if self.status in ("validating", "failed") else self.created_at
        errors = {"object": "list", "data": list(self.end.errors)} if self.status == "failed" else None
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": errors,
            "input_file_id": self.input.id,
            "completion_window": self.completion_window,
            "status": self.status,
            "output_file_id": self.output.id if self.output else None,
            "error_file_id": self.error.id if self.error else None,
            "created_at": self.created_at,
            "in_progress_at": started,
            "expires_at": self.created_at + 86_400,
            "finalizing_at": None,
            **stamps,
            "request_counts": {
                "total": 0 if self.status in ("validating", "failed") else self.total,
                "completed": completed,
                "failed": failed,
            },
            "metadata": self.metadata,
        }


@dataclass
class Work:
    """What a batch has done: the lines of its two files go to `answered` and `refused`."""

    answered: Callable[[bytes], object]
    refused: Callable[[bytes], object]
    completed: int = 0
    failed: int = 0
    tokens: int = 0

    def do(self, batch: Batch, answer: Answer) -> None:
        """Answer each request that is to be answered."""
        code, message = _UNANSWERED.get(batch.end.status, ("", ""))
        for number, line in enumerate(batch.input.lines):
            request = json.loads(line)
            head = {"id": f"batch_req_{batch.id[-6:]}_{number}", "custom_id": request["custom_id"]}
            if batch.end.rows is None or number < batch.end.rows:
                self._answer(head, *in_parts(answer(request["body"])))
            elif code:
                self._refuse({**head, "response": None, "error": {"code": code, "message": message}})

    def _answer(self, head: dict[str, Any], status: int, body: Any) -> None:
        response = {"status_code": status, "request_id": f"req_{head['id']}", "body": body}
        line = {**head, "response": response, "error": None}
        if status == 200:
            self.completed += 1
            self.tokens += tokens_of(body)
            self.answered(_dumped(line))
        else:
            self._refuse(line)

    def _refuse(self, line: dict[str, Any]) -> None:
        self.failed += 1
        self.refused(_dumped(line))


def echo(body: dict[str, Any]) -> tuple[int, Any]:
    """Answer with the last message's text, and count a token for each four characters of it."""
    text = body["messages"][-1].get("content")
    text = text if isinstance(text, str) else "Hello"
    tokens = len(text) // 4 + 1
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": 2 * tokens}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return 200, completion(model=body.get("model", MODEL), choices=[choice], usage=usage)


def in_parts(answer: Reply | tuple[int, Any]) -> tuple[int, Any]:
    """Status and body of an answer in either form."""
    return (answer.status, json.loads(answer.body)) if isinstance(answer, Reply) else answer


def tokens_of(body: Any) -> int:
    """All tokens that the usage of an answer's body counts."""
    usage = body.get("usage") if isinstance(body, dict) else None
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if type(total) is int else 0


def check(lines: Iterator[bytes], endpoint: str, most: int) -> tuple[int, list[dict[str, Any]]]:
    """How many requests a file has, and what is wrong with them, as the API says it: at most ten errors."""
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    number = 0
    for number, line in enumerate(lines, 1):
        wrong = _wrong(line, endpoint, seen)
        if wrong and len(errors) < 10:
            errors.append({"code": wrong[0], "message": wrong[1], "param": None, "line": number})
    if not number:
        errors.append(failure("empty_file", "The input file is empty."))
    if number > most:
        errors.append(
            failure("too_many_requests", f"The input file has {number} requests. At most {most} may be in it.")
        )
    return number, errors


def failure(code: str, message: str) -> dict[str, Any]:
    """An error of a whole batch."""
    return {"code": code, "message": message, "param": None, "line": None}


def _wrong(line: bytes, endpoint: str, seen: set[str]) -> tuple[str, str] | None:
    try:
        request = json.loads(line)
        custom_id, method, url, body = (request[name] for name in ("custom_id", "method", "url", "body"))
    except ValueError:
        return "invalid_json_line", "This line is not parseable as valid JSON."
    except (KeyError, TypeError):
        return "missing_required_parameter", "A line needs custom_id, method, url and body."
    if method != "POST" or url != endpoint:
        return "mismatched_url", f"The method and the URL of each request must be POST and {endpoint}."
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or "model" not in body:
        return "invalid_body", "The body of each request needs a model and messages."
    if body.get("stream"):
        return "invalid_body", "Streaming is not supported in a batch."
    if not isinstance(custom_id, str) or custom_id in seen:
        return "duplicate_custom_id", "The custom_id of each request must be a text of its own."
    seen.add(custom_id)
    return None


def _dumped(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
