"""A vendor's batch API: files of requests go up, batches are started and watched, files of answers come down.

Everything goes through the connection's own client. Bodies of files are never held in memory as a whole.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import quote

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.exchange import judge, next_delay, with_server_words
from airflow_chat_provider.core.call.steps import Call, Send
from airflow_chat_provider.core.errors import (
    ChatCompletionError,
    ProtocolError,
    RateLimited,
    StatusError,
    TransportError,
)
from airflow_chat_provider.core.server.scrub import Scrubber, printable
from airflow_chat_provider.transport.batch_vendors import dialect_at
from airflow_chat_provider.transport.client import AsyncClient

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings

MARK = "airflow_chat"
"""The key in a batch's metadata under which it is known as one of ours."""
_ENDED = frozenset({"completed", "failed", "expired", "cancelled", "canceled"})
_ENDING = frozenset({"cancelling", "canceling"})
_LIMITS = frozenset({"token_limit_exceeded", "enqueued_token_limit_exceeded", "batch_limit_exceeded"})
_PIECE = 1 << 18  # bytes of a file that are sent at a time
_SLOWEST = 50_000  # bytes per second at which a file may travel
_TIMEOUT = 120.0  # seconds for an answer, at most
_PAGE, _PAGES = 100, 200  # batches on a page of the list, and pages that are looked through
_NO_SUCH_PAGE = (404, 405, 501)
_LONGEST = 500  # characters of what a server says is wrong with a file


class Fault(NamedTuple):
    """What a vendor says is wrong with a file of requests. ``line`` counts from 1."""

    code: str
    message: str
    line: int | None


class VendorBatch(NamedTuple):
    """A batch as its vendor describes it; counts are 0 where it names none."""

    id: str
    status: str
    input_file: str | None = None
    output_file: str | None = None
    error_file: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    faults: tuple[Fault, ...] = ()
    mark: str | None = None

    @classmethod
    def from_body(cls, body: Any) -> Self | None:
        """Read one; None if it is something else. Together wraps a new one into a ``job``."""
        found = body.get("job", body) if isinstance(body, dict) else None
        if not isinstance(found, dict) or not (name := _text(found.get("id"))):
            return None
        counts, metadata = _dict(found.get("request_counts")), _dict(found.get("metadata"))
        return cls(
            name,
            (_text(found.get("status")) or "unknown").lower(),
            input_file=_text(found.get("input_file_id")),
            output_file=_text(found.get("output_file_id")),
            error_file=_text(found.get("error_file_id")),
            total=_count(counts.get("total")),
            completed=_count(counts.get("completed")),
            failed=_count(counts.get("failed")),
            faults=tuple(_faults(found)),
            mark=_text(metadata.get(MARK)),
        )

    @property
    def ended(self) -> bool:
        """Does nothing more come?"""
        return self.status in _ENDED

    @property
    def is_ending(self) -> bool:
        """Is it being cancelled?"""
        return self.status in _ENDING

    @property
    def hit_limit(self) -> bool:
        """Did it fail before it began, because too much is waiting at the vendor already?"""
        return self.status == "failed" and any(fault.code in _LIMITS for fault in self.faults)

    def __str__(self) -> str:
        counts = f", {self.completed:,} of {self.total:,} answered, {self.failed:,} failed" if self.total else ""
        return f"batch {self.id}: {self.status}{counts}"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return printable(value[:256]) if isinstance(value, str) and value else None


