"""A server that speaks OpenAI's batch API, real HTTP/1.1 on loopback: files, batches, and single chat completions."""

from __future__ import annotations

import itertools
import re
import ssl
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from airflow_chat_provider.testing.batch_files import MalformedForm, StoredFile, read_form
from airflow_chat_provider.testing.batches import (
    Answer,
    Batch,
    BatchEnd,
    Work,
    check,
    echo,
    in_parts,
    tokens_of,
)
from airflow_chat_provider.testing.loopback import PeerGoneError, Received, Wire
from airflow_chat_provider.testing.replies import Reply, Scripted, error, json_reply
from airflow_chat_provider.testing.server import ChatServer

MAX_REQUESTS = 50_000
MAX_BYTES = 200_000_000
_ROUTE = re.compile(r"/(files|batches)(?:/([^/]+)(/content|/cancel)?)?$")
_WINDOW = re.compile(r"[1-9]\d*[hd]")


@dataclass(frozen=True)
class CallFault:
    """What goes wrong with the next calls of one kind: `CallFault("POST", "/batches", replies.error(500, "oops"))`.

    A route is as in the API's reference: `/files`, `/files/{id}`, `/files/{id}/content`, `/batches`, `/batches/{id}`,
    `/batches/{id}/cancel`; `*` stands for all of them, as a method and as a route. A reply is sent instead of what was
    asked for. A function is given the server's reply, after the server has done what was asked, and makes what is sent.
    `times` says how many calls fail, None all.
    """

    method: str
    route: str
    reply: Reply | Callable[[Reply], Reply]
    times: int | None = 1

    def meets(self, method: str, route: str) -> bool:
        return self.method in ("*", method) and self.route in ("*", route)


