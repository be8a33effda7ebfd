"""The batch itself: workers, each of which takes a row, makes its calls and writes its line, then takes the next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.caller import Caller, Hopeless, Spent
from airflow_chat_provider.batch.feed import Feed
from airflow_chat_provider.batch.files import StoreError
from airflow_chat_provider.batch.output.lines import DIGEST, SAME_AS
from airflow_chat_provider.batch.output.store import ERRORS, RESULTS
from airflow_chat_provider.batch.pace import Gate, Stopped
from airflow_chat_provider.batch.purse import Purse
from airflow_chat_provider.batch.reasons import Reasons
from airflow_chat_provider.batch.reuse import Answer
from airflow_chat_provider.batch.twins import PutOff, Shared
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
    from airflow_chat_provider.batch.probes import Probes, RowsOf
    from airflow_chat_provider.batch.requests import Requests
    from airflow_chat_provider.batch.reuse import Reuse
    from airflow_chat_provider.batch.twins import Twins
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

    The batch stops once more than ``max_failures`` rows have failed. ``reuse`` has what earlier batches answered;
    ``twins`` puts off rows whose request is that of another row; ``probes`` says in which order rows are taken.
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
    reuse: Reuse | None = None
    twins: Twins | None = None
    probes: Probes | None = None
    error: Exception | None = field(default=None, init=False)
    reasons: Reasons = field(default_factory=Reasons, init=False)

    def look_back(self) -> None:
        """Read which requests are answered, in earlier batches and in this one. Raises ChatCompletionError."""
        if self.reuse is not None:
            self.reuse.load()
        if self.twins is not None and self.tally.stored.succeeded:
            self.twins.look(RESULTS)

    def close(self) -> None:
        """Close what ``look_back`` has opened."""
        for one in (self.reuse, self.twins):
            if one is not None:
                one.close()

    async def run(
        self,
        batch_id: str,
        rows: RowsOf,
        show: Callable[[], None] | None = None,
    ) -> None:
        """Make the calls for all rows without a result. If it is cancelled, what has come is kept.

        ``rows`` reads the rows whose index is wanted. ``show`` is called every half minute, to let others see how far
        the batch is; it must not block.
        """
        self._batch_id = batch_id
        self._gate = Gate(self.max_concurrency, self.requests_per_minute, self.tokens_per_minute)
        session = AsyncSession(self.settings)
        purse = Purse.of(self.settings, session.prices, self.tally.usage)
        self._caller = Caller(session, self._gate, self.settings, purse)
        reporters = [asyncio.create_task(self._report())]
        if show is not None:
            reporters.append(asyncio.create_task(_every(_RENEWED, show)))
        try:
            missing = self.history.is_missing
            await self._through(rows(missing) if self.probes is None else self.probes.in_order(rows, missing))
            await self._second_pass(rows)
        finally:
            self._gate.stop()
            for task in reporters:
                task.cancel()
            await asyncio.gather(*reporters, return_exceptions=True)
            await self._flush()
            if purse is not None and isinstance(self.error, BudgetExceeded):
                self.error = purse.error(self.tally.how_far) or self.error  # calls under way have ended since
            self._caller.flush_metrics()
            await session.aclose()

    async def _through(self, rows: Iterator[Row]) -> None:
        """Work through rows, until they end or the gate is stopped."""
        feed, left = Feed(rows), self.tally.total - self.tally.came.succeeded
        workers = [asyncio.create_task(self._work(feed)) for _ in range(min(self.max_concurrency, left))]
        try:
            await asyncio.gather(*workers)
        except BaseException:
            self._gate.stop()
            raise
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            feed.close()

    async def _second_pass(self, rows: RowsOf) -> None:
        """Work through the rows that were put off, now that equal requests are answered, or have failed."""
        twins = self.twins
        if twins is None or not twins.count or self._gate.stopped:
            return
        await self._flush()
        if self.error is not None:
            return
        for kind in (RESULTS, ERRORS):
            await asyncio.to_thread(twins.look, kind)
        await self._through(rows(twins.is_waiting))

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
        elif isinstance(outcome, Shared):
            await self._failed(row, outcome.error, spent, {SAME_AS: outcome.by})
        elif isinstance(outcome, Answer):
            await self._succeeded(row, outcome, spent)

    async def _succeeded(self, row: Row, answer: Answer, spent: Spent) -> None:
        count = self.tally.success(spent.took, incomplete=answer.incomplete is not None, source=answer.source)

        def stored() -> None:
            self.history.done[row.index] = 1
            self.tally.first_failures.forget(row.index)
            count()

        await self._write(RESULTS, answer.line, stored, wait=answer.source is None)

    async def _outcome(self, row: Row, spent: Spent) -> Answer | Shared | PutOff | ChatCompletionError:
        """The row's line; or its error, whatever went wrong."""
        try:
            request, files = self.requests.for_row(row)
            spent.digest = digest = await self.requests.digest(row, request, files, self.wanted)
            if (known := self.known(row, digest)) is not None:
                return known
            if self.probes is not None:
                self.probes.asked(row.index)
            dialogue = server_memory.begin(request, self.wanted, self.settings)
            reply = await self._drive(row, dialogue, files, spent)
            server_memory.learn(dialogue, self.settings.base_url)
            if reply.error is not None:
                return reply.error
            warnings: list[str] = []
            line = self.shape.success(row, dialogue.question, reply, self._took(row, spent), warnings, digest)
            self.requests.warn(warnings, row.place)
        except (Stopped, Hopeless):
            raise
        except Exception as error:  # noqa: BLE001 - this row's alone: no request can be made, or a hostile answer
            return spent.failure(row, error)
        else:
            return Answer(*line)

    def known(self, row: Row, digest: str) -> Answer | Shared | PutOff | None:
        """What becomes of the row without asking for it; None if it has to be asked for."""
        twins = self.twins
        if self.reuse is None and twins is None:
            return None
        took = self._took(row, Spent())
        try:
            found = self.reuse.given(row, digest, took) if self.reuse is not None else None
            if found is not None or twins is None:
                return found
            if (found := twins.given(row, digest, took)) is not None:
                return found
            if twins.is_waiting(row.index):
                return twins.shared(digest)
            return PutOff() if twins.must_wait(row, digest) else None
        except ChatCompletionError as error:  # a folder cannot be read any more
            raise Hopeless(error) from None

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

    async def _failed(
        self, row: Row, error: ChatCompletionError, spent: Spent, source: dict[str, Any] | None = None
    ) -> None:
        ended = self.history.ended_calls.get(row.index, 0) + spent.ended
        if self.twins is not None and source is None and spent.digest is not None:
            self.twins.failed(row, error)
            source = {DIGEST: spent.digest}  # by which the rows that wait for this one find why it failed
        line = self.shape.failure(row, error, ended, self._took(row, spent), source)
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

    async def _write(self, kind: str, line: bytes, stored: Callable[[], None], *, wait: bool = True) -> None:
        await (self.store.write if wait else self.store.post)(kind, line, stored)
        if self.store.full:
            self._end(StoreError(f"Make room, then run the task again: the disk of {self.store.where(kind)} is full"))


async def _every(seconds: float, do: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        do()