def _count(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _faults(batch: Mapping[str, Any]) -> list[Fault]:
    data = _dict(batch.get("errors")).get("data")
    found = [
        Fault(
            _text(one.get("code")) or "unknown",
            printable(str(one.get("message") or "")[:_LONGEST]),
            one["line"] if type(one.get("line")) is int else None,
        )
        for one in (data if isinstance(data, list) else ())[:10]
        if isinstance(one, dict)
    ]
    if not found and (said := _text(batch.get("error"))):
        found.append(Fault("unknown", said, None))
    return found


class NoList(ChatCompletionError):
    """The vendor has no list of batches, so nothing can be looked up there."""


class BatchApi:
    """For one event loop. Methods raise StatusError, TransportError and the like; to be closed."""

    def __init__(self, settings: Settings) -> None:
        self._dialect = dialect_at(settings)
        self._settings = settings._replace(base_url=self._dialect.base_url)
        self._client = AsyncClient(self._settings)

    @property
    def endpoint(self) -> str:
        """The endpoint that each request of a file must name."""
        return self._dialect.endpoint

    async def aclose(self) -> None:
        await self._client.aclose()

    async def upload(self, file: IO[bytes], size: int, name: str) -> str:
        """Upload a file of requests: the vendor's id for it. A lost upload is repeated: files cost nothing."""
        boundary = uuid.uuid4().hex
        fields = {"purpose": self._dialect.purpose, **dict(self._dialect.fields)}
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        )
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        begin, end = head.encode(), f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "content-type": f"multipart/form-data; boundary={boundary}",
            "content-length": str(len(begin) + size + len(end)),
        }

        async def body() -> AsyncIterator[bytes]:
            file.seek(0)
            yield begin
            while piece := file.read(_PIECE):
                yield piece
            yield end

        async def attempt(number: int) -> Reply:
            return await self._attempt("POST", self._dialect.files, number, headers=headers, body=body(), size=size)

        with self._explained(self._dialect.files):
            value = await self._until_final(attempt)
        found = _text(value.get("id"))
        if found is None:
            raise ProtocolError(f"Check the base URL: {self._settings.base_url} named no id for the uploaded file")
        return found

    async def start(self, file_id: str, mark: str, completion_window: str) -> VendorBatch:
        """Start a batch, in one attempt: whoever calls this looks a lost one up before it is started again."""
        request: dict[str, Any] = {
            "input_file_id": file_id,
            "endpoint": self._dialect.endpoint,
            "completion_window": completion_window,
        }
        if self._dialect.metadata:
            request["metadata"] = {MARK: mark}
        headers = {"idempotency-key": mark}
        with self._explained("/batches"):
            reply = await self._attempt("POST", "/batches", 1, json.dumps(request).encode(), headers)
            return _batch(_value(reply), self._settings)

    async def get(self, batch_id: str) -> VendorBatch:
        return _batch(await self._value("GET", f"/batches/{quote(batch_id, safe='')}"), self._settings)

    async def find(self, file_id: str, mark: str) -> VendorBatch | None:
        """The batch that was started with this file, or has our mark; None if there is none. Raises NoList."""
        after: str | None = None
        for _ in range(_PAGES):
            page, has_more = await self._page(after)
            for batch in page:
                if (batch.input_file == file_id or batch.mark == mark) and not batch.hit_limit:
                    return batch
            if not page or not has_more or page[-1].id == after:
                return None
            after = page[-1].id
        return None

    async def _page(self, after: str | None) -> tuple[list[VendorBatch], bool]:
        path = f"/batches?limit={_PAGE}" + (f"&after={quote(after, safe='')}" if after else "")
        try:
            body = await self._value("GET", path)
        except StatusError as error:
            if error.status in _NO_SUCH_PAGE:
                raise NoList(f"{self._settings.base_url} has no list of batches (HTTP {error.status})") from None
            raise
        listed = body.get("data")
        if not isinstance(listed, list):
            raise NoList(f"{self._settings.base_url} has no list of batches that can be read")
        page = [batch for batch in map(VendorBatch.from_body, listed) if batch is not None]
        return page, bool(body.get("has_more"))

    async def cancel(self, batch_id: str) -> None:
        """Ask the vendor to stop a batch. What it has answered can be fetched, and is paid for."""
        await self._value("POST", f"/batches/{quote(batch_id, safe='')}/cancel")

    async def download(self, file_id: str, file: IO[bytes]) -> None:
        """Add the content of a vendor's file to ``file``. If it breaks off, what came is in there, and this raises."""
        path = f"/files/{quote(file_id, safe='')}/content"
        send = Send(max(self._settings.timeout, 86_400.0), 1)  # stall_timeout ends what stands still
        live = await self._client.open(send, {"accept": "*/*"}, method="GET", path=path)
        if isinstance(live, TransportError):
            raise live
        if not 200 <= live.status < 300:
            reply = self._judged(await live.drain())
            raise reply.error or ProtocolError(f"Try again: file {file_id} came with HTTP {reply.status}")
        async for piece in live.file():
            file.write(piece)
        if isinstance(live.outcome, TransportError):
            raise live.outcome

    async def _value(self, method: str, path: str) -> dict[str, Any]:
        async def attempt(number: int) -> Reply:
            return await self._attempt(method, path, number)

        return await self._until_final(attempt)

    async def _until_final(self, attempt: Any) -> dict[str, Any]:
        """Repeat what may be repeated, within the connection's limits."""
        began, number = time.monotonic(), 1
        while True:
            reply: Reply = await attempt(number)
            try:
                return _value(reply)
            except ChatCompletionError as error:
                jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
                elapsed = time.monotonic() - began
                delay = next_delay(self._settings, error, attempt=number, elapsed=elapsed, jitter=jitter)
                if delay is None:
                    raise
            await asyncio.sleep(delay)
            number += 1

    async def _attempt(
        self,
        method: str,
        path: str,
        number: int,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        body: AsyncIterator[bytes] | None = None,
        size: int = 0,
    ) -> Reply:
        send = Send(min(self._settings.timeout, _TIMEOUT) + size / _SLOWEST, number, content)
        live = await self._client.open(send, dict(headers or {}), method=method, path=path, body=body)
        return self._judged(live if isinstance(live, TransportError) else await live.drain())

    def _judged(self, outcome: Any) -> Reply:
        call = Call(self._settings)
        return with_server_words(judge(outcome, call, now=time.time()), call)

    def _explained(self, path: str) -> _Explained:
        return _Explained(self._settings, path)