class BatchServer(ChatServer):
    """Takes files and batches, and answers their requests by `answer`, as it answers single chat completions.

        with BatchServer(BatchEnd("expired", rows=2), answer=lambda body: replies.ok("Good.")) as server:
            ...  # run a batch against server.connection, then look at server.batches

    What is scripted goes to whom it concerns: a `BatchEnd` to the next batch, a `CallFault` to the next calls that it
    names, a reply to the next chat completion. `polls` is how many looks at a batch see it under way. Uploads lie in a
    folder of their own, which is removed when the server is left.
    """

    def __init__(
        self,
        *script: BatchEnd | CallFault | Scripted,
        answer: Answer = echo,
        polls: int = 1,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        record: Callable[[Received], object] | None = None,
    ) -> None:
        super().__init__(default=self._single, tls=tls, port=port, record=record)
        self.answer = answer
        """Makes the answer to a request from its body: a reply of `replies`, or a status and a body."""
        self.polls = polls
        """How many looks at a batch that is started from now on see it under way."""
        self.files: dict[str, StoredFile] = {}
        """The files that were not deleted, by id, each with `content`, `lines` and `json`."""
        self.batches: list[Batch] = []
        """All batches, the oldest first, each with `status`, `polls`, `metadata`, `input`, `output` and `error`."""
        self.tokens = 0
        """How many tokens all answers say that they took, those of batches when they end."""
        self._ends: deque[BatchEnd] = deque()
        self._faults: list[CallFault] = []
        self._uploads: dict[int, Path] = {}
        self._numbers = itertools.count(1)
        self.script(*script)

    def script(self, *script: BatchEnd | CallFault | Scripted) -> None:
        """Let this come next: ends of batches, faults of calls, replies to chat completions."""
        with self._news:
            self._ends.extend(one for one in script if isinstance(one, BatchEnd))
            self._faults.extend(one for one in script if isinstance(one, CallFault))
            super().script(*(one for one in script if not isinstance(one, BatchEnd | CallFault)))

    def batch(self, batch_id: str) -> Batch | None:
        """The batch with this id."""
        return next((batch for batch in self.batches if batch.id == batch_id), None)

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="batch-server-")
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._folder:
            super().__exit__(kind, error, trace)

    def _read(self, wire: Wire) -> Received | None:
        """The next request. The body of an upload goes to a file, and is not kept in `requests`."""
        try:
            head = wire.read_head()
            if head.method != "POST" or not head.path.endswith("/files"):
                return replace(head, body=b"".join(wire.body(head.headers)))
            self._uploads[wire.connection_id] = path = self._path()
            with path.open("wb") as file:
                file.writelines(wire.body(head.headers))
        except PeerGoneError:
            return None
        return head

    def _next(self, request: Received) -> Scripted:
        found = _ROUTE.search(request.path)
        if found is None:
            return super()._next(request)
        self._note(request)
        kind, name, verb = found.groups()
        fault = self._fault(request.method, f"/{kind}{'/{id}' if name else ''}{verb or ''}")
        changed = fault.reply if fault is not None else _unchanged
        if isinstance(changed, Reply):
            return changed
        return changed((self._file if kind == "files" else self._batch)(request, name, verb))

    def _fault(self, method: str, route: str) -> CallFault | None:
        with self._news:
            for place, fault in enumerate(self._faults):
                if fault.meets(method, route):
                    left = None if fault.times is None else fault.times - 1
                    self._faults[place : place + 1] = [] if left == 0 else [replace(fault, times=left)]
                    return fault
        return None

    def _single(self, request: Received) -> Reply:
        status, body = in_parts(self.answer(request.json))
        self._count(tokens_of(body) if status == 200 else 0)
        return json_reply(status, body)

    def _count(self, tokens: int) -> None:
        with self._news:
            self.tokens += tokens

    def _file(self, request: Received, name: str | None, verb: str | None) -> Reply:
        if name is None:
            return self._upload(request) if request.method == "POST" else _list([*self.files.values()], request)
        file = self.files.get(name)
        if file is None:
            return error(404, f"No such File object: {name}")
        if verb == "/content":
            return file.reply()
        if request.method == "DELETE":
            del self.files[name]
            return json_reply(200, {"id": name, "object": "file", "deleted": True})
        return json_reply(200, file.described())

    def _upload(self, request: Received) -> Reply:
        path = self._uploads.pop(request.connection_id)
        try:
            form = read_form(path, request.headers.get("content-type", ""))
        except MalformedForm as malformed:
            return error(400, str(malformed))
        if form.fields.get("purpose") != "batch":
            return error(400, "The purpose of a file must be 'batch' here.")
        if form.end - form.start > MAX_BYTES:
            return error(413, f"The file is larger than {MAX_BYTES} bytes.")
        stored = StoredFile(self._id("file"), form.filename, "batch", path, form.start, form.end)
        self.files[stored.id] = stored
        return json_reply(200, stored.described())

    def _batch(self, request: Received, name: str | None, verb: str | None) -> Reply:
        if name is None:
            return self._start_batch(request.json) if request.method == "POST" else _list(self.batches, request)
        batch = self.batch(name)
        if batch is None:
            return error(404, f"No batch found with id '{name}'.")
        with batch.lock:
            if verb == "/cancel":
                return _cancel(batch)
            batch.polls += 1
            if batch.due:
                self._end(batch)
            elif not batch.ended:
                batch.advance()
            return json_reply(200, batch.described())

    def _start_batch(self, asked: Any) -> Reply:
        wrong = _wrong(asked)
        if wrong:
            return error(400, wrong)
        file = self.files.get(asked["input_file_id"])
        if file is None:
            return error(400, f"File with id '{asked['input_file_id']}' not found.")
        total, errors = check(file.lines, asked["endpoint"], MAX_REQUESTS)
        with self._news:
            end = self._ends.popleft() if self._ends else BatchEnd()
            batch = Batch(
                self._id("batch"),
                file,
                asked["endpoint"],
                asked["completion_window"],
                asked.get("metadata"),
                BatchEnd("failed", errors=errors) if errors else end,
                total,
                self.polls,
            )
            self.batches.append(batch)
            self._news.notify_all()
        return json_reply(200, batch.described())

    def _end(self, batch: Batch) -> None:
        """Answer what is to be answered, and let the batch have its files."""
        if batch.end.status != "failed":
            output, refused = self._path(), self._path()
            spoiled: list[bytes] = []
            with output.open("wb") as first, refused.open("wb") as second:
                work = Work(spoiled.append if batch.end.spoil else first.write, second.write)
                work.do(batch, self.answer)
                first.writelines(batch.end.spoil(spoiled) if batch.end.spoil else ())
            batch.output, batch.error = self._made(output, batch, "output"), self._made(refused, batch, "error")
            batch.counts = work.completed, work.failed
            self._count(work.tokens)
        batch.finish()

    def _made(self, path: Path, batch: Batch, what: str) -> StoredFile | None:
        size = path.stat().st_size
        if not size:
            return None
        file = StoredFile(self._id("file"), f"{batch.id}_{what}.jsonl", "batch_output", path, 0, size)
        self.files[file.id] = file
        return file

    def _path(self) -> Path:
        return Path(self._folder.name, str(next(self._numbers)))

    def _id(self, kind: str) -> str:
        return f"{kind}{'-' if kind == 'file' else '_'}{next(self._numbers):06}"


def _unchanged(reply: Reply) -> Reply:
    return reply


def _cancel(batch: Batch) -> Reply:
    if batch.ended:
        return error(409, f"Cannot cancel a batch with status '{batch.status}'.")
    batch.cancel()
    return json_reply(200, batch.described())


def _list(all_of_them: list[Any], request: Received) -> Reply:
    """A page of them, the newest first."""
    newest = all_of_them[::-1]
    limit = max(1, min(100, int(request.query.get("limit") or 20)))
    after = request.query.get("after")
    begin = next((place for place, one in enumerate(newest, 1) if one.id == after), 0)
    page = [one.described() for one in newest[begin : begin + limit]]
    ids = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return json_reply(200, {"object": "list", "data": page, **ids, "has_more": len(newest) > begin + limit})


def _wrong(asked: Any) -> str | None:
    """What is wrong with the body of a start."""
    if not isinstance(asked, dict) or not isinstance(asked.get("input_file_id"), str):
        return "Missing required parameter: 'input_file_id'."
    if not str(asked.get("endpoint")).endswith("/chat/completions"):
        return "Invalid value: 'endpoint' must be '/v1/chat/completions'."
    if not _WINDOW.fullmatch(str(asked.get("completion_window"))):
        return "Invalid value: 'completion_window' must be like '24h'."
    metadata = asked.get("metadata") or {}
    if len(metadata) > 16 or not all(isinstance(value, str) and len(value) <= 512 for value in metadata.values()):
        return "Invalid 'metadata': at most 16 texts of at most 512 characters."
    return None
