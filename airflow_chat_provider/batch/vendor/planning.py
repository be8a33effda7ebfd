"""From rows to orders: files of requests, uploaded. Rows that need no request are seen to at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.caller import Hopeless, Spent
from airflow_chat_provider.batch.feed import Feed
from airflow_chat_provider.batch.output.store import ERRORS, RESULTS
from airflow_chat_provider.batch.reuse import Answer
from airflow_chat_provider.batch.twins import PutOff, Shared
from airflow_chat_provider.batch.vendor.cutting import RequestFile, call_of, request_line
from airflow_chat_provider.core.cost.budget import NOTHING, Amount
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.core.spelling import plural

if TYPE_CHECKING:
    from airflow_chat_provider.batch.engine import Engine
    from airflow_chat_provider.batch.input import Row, Source
    from airflow_chat_provider.batch.orders import Orders
    from airflow_chat_provider.batch.purse import Purse
    from airflow_chat_provider.batch.vendor.answers import Answers
    from airflow_chat_provider.batch.vendor.starting import Starter
    from airflow_chat_provider.core.call.steps import Call
    from airflow_chat_provider.transport.batch_api import BatchApi

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Planner:
    """Makes the orders of a try. ``purse`` guesses what requests take, where there are limits."""

    engine: Engine
    source: Source
    orders: Orders
    api: BatchApi
    answers: Answers
    starter: Starter
    purse: Purse | None

    async def plan(self) -> bool:
        """Make orders of all rows that have no answer, and are in no order yet; upload and start each at once.

        False if it was given up, because nothing can be started and nothing is under way.
        """
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
                if self.engine.error is not None and not self.orders.under_way:
                    return False
                line, model, coming = taken
                if file is not None and not file.has_room(line):
                    await self._upload(file)
                    file = None
                file = file or RequestFile(self.orders.new())
                file.add(row.index, line, model)
                file.order.expect(*coming)
            if file is not None:
                await self._upload(file)
        finally:
            feed.close()
            if file is not None:
                file.close()
        return True

    async def _take(self, row: Row) -> tuple[bytes, Any, tuple[Amount, Amount]] | None:
        """The row's line in a file of requests, its model, and what it is sure, and what it is likely, to take.

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
                line = request_line(row, digest, call, self.api.endpoint)
                return line, request.get("model"), self._coming(request, call)
        except Hopeless:
            raise
        except Exception as error:  # noqa: BLE001 - this row's alone: no request can be made
            await self._write(self.answers.failed(row, spent.failure(row, error), spent))
            return None
        await self._write_known(row, known, spent)
        return None

    async def _write_known(self, row: Row, known: Answer | Shared | PutOff, spent: Spent) -> None:
        """Write the line of a row that is not asked for, if it has one."""
        if isinstance(known, Answer):
            await self.engine.store.post(*self.answers.answered(row, known, spent))
        elif isinstance(known, Shared):
            await self._write(self.answers.failed(row, known.error, spent, shares=known.by))

    async def _write(self, line: tuple[str, bytes, Callable[[], None]] | None) -> None:
        if line is not None:
            await self.engine.store.write(*line)

    async def give_to_twins(self) -> None:
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
                    found = twins.given(row, digest, self.answers.took(row, spent)) or twins.shared(digest)
                    if found is not None and getattr(found, "by", None) != row.index:
                        await self._write_known(row, found, spent)
        finally:
            feed.close()

    def _coming(self, request: dict[str, Any], call: Call) -> tuple[Amount, Amount]:
        """What a request is sure, and likely, to take.

        Raises InvalidRequest if its price has to be known, and is not.
        """
        if self.purse is None:
            return NOTHING, NOTHING
        sure, unlimited = self.purse.coming(request, call.attached)
        share = 1 - self.engine.settings.batch_discount
        likely = sure if unlimited is None else unlimited
        return sure._replace(cost=sure.cost * share), likely._replace(cost=likely.cost * share)

    async def _upload(self, file: RequestFile) -> None:
        order = file.order
        try:
            self.orders.put(order, "uploading")
            order.file = await self.api.upload(file.file, file.size, f"{self.orders.mark(order)}.jsonl")
        finally:
            file.close()
        self.orders.put(order, "uploaded")
        rows, size = plural(order.requests, "row"), file.size / 1e6
        log.info("Order %d: %s (%.1f MB) uploaded as file %s", order.number, rows, size, order.file)
        if self.starter.may_start:
            await self.starter.start(order)