class _Explained:
    """Say of a refusal by the batch API what it means: the advice for chat completions would lead astray."""

    def __init__(self, settings: Settings, path: str) -> None:
        self._settings, self._path = settings, path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, StatusError):
            return
        base, conn = self._settings.base_url, self._settings.conn_id
        said = f" ({error.message})"
        if error.status in (401, 403):
            error.reword(
                f"Use a key that may upload files and start batches (HTTP {error.status}), or via='calls': the key of "
                f"connection {conn!r} may not do this{said}"
            )
        elif error.status in _NO_SUCH_PAGE:
            error.reword(
                f"Use via='calls' (HTTP {error.status} for {self._path}): {base} of connection {conn!r} seems to have "
                f"no batch API{said}"
            )


def _value(reply: Reply) -> dict[str, Any]:
    """The object in a reply. Raises its error: ``judge`` looks for a chat completion, and this is none."""
    body = reply.body
    if 200 <= (reply.status or 0) < 300:
        if isinstance(body, list):  # Together's list
            return {"data": body}
        if isinstance(body, dict) and not isinstance(body.get("error"), dict):
            return body
    raise reply.error or ProtocolError("Try again: the server answered with something that is not an object")


def _batch(body: dict[str, Any], settings: Settings) -> VendorBatch:
    found = VendorBatch.from_body(body)
    if found is None:
        raise ProtocolError(
            f"Check the base URL: {settings.base_url} answered with something that is not a batch", body=body
        )
    if not found.faults:
        return found
    scrub = Scrubber(secrets=settings.secrets)
    faults = (Fault(scrub.name(one.code), scrub(one.message), one.line) for one in found.faults)
    return found._replace(faults=tuple(faults))


def is_limit(error: ChatCompletionError) -> bool:
    """Was a batch refused because too much is waiting at the vendor already, or too much was asked of it?"""
    return (isinstance(error, RateLimited) and not error.final) or error.code in _LIMITS


def may_have_begun(error: ChatCompletionError) -> bool:
    """May the vendor have started a batch although no answer says so?"""
    if isinstance(error, TransportError):
        return error.sent is not False
    if isinstance(error, StatusError):
        return (error.status or 0) >= 500 or error.status in (408, 409) or 200 <= (error.status or 0) < 300
    return isinstance(error, ProtocolError)
