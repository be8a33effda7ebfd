"""The work of a batch that goes through a vendor's batch API: whatever can be done now, and what is then waited for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.batch.caller import Hopeless
from airflow_chat_provider.batch.files import StoreError
from airflow_chat_provider.batch.orders import JOBS, Wait
from airflow_chat_provider.batch.output.store import IDENTITY
from airflow_chat_provider.batch.purse import Purse
from airflow_chat_provider.batch.vendor.answers import Answers
from airflow_chat_provider.batch.vendor.planning import Planner
from airflow_chat_provider.batch.vendor.starting import Starter, final
from airflow_chat_provider.core.errors import ChatCompletionError, StatusError
from airflow_chat_provider.core.server.scrub import Scrubber
from airflow_chat_provider.core.spelling import plural
from airflow_chat_provider.transport.batch_api import BatchApi, VendorBatch
from airflow_chat_provider.transport.batch_watch import pause, watch
from airflow_chat_provider.transport.price_list import PriceList

if TYPE_CHECKING:
    from airflow_chat_provider.batch.engine import Engine
    from airflow_chat_provider.batch.input import Source
    from airflow_chat_provider.batch.orders import Order, Orders

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
        self._stuck: set[int] = set()
        prices = PriceList(self.engine.settings)
        self._starter = Starter(self.engine, self.orders, self._api, self.terms.completion_window, prices)
        purse = Purse.of(self.engine.settings, prices, self.engine.tally.usage)
        self._planner = Planner(self.engine, self.source, self.orders, self._api, self._answers, self._starter, purse)
        try:
            await self._go()
        except Hopeless as hopeless:
            self._starter.fail(hopeless.error)
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
                self.orders.plan["planned"] = await self._planner.plan()
                self.orders.save()
            await self._start_all()
            wait = self._wait()
            if wait is None and self.engine.error is None:
                await self._planner.give_to_twins()
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

    # Starting

    async def _start_all(self) -> None:
        for order in self.orders.unfinished:
            if order.state == "uploaded" and self._starter.may_start:
                await self._starter.start(order)

    # Watching and fetching

    async def _settle(self) -> None:
        """Find out how far each order is, and fetch the answers of those that have ended."""
        self._starter.full = False
        for order in self.orders.under_way:
            if order.state == "starting":
                found = await self._starter.look_up(order)
                if found is None:
                    self.orders.put(order, "uploaded")
                    continue
                self._starter.started(order, found)
            batch = await self._seen(order)
            if batch is None:
                continue
            if batch.hit_limit:
                self._starter.hold(order, "; ".join(fault.message for fault in batch.faults))
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
            self._starter.fail(
                final(
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
            self._starter.fail(
                final(
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
            self._starter.fail(await asyncio.to_thread(self._refused, order, batch))

    def _refused(self, order: Order, batch: VendorBatch) -> ChatCompletionError:
        """The error of a file that the vendor did not accept. It quotes nothing of the row that the vendor means."""
        said = []
        for fault in batch.faults[:3]:
            row = order.row_of(fault.line) if fault.line is not None else None
            where = "" if row is None else f" (row {row}, counted from 0)"
            words = self._scrub(next(order.indices()) if row is None else row)(fault.message)
            said.append(f"{fault.code}: {words}{where}")
        code = batch.faults[0].code if batch.faults else None
        why = "; ".join(said) or "it does not say why"
        error = ChatCompletionError(
            f"Correct what the batch API refuses in batch {batch.id}, order {order.number} with "
            f"{plural(order.requests, 'row')}: {why}",
            code=code,
        )
        error.final = True
        return error

    def _scrub(self, index: int) -> Scrubber:
        """Blanks what a text quotes of a row's request, which is made again for this, and secrets."""
        rows, request = self.source.rows(lambda one: one == index), None
        with contextlib.suppress(Exception):  # it cannot be made any more
            request, _ = self.engine.requests.for_row(next(iter(rows)))
        return Scrubber(request, self.engine.settings.secrets)

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


def new_try(plan: dict[str, Any], expires: float | None, earlier: int) -> None:
    """Begin a try: what was kept of the one before it no longer counts."""
    plan.clear()
    plan |= {"planned": False, "began": time.time(), "earlier": earlier, "expires": expires}
