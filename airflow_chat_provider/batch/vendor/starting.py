"""How orders are started: once, whatever is lost on the way, and only if limits and the vendor leave room for them."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_chat_provider.batch.orders import JOBS
from airflow_chat_provider.batch.output.store import IDENTITY
from airflow_chat_provider.batch.purse import spent_in
from airflow_chat_provider.core.cost.budget import Amount, Budget, Limits
from airflow_chat_provider.core.errors import BudgetExceeded, ChatCompletionError, StatusError
from airflow_chat_provider.core.spelling import plural
from airflow_chat_provider.transport.batch_api import NoList, VendorBatch, is_limit, may_have_begun
from airflow_chat_provider.transport.batch_watch import first_wait

if TYPE_CHECKING:
    from airflow_chat_provider.batch.engine import Engine
    from airflow_chat_provider.batch.orders import Order, Orders
    from airflow_chat_provider.transport.batch_api import BatchApi
    from airflow_chat_provider.transport.price_list import PriceList

_LONGEST_HOLD = 86_400.0  # seconds for which a vendor may have no room for an order

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Starter:
    """Starts orders. ``full``: the vendor has no room for another one now."""

    engine: Engine
    orders: Orders
    api: BatchApi
    completion_window: str
    prices: PriceList
    full: bool = False

    @property
    def may_start(self) -> bool:
        """Does nothing speak against starting another order?"""
        return not self.full and self.engine.error is None

    async def start(self, order: Order) -> None:
        """Start an order, if nothing speaks against it."""
        if self.engine.tally.failures > self.engine.max_failures or not self._fits_limits(order):
            return
        order.starts += 1
        self.orders.put(order, "starting")
        found = await self._tries_to_start(order)
        if isinstance(found, VendorBatch):
            self.started(order, found)
        elif is_limit(found):
            self.hold(order, found.message)
        else:
            if isinstance(found, StatusError) and found.final:
                self.orders.remove([order])  # the next try uploads its rows anew: it may be the file that is refused
            order.state = "uploaded"
            self.fail(found)

    def _fits_limits(self, order: Order) -> bool:
        """Is there enough left for an order? If there may be once others have ended, it waits for that."""
        settings, usage = self.engine.settings, self.engine.tally.usage
        limits = Limits(settings.max_total_tokens, settings.max_cost, settings.currency)
        if not limits.are_set:
            return True
        budget = Budget(limits, spent_in(usage, settings, self.prices))
        coming = order.sure
        try:
            budget.check(coming)  # without those under way, which may take less than is guessed
        except BudgetExceeded as error:
            how_far = self.engine.tally.how_far
            self.fail(BudgetExceeded(f"{error.message}. The batch has stopped: {how_far}", limit=error.limit))
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
                return await self.api.start(file, mark, self.completion_window)
            except ChatCompletionError as error:
                failure = error
            if may_have_begun(failure):
                log.warning("Looking up order %d before it is started again: %s", order.number, failure.message)
                if (found := await self.look_up(order)) is not None:
                    return found
            elif is_limit(failure) or isinstance(failure, StatusError):
                return failure
            if attempt >= self.engine.settings.max_attempts:
                return failure
            await asyncio.sleep(min(60.0, first_wait(self.engine.settings) * attempt))
            attempt += 1

    def started(self, order: Order, batch: VendorBatch) -> None:
        order.batch, order.status, order.held_since = batch.id, batch.status, None
        self.orders.put(order, "started")
        log.info("Order %d: %s started as %s", order.number, plural(order.requests, "row"), batch)

    def hold(self, order: Order, why: str) -> None:
        """The vendor has no room for an order now."""
        self.full = True
        order.batch = order.status = None
        order.held_since = order.held_since or time.time()
        self.orders.put(order, "uploaded")
        if time.time() - order.held_since > _LONGEST_HOLD:
            error = ChatCompletionError(
                f"Raise the limit of the account, or send fewer rows: for a day the batch API had no room for order "
                f"{order.number} ({plural(order.requests, 'row')}): {why}"
            )
            self.fail(error)
            return
        log.info("Order %d waits until the batch API has room for it: %s", order.number, why)

    async def look_up(self, order: Order) -> VendorBatch | None:
        """The vendor's batch of an order whose start nobody saw the end of; None if it was not started."""
        try:
            for _ in range(2):  # a list may lag behind
                found = await self.api.find(str(order.file), self.orders.mark(order))
                if found is not None:
                    return found
                await asyncio.sleep(min(5.0, first_wait(self.engine.settings)))
        except NoList as error:
            where, name = self.engine.store.where(IDENTITY), order.file
            raise final(
                f"Find out from the vendor whether a batch with the file {name} was started: {error.message}, so this "
                f"task cannot. If it was, write its id as 'batch' and the state 'started' into order {order.number} of "
                f"{JOBS!r} in {where}; if not, the state 'uploaded'"
            ) from None
        return None

    def fail(self, error: ChatCompletionError) -> None:
        """Start nothing more. What is under way is still waited for, as it is paid for."""
        log.warning("%s", error.message)
        if self.engine.error is None:
            self.engine.error = error
            self.orders.keep_error(error)
        self.orders.save()


def final(message: str) -> ChatCompletionError:
    """An error that another try would meet again, until somebody decides."""
    error = ChatCompletionError(message)
    error.final = True
    return error
