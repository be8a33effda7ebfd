"""The batch itself: workers, each of which takes a row, makes its calls and writes its line, then takes the next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_chat_provider.batch.caller import Caller, Hopeless, Spent
from airflow_chat_provider.batch.feed import Feed
from airflow_chat_provider.batch.files import StoreError
from airflow_chat_provider.batch.output.store import ERRORS, RESULTS
from airflow_chat_provider.batch.pace import Gate, Stopped
from airflow_chat_provider.batch.purse import Purse
from airflow_chat_provider.batch.reasons import Reasons
from airflow_chat_provider.core.answer.dialogue import adrive
from airflow_chat_provider.core.answer.usage import Spending
from airflow_chat_provider.core.errors import BudgetExceeded, ChatCompletionError, kind_of
from airflow_chat_provider.transport import server_memory
from airflow_chat_provider.transport.session import AsyncSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_chat_provider.batch.input import Row
    from airflow_chat_provider.batch.output.history import History
    from airflow_chat_provider.batch.output.lines import Shape
    from airflow_chat_provider.batch.output.store import Store
    from airflow_chat_provider.batch.output.tally import Tally
    from airflow_chat_provider.batch.requests import Requests
    from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.request.attachments import Attachments

_PROGRESS = 10.0  # seconds between two lines in the log
_RENEWED = 30.0  # seconds after which the XCom `progress` is renewed

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class Engine:
    """Runs a batch once. ``error`` is why it ended before all rows were done; what came until then is in the store.

    The batch stops once more than ``max_failures`` rows have failed.
    """

    settings: Settings
    requests: Requests
    wanted: Wanted
    shape: Shape
    store: Store
    history: History
    tally: Tally
    max_concurrency: int
    requests_per_minute: float | None
    tokens_per_minute: float | None
    max_failures: float
    error: Exception | None = field(default=None, init=False)
    reasons: Reasons = field(default_factory=Reasons, init=False)

    async def run(self, batch_id: str, rows: Iterator[Row], show: Callable[[], None] | None = None) -> None:
        """Make the calls for all ``rows``. If it is cancelled, what has come is kept.

        ``show`` is called every half minute, to let others see how far the batch is; it must not block.
        """
        self._batch_id = batch_id
        self._gate = Gate(self.max_concurrency, self.requests_per_minute, self.tokens_per_minute)
        session, feed = AsyncSession(self.settings), Feed(rows)
        purse = Purse.of(self.settings, session.prices, self.tally.usage)
        self._caller = Caller(session, self._gate, self.settings, purse)
        left = self.tally.total - self.tally.came.succeeded
        workers = [asyncio.create_task(self._work(feed)) for _ in range(min(self.max_concurrency, left))]
        reporters = [asyncio.create_task(self._report())]
        if show is not None:
            reporters.append(asyncio.create_task(_every(_RENEWED, show)))
        try:
            await asyncio.gather(*workers)
        finally:
            self._gate.stop()
            for task in (*reporters, *workers):
                task.cancel()
            await asyncio.gather(*reporters, *workers, return_exceptions=True)
            await self._flush()
            if purse is not None and isinstance(self.error, BudgetExceeded):
                self.error = purse.error(self.tally.how_far) or self.error  # calls under way have ended since
            self._caller.flush_metrics()
            await session.aclose()
            feed.close()

    async def _flush(self) -> None:
        try:
            await self.store.flush()
        except StoreError:
            pass  # it is store.error
        except Exception as error:  # noqa: BLE001 - an earlier error, which ended the batch, says more
            self.error = self.error or error
        self.error = self.store.error or self.error  # the store's says where answers are that were paid for

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS)
            self._caller.flush_metrics()
            log.info("Batch: %s, %d at once", self.tally.progress(time.monotonic()), self._gate.concurrency.limit)

    async def _work(self, feed: Feed) -> None:
        try:
            while not self._gate.stopped and (row := await feed.take()) is not None:
                await self._row(row)
        except Stopped:
            pass
        except Hopeless as hopeless:
            self._end(hopeless.error)
        except Exception as error:  # noqa: BLE001 - no row's fault; it is raised when the others' answers are here
            self._end(error)

    def _end(self, error: Exception | None = None) -> None:
        """Send nothing more. The batch ends when the calls under way have ended."""
        self.error = self.error or error
        self._gate.stop()

    async def _row(self, row: Row) -> None:
        spent = Spent()
        try:
            outcome = await self._outcome(row, spent)
        except (Stopped, Hopeless, asyncio.CancelledError):
            # The store takes the line at once: it is written even if this wait for it is cancelled again.
            if (error := spent.unfinished()) is not None:
                await self._failed(row, error, spent)
            raise
        if isinstance(outcome, ChatCompletionError):
            await self._failed(row, outcome, spent)
            return
        line, reason = outcome
        count = self.tally.success(spent.took, incomplete=reason is not None)

        def stored() -> None:
            self.history.done[row.index] = 1
            self.tally.first_failures.forget(row.index)
            count()

        await self._write(RESULTS, line, stored)

    async def _outcome(self, row: Row, spent: Spent) -> tuple[bytes, str | None] | ChatCompletionError:
        """The row's line and why its answer is incomplete (None: it is complete); or its error, whatever went wrong."""
        try:
            request, files = self.requests.for_row(row)
            dialogue = server_memory.begin(request, self.wanted, self.settings)
            reply = await self._drive(row, dialogue, files, spent)
            server_memory.learn(dialogue, self.settings.base_url)
            if reply.error is not None:
                return reply.error
            warnings: list[str] = []
            line = self.shape.success(row, dialogue.question, reply, self._took(row, spent), warnings)
            self.requests.warn(warnings, row.place)
        except (Stopped, Hopeless):
            raise
        except Exception as error:  # noqa: BLE001 - this row's alone: no request can be made, or a hostile answer
            return spent.failure(row, error)
        else:
            return line

    async def _drive(self, row: Row, dialogue: Dialogue, files: Attachments, spent: Spent) -> Reply:
        """All calls for a row. Each has an idempotency key that is the same if an earlier run did not see its end."""
        key = f"{self._batch_id}-{row.index}-{self.history.ended_calls.get(row.index, 0)}"

        async def send(dialogue: Dialogue) -> Reply:
            request = dialogue.request
            own_key = key if dialogue.call == 1 else f"{key}-{dialogue.call}"
            call = await self.requests.call(row, request, files)
            return await self._caller.call(call, request, own_key, spent)

        return await adrive(dialogue, send)

    def _took(self, row: Row, spent: Spent) -> Spending:
        """What all calls for the row took, in earlier runs too."""
        return self.history.took.get(row.index, Spending()).plus(spent.took)

    async def _failed(self, row: Row, error: ChatCompletionError, spent: Spent) -> None:
        ended = self.history.ended_calls.get(row.index, 0) + spent.ended
        line = self.shape.failure(row, error, ended, self._took(row, spent))
        count, kind = self.tally.failure(error, spent.took), kind_of(error)
        self.reasons.note(error, row.place)
        if self.tally.came.failed[kind] == 1:
            log.warning("Row %s failed, the first with this kind of error: %s", row.place, error.message)

        def stored() -> None:
            self.tally.first_failures.note(kind, row.index, self.shape.own_id(row), error.message)
            count()

        await self._write(ERRORS, line, stored)
        if self.tally.failures > self.max_failures:
            self._end()

    async def _write(self, kind: str, line: bytes, stored: Callable[[], None]) -> None:
        await self.store.write(kind, line, stored)
        if self.store.full:
            self._end(StoreError(f"Make room, then run the task again: the disk of {self.store.where(kind)} is full"))


async def _every(seconds: float, do: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        do()
