"""From the files that a vendor's batch API hands out to the lines of our output."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.batch.caller import Spent
from airflow_chat_provider.batch.feed import Feed
from airflow_chat_provider.batch.files import StoreError
from airflow_chat_provider.batch.output.lines import DIGEST, SAME_AS
from airflow_chat_provider.batch.output.store import ERRORS, RESULTS
from airflow_chat_provider.batch.reuse import Answer
from airflow_chat_provider.batch.vendor.cutting import dialogue_of, row_named
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.usage import Spending, usage_in
from airflow_chat_provider.core.call.exchange import judge, next_delay, with_server_words
from airflow_chat_provider.core.call.steps import Call, Response
from airflow_chat_provider.core.cost.prices import stated
from airflow_chat_provider.core.errors import ChatCompletionError, ProtocolError, StatusError, TransportError, kind_of
from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.server.scrub import printable
from airflow_chat_provider.core.spelling import plural
from airflow_chat_provider.transport import server_memory
from airflow_chat_provider.transport.price_list import PriceList

if TYPE_CHECKING:
    from airflow_chat_provider.batch.engine import Engine
    from airflow_chat_provider.batch.input import Row, Source
    from airflow_chat_provider.batch.orders import Order
    from airflow_chat_provider.transport.batch_api import BatchApi, VendorBatch

_AT_ONCE = 500  # lines that go to the output together
_LONGEST_LINE = 1 << 28  # bytes
_TAIL = 1 << 16  # bytes at the end of a file, in which its last line is looked for first
_UNDONE = {
    "batch_expired": "the batch expired before the server came to this row",
    "batch_cancelled": "the batch was cancelled before the server came to this row",
}
log = logging.getLogger(__name__)


class Places(NamedTuple):
    """Where in the downloaded files the answer of each row is, and what else is in there."""

    offsets: dict[int, int]
    strange: int
    twice: int
    damaged: int


class Answers:
    """Fetches what a vendor has answered, and writes it into the output: each row once, whatever the vendor sends."""

    def __init__(self, engine: Engine, source: Source, api: BatchApi) -> None:
        self._engine, self._source, self._api = engine, source, api
        self._prices = PriceList(engine.settings)

    async def fetch(self, order: Order, batch: VendorBatch, *, counted: bool) -> int:
        """Write all that a batch has answered; returns how many rows that are. Nothing is written or counted twice.

        ``counted``: a row that failed counts as a failed one of this try. Else this try asks for it again.
        Raises TransportError where a file breaks off each time that it is fetched: what came is written all the same.
        """
        broken: ChatCompletionError | None = None
        with tempfile.TemporaryFile() as file:
            for file_id in (batch.output_file, batch.error_file):
                if file_id is not None:
                    broken = await self._download(file_id, file) or broken
            places = _look(file, set(order.indices()))
            self._tell(places, order, batch)
            await self._write(file, places.offsets, order, counted=counted)
        await self._engine.store.flush()  # only then may the order be noted as fetched
        if broken is not None:
            raise broken
        return len(places.offsets)

    async def _download(self, file_id: str, file: IO[bytes]) -> ChatCompletionError | None:
        """Add a vendor's file to ``file``. If it breaks off each time, returns why; what came last is in there."""
        begin, attempt, settings, began = file.tell(), 0, self._engine.settings, time.monotonic()
        while True:
            file.seek(begin)
            file.truncate()
            attempt += 1
            broken = await self._attempt(file_id, file)
            if broken is None and not _is_cut(file, begin):
                return None
            # What ends in half a line each time is so at the vendor: fetching it in another try would not help.
            cut = broken or _broken(file_id, "its last line is not complete")
            elapsed = time.monotonic() - began
            delay = next_delay(settings, cut, attempt=attempt, elapsed=elapsed, jitter=1.0)
            if delay is None:
                return broken
            log.warning("Fetching file %s again: %s", file_id, cut.why)
            await asyncio.sleep(delay)

    async def _attempt(self, file_id: str, file: IO[bytes]) -> ProtocolError | None:
        begin, broken = file.tell(), None
        try:
            await self._api.download(file_id, file)
        except (TransportError, StatusError) as error:
            if error.final:
                raise
            broken = _broken(file_id, error.why or error.message)
        if file.seek(0, 2) > begin and not _ends_line(file):
            file.write(b"\n")
        return broken

    def _tell(self, places: Places, order: Order, batch: VendorBatch) -> None:
        """Log what is wrong with the vendor's files, in one line for each kind of fault."""
        name = f"Batch {batch.id}"
        if places.strange:
            lines = plural(places.strange, "line")
            log.warning("%s: %s with an id that none of its rows has: passed over", name, lines)
        if places.twice:
            lines = plural(places.twice, "line")
            log.warning("%s: %s for a row that has one already: the first one counts", name, lines)
        if places.damaged:
            log.warning("%s: %s that cannot be read: passed over", name, plural(places.damaged, "line"))
        lost = order.requests - len(places.offsets)
        if lost > 0:
            rows = plural(lost, "row")
            log.warning("%s (%s): %s without an answer: the next try asks again", name, batch.status, rows)

    async def _write(self, file: IO[bytes], offsets: dict[int, int], order: Order, *, counted: bool) -> None:
        history, store = self._engine.history, self._engine.store
        left = sum(not history.done[index] for index in offsets)
        feed = Feed(self._source.rows(lambda index: index in offsets and not history.done[index]))
        try:
            writes = []
            while left and (row := await feed.take()) is not None:
                left -= 1
                file.seek(offsets[row.index])
                writes.append(await self._take(row, loads(file.readline(_LONGEST_LINE)), order, counted=counted))
                if len(writes) >= _AT_ONCE:
                    await self._all(writes)
            await self._all(writes)
        finally:
            feed.close()
        if store.full:
            raise StoreError(f"Make room, then run the task again: the disk of {store.where(RESULTS)} is full")

    async def _all(self, writes: list[tuple[str, bytes, Callable[[], None]] | None]) -> None:
        """Write lines together, so that they go to the disk together."""
        await asyncio.gather(*(self._engine.store.write(*write) for write in writes if write is not None))
        writes.clear()

    async def _take(
        self, row: Row, value: dict[str, Any], order: Order, *, counted: bool
    ) -> tuple[str, bytes, Callable[[], None]] | None:
        """The line for a row, its kind, and what to call when it is stored; None if the output has it already."""
        spent = Spent()
        try:
            outcome = await self._outcome(row, value, order.model, spent)
        except Exception as error:  # noqa: BLE001 - this row's alone: a hostile answer
            outcome = spent.failure(row, error)
        if isinstance(outcome, ChatCompletionError):
            return self.failed(row, outcome, spent, order.batch, counted=counted)
        return self.answered(row, outcome, spent)

    def answered(self, row: Row, answer: Answer, spent: Spent) -> tuple[str, bytes, Callable[[], None]]:
        """The same for a row that has its line."""
        engine = self._engine
        count = engine.tally.success(spent.took, incomplete=answer.incomplete is not None, source=answer.source)

        def stored() -> None:
            engine.history.done[row.index] = 1
            engine.tally.first_failures.forget(row.index)
            count()

        return RESULTS, answer.line, stored

    def failed(
        self,
        row: Row,
        error: ChatCompletionError,
        spent: Spent,
        batch_id: str | None = None,
        *,
        counted: bool = True,
        shares: int | None = None,
    ) -> tuple[str, bytes, Callable[[], None]] | None:
        """The same for a row that failed: in this batch, or (None) before it was in any.

        ``shares``: the row whose failure this is, if that has an equal request.
        """
        engine, index = self._engine, row.index
        # The line is there already, if it is from a fetch that did not come to its end.
        known = batch_id is not None and engine.history.batches.get(index) == batch_id
        count = engine.tally.failure(error, Spending() if known else spent.took) if counted else None
        if counted:
            engine.reasons.note(error, row.place)
            if engine.tally.came.failed[kind_of(error)] == 1:
                log.warning("Row %s failed, the first with this kind of error: %s", row.place, error.message)
        if known:
            if count is not None:
                count()
            return None
        asked = engine.history.ended_calls.get(index, 0) + spent.ended
        source: dict[str, Any] = {} if batch_id is None else {"batch": batch_id}
        if shares is not None:
            source[SAME_AS] = shares
        elif engine.twins is not None and spent.digest is not None:
            engine.twins.failed(row, error)
            source[DIGEST] = spent.digest  # by which the rows that wait for this one find why it failed
        line = engine.shape.failure(row, error, asked, self.took(row, spent), source)

        def stored() -> None:
            engine.tally.first_failures.note(kind_of(error), index, engine.shape.own_id(row), error.message)
            engine.history.failed_again(index, asked, self.took(row, spent), batch_id)
            if count is not None:
                count()
            else:
                engine.tally.spent(spent.took)

        return ERRORS, line, stored

    def took(self, row: Row, spent: Spent) -> Spending:
        """What all calls for a row took, in earlier runs too."""
        return self._engine.history.took.get(row.index, Spending()).plus(spent.took)

    async def _outcome(
        self, row: Row, value: dict[str, Any], model: str | None, spent: Spent
    ) -> Answer | ChatCompletionError:
        engine, request = self._engine, {"model": model} if model else {}
        named = row_named(value.get("custom_id"))
        spent.digest = named[1] if named is not None else None
        reply = reply_of(value, Call(engine.settings, request=request))
        unmade: Exception | None = None
        # To make the request again takes half of the time. Only its answer's form may need it, or what an error quotes.
        if engine.wanted.is_checked or reply.error is not None or not model or spent.digest is None:
            try:
                request, files = engine.requests.for_row(row)
                spent.digest = spent.digest or await engine.requests.digest(row, request, files, engine.wanted)
            except Exception as error:  # noqa: BLE001 - it could be made when it was sent: the answer is counted
                unmade = error
            reply = reply_of(value, Call(engine.settings, request=request))
        reply = self._priced(reply, request.get("model"))
        spent.take(reply)
        if unmade is not None and reply.error is not None:
            return reply.error
        if unmade is not None and engine.wanted.is_checked:
            raise unmade
        dialogue = dialogue_of(engine, request)
        final = dialogue.take(reply) or reply
        server_memory.learn(dialogue, engine.settings.base_url)
        if final.error is not None:
            return final.error
        warnings: list[str] = []
        took = self.took(row, spent)
        line = engine.shape.success(row, dialogue.question, final, took, warnings, spent.digest)
        engine.requests.warn(warnings, row.place)
        return Answer(*line)

    def _priced(self, reply: Reply, model: Any) -> Reply:
        """The reply with its cost: by the prices less the discount, unless the server says what it was."""
        reply = self._prices.priced(reply, model)
        if reply.cost is None or stated(usage_in(reply.body)) is not None:
            return reply
        return reply._replace(cost=reply.cost * (1 - self._engine.settings.batch_discount))


