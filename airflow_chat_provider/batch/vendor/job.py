"""One stretch of a batch that goes through a vendor's batch API: a task may wait, and go on in another process."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.files import file_error
from airflow_chat_provider.batch.job import Job
from airflow_chat_provider.batch.orders import Orders
from airflow_chat_provider.batch.output.store import IDENTITY, identity_in
from airflow_chat_provider.batch.vendor.work import Terms, Work, new_try
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.core.spelling import plural

if TYPE_CHECKING:
    from airflow_chat_provider.batch.background import Background
    from airflow_chat_provider.batch.orders import Wait
    from airflow_chat_provider.batch.xcoms import XComs


@dataclass(eq=False)
class Stretch:
    """What a job that cannot be changed leaves: the work that it did."""

    work: Work | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class VendorJob(Job):
    """A job whose rows go through the batch API."""

    terms: Terms
    stretch: Stretch

    def run(self, background: Background, xcoms: XComs | None = None) -> tuple[dict[str, Any], BaseException | None]:
        store = self.engine.store
        if self.terms.continuing and identity_in(store) is None:
            why = (
                "has nothing of this batch, which waited for the batch API. Let the task go on where its output is: on "
                "the same disk, or with an output in an object store"
            )
            raise file_error("output", store.where(IDENTITY), why)
        return Job.run(self, background, xcoms)

    def _begin(self, identity: dict[str, Any]) -> None:
        engine, orders = self.engine, Orders(self.engine.store, identity)
        tally = engine.tally
        if self.terms.continuing and orders.plan:
            if "failed" in orders.plan:
                tally.stored.failed = Counter(orders.plan["failed"])
                tally.came.failed = tally.stored.failed.copy()
            engine.reasons.restore(orders.plan.get("reasons"))
            engine.error = orders.error
            tally.earlier = orders.plan.get("earlier", 0)
            tally.began = time.monotonic() - max(0.0, time.time() - orders.plan.get("began", time.time()))
        else:
            new_try(orders.plan, self.terms.expires, tally.earlier)
        self.stretch.work = Work(engine, self.source, orders, self.terms)

    def _work(
        self,
        batch_id: str,  # noqa: ARG002 - the orders have it
        show: Callable[[], None] | None,
    ) -> Coroutine[Any, Any, None]:
        work = self.stretch.work
        if work is None:
            raise RuntimeError("a job begins before it works")
        work.show = show
        return work.run()

    @property
    def waits(self) -> Wait | None:
        work = self.stretch.work
        return None if work is None else work.waits

    def _shortfall(self) -> ChatCompletionError | None:
        tally = self.engine.tally
        if tally.failures <= self.engine.max_failures and tally.missing:
            return ChatCompletionError(
                f"Run the task again: the batch API has no answer for {plural(tally.missing, 'row')} of "
                f"{self.source.name}. Another try asks only for these"
            )
        return Job._shortfall(self)  # noqa: SLF001 - its own: super() fails in a dataclass with slots
