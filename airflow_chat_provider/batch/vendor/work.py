"""The work of a batch that goes through a vendor's batch API: whatever can be done now, and what is then waited for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.batch.caller import Hopeless, Spent
from airflow_chat_provider.batch.feed import Feed
from airflow_chat_provider.batch.files import StoreError
from airflow_chat_provider.batch.orders import JOBS, Wait
from airflow_chat_provider.batch.output.store import ERRORS, IDENTITY, RESULTS
from airflow_chat_provider.batch.purse import Purse
from airflow_chat_provider.batch.reuse import Answer
from airflow_chat_provider.batch.twins import PutOff, Shared
from airflow_chat_provider.batch.vendor.answers import Answers
from airflow_chat_provider.batch.vendor.cutting import RequestFile, call_of, request_line
from airflow_chat_provider.core.cost.budget import NOTHING, Amount, Budget, Limits
from airflow_chat_provider.core.errors import BudgetExceeded, ChatCompletionError, StatusError
from airflow_chat_provider.core.spelling import plural
from airflow_chat_provider.transport.batch_api import BatchApi, NoList, VendorBatch, is_limit, may_have_begun
from airflow_chat_provider.transport.batch_watch import first_wait, pause, watch
from airflow_chat_provider.transport.price_list import PriceList

if TYPE_CHECKING:
    from airflow_chat_provider.batch.engine import Engine
    from airflow_chat_provider.batch.input import Row, Source
    from airflow_chat_provider.batch.orders import Order, Orders
    from airflow_chat_provider.core.call.steps import Call

_CANCELS = 3.0  # seconds that a task which is being ended has for cancelling what is under way
_LONGEST_HOLD = 86_400.0  # seconds for which a vendor may have no room for an order

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Terms:
    """How the operator wants it. ``expires``: when the task's time is over, in epoch seconds.

    ``continuing``: this goes on with a try that waited. ``timed_out``: the task's time is over while it waited.
    """

    completion_window: str
    cancel_on_kill: bool
    deferrable: bool
    expires: float | None = None
    continuing: bool = False
    timed_out: bool = False


@dataclass(eq=False)
class Work:
    """One stretch of work, from ``run`` to the next wait (then ``waits`` says for what) or to the end of the batch."""

    engine: Engine
    source: Source
    orders: Orders
    terms: Terms
    show: Callable[[], None] | None = None
    waits: Wait | None = None

    async def run(self) -> None:
        """Do what can be done now. What comes until it is cancelled, or until it fails, is kept."""
        self._api = BatchApi(self.engine.settings)
        self._answers = Answers(self.engine, self.source, self._api)
        self._purse = Purse.of(self.engine.settings, PriceList(self.engine.settings), self.engine.tally.usage)
        self._stuck: set[int] = set()
        self._full = False
        try:
            await self._go()
        except Hopeless as hopeless:
            self._fail(hopeless.error)
        except asyncio.CancelledError:
            await self._cancel_all()
            raise
        finally:
            await self._flush()
            await self._api.aclose()

    async def _go(self) -> None:
        await self._cancel_dropped()
        self._forget_unsent()
        while True:
            await self._settle()
            if self.terms.timed_out:
                await self._cancel_all()
                raise exceptions.AirflowTaskTimeout(
                    "Raise execution_timeout: it ran out while the batch API was at work. The next try fetches what "
                    "it has answered"
                )
            if not self._is_planned and not any(order.status in ("cancelling", "canceling") for order in self._running):
                await self._plan()
            await self._start_all()
            wait = self._wait()
            if wait is None and self.engine.error is None:
                await self._give_to_twins()
            if wait is None or self.terms.deferrable:
                self._keep_counts()
                self.waits = wait
                return
            await watch(self.engine.settings, wait.batches, log, any_one=wait.any_one, at_most=wait.at_most)

    # How far this try is, in the folder

    @property
    def _is_planned(self) -> bool:
        """Has this try made its orders?"""
        return self.orders.plan.get("planned") is True

    def _keep_counts(self) -> None:
        """Keep what this try has counted, for whoever goes on with it."""
        self.orders.plan["failed"] = dict(self.engine.tally.stored.failed)
        self.orders.plan["reasons"] = self.engine.reasons.to_dict()
        self.orders.save()

    @property
    def _running(self) -> list[Order]:
        """What the vendor works on, as far as anybody knows."""
        return [order for order in self.orders.under_way if order.number not in self._stuck]

    def _forget_unsent(self) -> None:
        """An upload that did not come to its end is repeated with the rows as they are now: files cost nothing."""
        unsent = [order for order in self.orders if order.state == "uploading"]
        if unsent:
            numbers = ", ".join(str(order.number) for order in unsent)
            log.info("Uploading again: the upload of order %s did not come to its end. This costs nothing", numbers)
            self.orders.remove(unsent)
            self.orders.save()

    # From rows to orders

    async def _plan(self) -> None:
        """Make orders of all rows that have no answer, and are in no order yet; upload and start each at once."""
        ordered = bytearray(len(self.engine.history.done))
        for order in self.orders.unfinished:
            for first, last in order.rows:
                ordered[first : last + 1] = b"\1" * len(ordered[first : last + 1])
        is_missing = self.engine.history.is_missing
        feed = Feed(self.source.rows(lambda index: is_missing(index) and not ordered[index]))
        file: RequestFile | None = None
        try:
            while (row := await feed.take()) is not None:
                taken = await self._take(row)
                if taken is None:
                    continue
                if self.engine.error is not None and not self._running:
                    return
                line, coming = taken
                if file is not None and not file.has_room(line):
                    await self._upload(file)
                    file = None
                file = file or RequestFile(self.orders.new())
                file.add(row.index, line)
                file.order.expect(*coming)
            if file is not None:
                await self._upload(file)
        finally:
            feed.close()
            if file is not None:
                file.close()
        self.orders.plan["planned"] = True
        self.orders.save()

    async def _take(self, row: Row) -> tuple[bytes, tuple[Amount, Amount]] | None:
        """The row's line in a file of requests, and what it is sure, and what it is likely, to take.

        None where it is not to be sent: it has failed, has its answer already, or waits for that of an equal request.
        """
        engine, spent = self.engine, Spent()
        try:
            request, files = engine.requests.for_row(row)
            spent.digest = digest = await engine.requests.digest(row, request, files, engine.wanted)
            if (known := engine.known(row, digest)) is None:
                call = (
                    await asyncio.to_thread(call_of, engine, row, request, files)
                    if files
                    else call_of(engine, row, request, files)
                )
                line = request_line(row, call, self._api.endpoint)
                return line, self._coming(request, call)
        except Hopeless:
            raise
        except Exception as error:  # noqa: BLE001 - this row's alone: no request can be made
            await self._write(self._answers.failed(row, spent.failure(row, error), spent))
            return None
        await self._write_known(row, known, spent)
        return None

    async def _write_known(self, row: Row, known: Answer | Shared | PutOff, spent: Spent) -> None:
        """Write the line of a row that is not asked for, if it has one."""
        if isinstance(known, Answer):
            await self.engine.store.post(*self._answers.answered(row, known, spent))
        elif isinstance(known, Shared):
            await self._write(self._answers.failed(row, known.error, spent, shares=known.by))

    async def _write(self, line: tuple[str, bytes, Callable[[], None]] | None) -> None:
        if line is not None:
            await self.engine.store.write(*line)

    async def _give_to_twins(self) -> None:
        """Give the rows that were put off what became of equal requests, now that all of those are here."""
        twins = self.engine.twins
        if twins is None:
            return
        await self.engine.store.flush()
        for kind in (RESULTS, ERRORS):
            await asyncio.to_thread(twins.look, kind)
        feed = Feed(self.source.rows(self.engine.history.is_missing))
        try:
            while (row := await feed.take()) is not None:
                spent = Spent()
                with contextlib.suppress(ChatCompletionError):  # such a row has failed before
                    request, files = self.engine.requests.for_row(row)
                    digest = await self.engine.requests.digest(row, request, files, self.engine.wanted)
                    found = twins.given(row, digest, self._answers.took(row, spent)) or twins.shared(digest)
                    if found is not None and getattr(found, "by", None) != row.index:
                        await self._write_known(row, found, spent)
        finally:
            feed.close()

    def _coming(self, request: dict[str, Any], call: Call) -> tuple[Amount, Amount]:
        """What a request is sure, and likely, to take. Raises Hopeless if its price has to be known, and is not."""
        if self._purse is None:
            return NOTHING, NOTHING
        try:
            sure, unlimited = self._purse.coming(request, call.attached)
        except ChatCompletionError as error:
            raise Hopeless(error) from None
        share = 1 - self.engine.settings.batch_discount
        likely = sure if unlimited is None else unlimited
        return sure._replace(cost=sure.cost * share), likely._replace(cost=likely.cost * share)

    async def _upload(self, file: RequestFile) -> None:
        order = file.order
        try:
            self.orders.put(order, "uploading")
            order.file = await self._api.upload(file.file, file.size, f"{self.orders.mark(order)}.jsonl")
        finally:
            file.close()
        self.orders.put(order, "uploaded")
        rows, size = plural(order.requests, "row"), file.size / 1e6
        log.info("Order %d: %s (%.1f MB) uploaded as file %s", order.number, rows, size, order.file)
        if not self._full and self.engine.error is None:
            await self._start(order)

    # Starting

    async def _start_all(self) -> None:
        for order in self.orders.unfinished:
            if order.state == "uploaded" and not self._full and self.engine.error is None:
                await self._start(order)

    async def _start(self, order: Order) -> None:
        """Start an order, if nothing speaks against it."""
        if self.engine.tally.failures > self.engine.max_failures or not self._fits_limits(order):
            return
        order.starts += 1
        self.orders.put(order, "starting")
        found = await self._tries_to_start(order)
        if isinstance(found, VendorBatch):
            self._started(order, found)
        elif is_limit(found):
            self._hold(order, found.message)
        else:
            if isinstance(found, StatusError) and found.final:
                self.orders.remove([order])  # the next try uploads its rows anew: it may be the file that is refused
            order.state = "uploaded"
            self._fail(found)

    def _fits_limits(self, order: Order) -> bool:
        """Is there enough left for an order? If there may be once others have ended, it waits for that."""
        settings, usage = self.engine.settings, self.engine.tally.usage
        limits = Limits(settings.max_total_tokens, settings.max_cost, settings.currency)
        if not limits.are_set:
            return True
        budget = Budget(limits, Amount(int(usage.sums.get("total_tokens", 0)), usage.cost or Decimal(0)))
        coming = order.sure
        try:
            budget.check(coming)  # without those under way, which may take less than is guessed
        except BudgetExceeded as error:
            how_far = self.engine.tally.how_far
            self._fail(BudgetExceeded(f"{error.message}. The batch has stopped: {how_far}", limit=error.limit))
            return False
        for other in self.orders.under_way:
            budget.reserved = budget.reserved.plus(self._likely(other, budget.spent))
        try:
            budget.check(coming)
        except BudgetExceeded as error:
            log.info("Order %d waits until others have ended: %s", order.number, error.message)
            return False
        return True

    def _likely(self, order: Order, spent: Amount) -> Amount:
        """What an order under way is likely to take: as much for each request as those before, if there are any."""
        answers = self.engine.tally.usage.calls.requests
        if not answers:
            return order.unlimited
        tokens, cost = spent.tokens * order.requests // answers, spent.cost * order.requests / answers
        return Amount(max(order.sure.tokens, tokens), max(order.sure.cost, cost))

    async def _tries_to_start(self, order: Order) -> VendorBatch | ChatCompletionError:
        """The batch that was started, or why there is none. One whose answer is lost is looked up before the next."""
        file, mark, attempt = str(order.file), self.orders.mark(order), 1
        while True:
            try:
                return await self._api.start(file, mark, self.terms.completion_window)
            except ChatCompletionError as error:
                failure = error
            if may_have_begun(failure):
                log.warning("Looking up order %d before it is started again: %s", order.number, failure.message)
                if (found := await self._look_up(order)) is not None:
                    return found
            elif is_limit(failure) or isinstance(failure, StatusError):
                return failure
            if attempt >= self.engine.settings.max_attempts:
                return failure
            await asyncio.sleep(min(60.0, first_wait(self.engine.settings) * attempt))
            attempt += 1

    def _started(self, order: Order, batch: VendorBatch) -> None:
        order.batch, order.status, order.held_since = batch.id, batch.status, None
        self.orders.put(order, "started")
        log.info("Order %d: %s started as %s", order.number, plural(order.requests, "row"), batch)

    def _hold(self, order: Order, why: str) -> None:
        """The vendor has no room for an order now."""
        self._full = True
        order.batch = order.status = None
        order.held_since = order.held_since or time.time()
        self.orders.put(order, "uploaded")
        if time.time() - order.held_since > _LONGEST_HOLD:
            error = ChatCompletionError(
                f"Raise the limit of the account, or send fewer rows: for a day the batch API had no room for order "
                f"{order.number} ({plural(order.requests, 'row')}): {why}"
            )
            self._fail(error)
            return
        log.info("Order %d waits until the batch API has room for it: %s", order.number, why)

    async def _look_up(self, order: Order) -> VendorBatch | None:
        """The vendor's batch of an order whose start nobody saw the end of; None if it was not started."""
        try:
            for _ in range(2):  # a list may lag behind
                found = await self._api.find(str(order.file), self.orders.mark(order))
                if found is not None:
                    return found
                await asyncio.sleep(min(5.0, first_wait(self.engine.settings)))
        except NoList as error:
            where, name = self.engine.store.where(IDENTITY), order.file
            raise _final(
                f"Find out from the vendor whether a batch with the file {name} was started: {error.message}, so this "
                f"task cannot. If it was, write its id as 'batch' and the state 'started' into order {order.number} of "
                f"{JOBS!r} in {where}; if not, the state 'uploaded'"
            ) from None
        return None

    # Watching and fetching

    async def _settle(self) -> None:
        """Find out how far each order is, and fetch the answers of those that have ended."""
        self._full = False
        for order in self.orders.under_way:
            if order.state == "starting":
                found = await self._look_up(order)
                if found is None:
                    self.orders.put(order, "uploaded")
                    continue
                self._started(order, found)
            batch = await self._seen(order)
            if batch is None:
                continue
            if batch.hit_limit:
                self._hold(order, "; ".join(fault.message for fault in batch.faults))
            elif batch.ended:
                await self._fetch(order, batch)

    async def _seen(self, order: Order) -> VendorBatch | None:
        """An order's batch as it is now; None if the vendor does not know it any more."""
        try:
            batch = await self._api.get(str(order.batch))
        except StatusError as error:
            if error.status not in (404, 410):
                raise
            self._stuck.add(order.number)
            self._fail(
                _final(
                    f"Find out what became of batch {order.batch}: the server no longer knows it (HTTP {error.status})"
                    f". Its {plural(order.requests, 'row')} may be paid for, so nothing asks for them again by itself. "
                    f"To do that, remove order {order.number} from {JOBS!r} in {self.engine.store.where(IDENTITY)}"
                )
            )
            return None
        if batch.status != order.status:
            order.status = batch.status
            log.info("Order %d is %s", order.number, batch)
        return batch

    async def _fetch(self, order: Order, batch: VendorBatch) -> None:
        log.info("Fetching what was answered: %s", batch)
        try:
            count = await self._answers.fetch(order, batch, counted=self._is_planned)
        except StatusError as error:
            if error.status not in (404, 410):
                raise
            self._stuck.add(order.number)
            self._fail(
                _final(
                    f"Find out what became of the files of batch {order.batch}: the server no longer has them (HTTP "
                    f"{error.status}). To ask for the rows again, remove order {order.number} from {JOBS!r} in "
                    f"{self.engine.store.where(IDENTITY)}"
                )
            )
            return
        self._keep_counts()
        self.orders.put(order, "fetched")
        log.info("Order %d: %s fetched. %s", order.number, plural(count, "line"), self._progress())
        if self.show is not None:
            self.show()
        if batch.status == "failed" and not count and self._is_planned:
            self._fail(self._refused(order, batch))

    def _refused(self, order: Order, batch: VendorBatch) -> ChatCompletionError:
        """The error of a file that the vendor did not accept."""
        said = []
        for fault in batch.faults[:3]:
            row = order.row_of(fault.line) if fault.line is not None else None
            where = "" if row is None else f" (row {row}, counted from 0)"
            said.append(f"{fault.code}: {fault.message}{where}")
        code = batch.faults[0].code if batch.faults else None
        why = "; ".join(said) or "it does not say why"
        error = ChatCompletionError(
            f"Correct what the batch API refuses in batch {batch.id}, order {order.number} with "
            f"{plural(order.requests, 'row')}: {why}",
            code=code,
        )
        error.final = True
        return error

    def _fail(self, error: ChatCompletionError) -> None:
        """Start nothing more. What is under way is still waited for, as it is paid for."""
        log.warning("%s", error.message)
        if self.engine.error is None:
            self.engine.error = error
            self.orders.keep_error(error)
        self.orders.save()

    def _wait(self) -> Wait | None:
        """What is to be waited for; None at the end."""
        running = [str(order.batch) for order in self._running]
        held = [order for order in self.orders.unfinished if order.state == "uploaded"]
        if self.engine.error is not None or self.engine.tally.failures > self.engine.max_failures:
            held = []
        if not running and not held and self._is_planned:
            return None
        if not running and self.engine.error is not None:
            return None
        names = ", ".join(running[:5]) + (", ..." if len(running) > 5 else "")
        log.info("Waiting for the batch API: %s under way (%s). %s", len(running), names, self._progress())
        at_most = pause(self.engine.settings) if held and not running else None
        return Wait(running, any_one=bool(held), at_most=at_most, expires=self.orders.plan.get("expires"))

    def _progress(self) -> str:
        came, tally = self.engine.tally.came, self.engine.tally
        return f"{came.succeeded:,} of {plural(tally.total, 'row')} answered, {tally.failures:,} failed"

    # Ending

    async def _cancel_all(self) -> None:
        """Ask the vendor to stop all that is under way, unless that is to go on."""
        names = [order.batch for order in self._running if order.batch is not None]
        if not names:
            return
        if not self.terms.cancel_on_kill:
            log.warning("Left under way at the batch API: %s. The next try fetches the answers", ", ".join(names))
            return
        await self._cancel(names)

    async def _cancel(self, names: list[str]) -> None:
        log.warning("Cancelling at the batch API: %s. What is answered is paid for, and kept", ", ".join(names))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CANCELS):
                ends = await asyncio.gather(*map(self._api.cancel, names), return_exceptions=True)
                for name, end in zip(names, ends, strict=True):
                    if isinstance(end, ChatCompletionError):
                        log.warning("Cancel batch %s at the vendor yourself: %s", name, end.message)

    async def _cancel_dropped(self) -> None:
        """Cancel what an output had under way before on_changed="restart" emptied it."""
        if self.orders.dropped:
            await self._cancel(self.orders.dropped)
            self.orders.forget_dropped()
            self.orders.save()

    async def _flush(self) -> None:
        with contextlib.suppress(StoreError):  # it is store.error, which says where answers are that were paid for
            await self.engine.store.flush()
        self.engine.error = self.engine.store.error or self.engine.error


def _final(message: str) -> ChatCompletionError:
    error = ChatCompletionError(message)
    error.final = True
    return error


def new_try(plan: dict[str, Any], expires: float | None, earlier: int) -> None:
    """Begin a try: what was kept of the one before it no longer counts."""
    plan.clear()
    plan |= {"planned": False, "began": time.time(), "earlier": earlier, "expires": expires}