def _broken(file_id: str, why: str) -> ProtocolError:
    error = ProtocolError(f"Run the task again: file {file_id} of the batch API breaks off ({why})")
    error.broken, error.why = True, why
    return error


def _is_cut(file: IO[bytes], begin: int) -> bool:
    """Is the last line of what follows ``begin`` not a whole one? Leaves the file at its end."""
    size = file.seek(0, 2)
    last = b""
    at = max(begin, size - _TAIL)
    while size > begin:
        file.seek(at)
        last = file.read(size - at)
        if at == begin or b"\n" in last[:-1]:
            break
        at = max(begin, size - 4 * (size - at))
    file.seek(0, 2)
    line = last[:-1].rpartition(b"\n")[2]
    return bool(line.strip()) and _index_of(line) is None


def _ends_line(file: IO[bytes]) -> bool:
    file.seek(-1, 2)
    return file.read(1) == b"\n"


def _look(file: IO[bytes], rows: set[int]) -> Places:
    """Find the answers of these rows in the file."""
    offsets: dict[int, int] = {}
    strange = twice = damaged = 0
    at = file.seek(0)
    while line := file.readline(_LONGEST_LINE):
        index = _index_of(line)
        if index is None:
            damaged += not line.isspace()
        elif index not in rows:
            strange += 1
        elif index in offsets:
            twice += 1
        else:
            offsets[index] = at
        at += len(line)
    return Places(offsets, strange, twice, damaged)


