"""The batch itself: workers that take a row, ask for it, and write what came, each before it takes the next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.batch.input.feed import Feed
from airflow_chat_provider.batch.output.store import ERRORS, RESULTS, StoreError
from airflow_chat_provider.batch.output.usage import together
from airflow_chat_provider.batch.pace.caller import Caller, Hopeless
from airflow_chat_provider.batch.pace.gate import Gate, Stopped
from airflow_chat_provider.batch.pace.spent import Spent
from airflow_chat_provider.core.answer.dialogue import adrive
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.transport import server_memory
from airflow_chat_provider.transport.session import AsyncSession, call_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_chat_provider.batch.input.row import Row
    from airflow_chat_provider.batch.output.history import History
    from airflow_chat_provider.batch.output.lines import Shape
    from airflow_chat_provider.batch.output.store import Store
    from airflow_chat_provider.batch.output.tally import Tally
    from airflow_chat_provider.batch.requests import Requests
    from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings

_PROGRESS = 10.0  # seconds between two lines in the log

log = logging.getLogger(__name__)


class Speed(NamedTuple):
    """What the user allows. ``max_failures``: so many rows may fail before the batch stops."""

    max_concurrency: int = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_failures: float = float("inf")


class Engine:
    """Runs a batch once. ``error`` is what ended it before all rows were asked for; what came is in the store."""

    def __init__(
        self,
        *,
        batch_id: str,
        settings: Settings,
        requests: Requests,
        wanted: Wanted,
        shape: Shape,
        store: Store,
        history: History,
        tally: Tally,
        speed: Speed,
    ) -> None:
        self.error: Exception | None = None
        self._batch_id = batch_id
        self._settings = settings
        self._requests = requests
        self._wanted = wanted
        self._shape = shape
        self._store = store
        self._history = history
        self._tally = tally
        self._speed = speed

    async def run(self, rows: Iterator[Row]) -> None:
        """Ask for every row. Cancelling it keeps what has come."""
        speed = self._speed
        self._gate = Gate(speed.max_concurrency, speed.requests_per_minute, speed.tokens_per_minute)
        session, feed = AsyncSession(self._settings), Feed(rows)
        self._caller = Caller(session, self._gate, self._settings)
        left = self._tally.total - self._tally.came.succeeded
        workers = [asyncio.create_task(self._work(feed)) for _ in range(min(speed.max_concurrency, left))]
        reporter = asyncio.create_task(self._report())
        try:
            await asyncio.gather(*workers)
        finally:
            self._gate.stop()
            for task in (reporter, *workers):
                task.cancel()
            await asyncio.gather(reporter, *workers, return_exceptions=True)
            await self._flush()
            await session.aclose()
            feed.close()

    async def _flush(self) -> None:
        try:
            await self._store.flush()
        except StoreError:
            pass  # it is the store's error
        except Exception as error:  # noqa: BLE001 - what ended the batch says more
            self.error = self.error or error
        self.error = self._store.error or self.error  # it says where answers are that were paid for

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS)
            log.info("Batch: %s, %d at once", self._tally.progress(time.monotonic()), self._gate.concurrency.limit)

    async def _work(self, feed: Feed) -> None:
        try:
            while not self._gate.stopped and (row := await feed.take()) is not None:
                await self._row(row)
        except Stopped:
            pass
        except Hopeless as hopeless:
            self._end(hopeless.error)
        except Exception as error:  # noqa: BLE001 - of no row; the others' answers are waited for before it is raised
            self._end(error)

    def _end(self, error: Exception | None = None) -> None:
        """Send nothing more; what is under way is waited for."""
        self.error = self.error or error
        self._gate.stop()

    async def _row(self, row: Row) -> None:
        spent = Spent()
        try:
            outcome = await self._outcome(row, spent)
        except (Stopped, Hopeless, asyncio.CancelledError):
            # A line is the store's as soon as it is given, even where this wait for it is cancelled once more.
            if (error := spent.unfinished()) is not None:
                await self._failed(row, error, spent)
            raise
        if isinstance(outcome, ChatCompletionError):
            await self._failed(row, outcome, spent)
            return
        line, reason = outcome
        stored = self._tally.success(spent.usage, incomplete=reason is not None)
        await self._write(RESULTS, line, lambda: self._have(row, stored))

    async def _outcome(self, row: Row, spent: Spent) -> tuple[bytes, str | None] | ChatCompletionError:
        """The row's line and why it is incomplete, if it is; or its error, whatever it was that went wrong."""
        try:
            dialogue = server_memory.begin(self._requests.of(row), self._wanted, self._settings)
            reply = await self._ask(row, dialogue, spent)
            server_memory.learn(dialogue, self._settings.base_url)
            if reply.error is not None:
                return reply.error
            return self._line(row, dialogue.question, reply, spent)
        except (Stopped, Hopeless):
            raise
        except Exception as error:  # noqa: BLE001 - of this row alone: a request that cannot be made, a hostile answer
            return spent.failure(row, error)

    def _line(self, row: Row, request: dict[str, Any], reply: Reply, spent: Spent) -> tuple[bytes, str | None]:
        told: list[str] = []
        line = self._shape.success(row, request, reply, self._usage(row, spent), told)
        self._tally.doubt(row.place, told)
        return line

    async def _ask(self, row: Row, dialogue: Dialogue, spent: Spent) -> Reply:
        key = f"{self._batch_id}-{row.index}-{self._history.asked.get(row.index, 0)}"

        async def send(dialogue: Dialogue) -> Reply:
            request, number = dialogue.request, dialogue.call
            call = call_for(request, self._settings)
            return await self._caller.reply(call, request, key if number == 1 else f"{key}-{number}", spent)

        return await adrive(dialogue, send)

    def _usage(self, row: Row, spent: Spent) -> Any:
        """What the row took in all, earlier tries included."""
        return together(self._history.usage.get(row.index), spent.usage)

    def _have(self, row: Row, stored: Callable[[], None]) -> None:
        self._history.done[row.index] = 1
        stored()

    async def _failed(self, row: Row, error: ChatCompletionError, spent: Spent) -> None:
        asked = self._history.asked.get(row.index, 0) + spent.ended
        line = self._shape.failure(row, error, asked, self._usage(row, spent))
        stored = self._tally.failure(error, spent.usage)
        if self._tally.came.failed[self._tally.kind(error)] == 1:
            log.warning("Row %s failed, the first one of its kind: %s", row.place, error.message)
        await self._write(ERRORS, line, stored)
        if self._tally.failures > self._speed.max_failures:
            self._end()

    async def _write(self, kind: str, line: bytes, stored: Callable[[], None]) -> None:
        await self._store.write(kind, line, stored)
        if self._store.full:
            self._end(
                StoreError(f"Make room and run the task again, it goes on from here: {self._store.where(kind)} is full")
            )