def _index_of(line: bytes) -> int | None:
    """The index of the row that a line of a vendor's is for; -1 for another id, None for what is not a line."""
    try:
        value = loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    named = row_named(value.get("custom_id"))
    return -1 if named is None else named[0]


def reply_of(value: dict[str, Any], call: Call) -> Reply:
    """The line of a vendor's file as the reply that the same answer would have been to a call."""
    response = value.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    if not isinstance(response, dict) or type(status) is not int:
        return Reply(None, None, error=_unanswered(value.get("error"), call))
    body, request_id = response.get("body"), response.get("request_id")
    headers = {"x-request-id": request_id} if isinstance(request_id, str) and request_id else {}
    if body is None or isinstance(body, str):
        outcome = Response(status, headers, (body or "").encode("utf-8", "surrogatepass"))
    elif isinstance(body, dict):
        outcome = Response(status, headers, b"", None, body)
    else:
        outcome = Response(status, headers, json.dumps(body).encode())
    return with_server_words(judge(outcome, call, now=time.time()), call)


def _unanswered(error: Any, call: Call) -> ChatCompletionError:
    """The error of a row that the vendor did not get to, or has no response for."""
    found = error if isinstance(error, dict) else {}
    code, message = found.get("code"), found.get("message")
    code = call.scrub.name(code)[:64] if isinstance(code, str) else None
    if code in _UNDONE:
        return ChatCompletionError(f"Run the task again: {_UNDONE[code]}", code=code)
    said = printable(call.scrub(message[:500])) if isinstance(message, str) and message else "it does not say why"
    return ChatCompletionError(
        f"Read what the server says, then try again: the batch API has no answer: {said}", code=code
    )
