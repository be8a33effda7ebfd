"""Makes the calls of a batch's rows, each attempt when the gate lets it through, and knows what each row has cost."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.input import row_error
from airflow_chat_provider.batch.pace import Stopped
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.result import output_error
from airflow_chat_provider.core.answer.usage import Spending, with_attempt
from airflow_chat_provider.core.call.exchange import concerns_all, exchange, next_delay
from airflow_chat_provider.core.call.steps import Begun
from airflow_chat_provider.core.errors import (
    BudgetExceeded,
    ChatCompletionError,
    InvalidRequest,
    RateLimited,
    TransportError,
)
from airflow_chat_provider.transport.metrics import Sums
from airflow_chat_provider.transport.observer import watched
from airflow_chat_provider.transport.server_memory import note_refusal
from airflow_chat_provider.transport.session import call_headers

if TYPE_CHECKING:
    from airflow_chat_provider.batch.input import Row
    from airflow_chat_provider.batch.pace import Gate
    from airflow_chat_provider.batch.purse import Coming, Purse
    from airflow_chat_provider.core.call.steps import Call
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.transport.observer import Watch
    from airflow_chat_provider.transport.session import AsyncSession


@dataclass(eq=False)
class Hopeless(Exception):
    """No other row would fare better: the batch ends with ``error``."""

    error: ChatCompletionError


@dataclass(eq=False, repr=False)
class Spent:
    """What came for one row. It is paid for, so it goes into the row's line, whatever becomes of the row.

    ``reply`` is the last attempt's. ``paid`` is the last one that was an answer, or that names its usage. ``digest`` is
    that of the row's request.
    """

    reply: Reply | None = None
    paid: Reply | None = None
    took: Spending = field(default_factory=Spending)
    digest: str | None = None

    def take(self, reply: Reply) -> None:
        self.reply = reply
        took = Spending.of_attempt(reply)
        self.took = self.took.plus(took)
        if reply.error is None or took.usage:
            self.paid = reply

    @property
    def ended(self) -> bool:
        """Did the last call come to an end? If its connection broke, nobody knows."""
        return self.reply is not None and not isinstance(self.reply.error, TransportError)

    def failure(self, row: Row, error: Exception) -> ChatCompletionError:
        """``error`` as the row's error. If an answer came, it is in the error: something was sent and paid for."""
        if self.reply is None:
            if isinstance(error, ChatCompletionError):
                return error
            return row_error(row.place, f"no request can be built from it ({type(error).__name__})")
        if isinstance(error, ChatCompletionError) and not isinstance(error, InvalidRequest):
            return error
        # Without the error's own message, which may quote the answer.
        return output_error(
            self.reply, f"Look at the answer: reading it failed with {type(error).__name__}, so it cannot be used"
        )

    def unfinished(self) -> ChatCompletionError | None:
        """The error of a row whose batch ended between two of its calls; None where nothing was paid for it."""
        if self.paid is None:
            return None
        why = "Run the task again: the batch ended before it could ask again for this row, whose answer does not fit"
        return self.paid.error or output_error(self.paid, why)


class Caller:
    """Makes the calls of all workers. A rate limit, an overload or a lost connection delays the batch, not a row."""

    def __init__(self, session: AsyncSession, gate: Gate, settings: Settings, purse: Purse | None = None) -> None:
        self._session = session
        self._gate = gate
        self._purse = purse
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._sums = Sums(settings.conn_id)
        self._answered = False
        self._answered_at = self._loop.time()

    async def call(self, call: Call, request: dict[str, Any], idempotency_key: str, spent: Spent) -> Reply:
        """The final reply, with its error; ``spent`` takes each attempt's. Raises Hopeless, and Stopped at the end."""
        with watched(self._settings, request, self._sums, row=True) as watch:
            try:
                reply = await self._call(call, request, idempotency_key, spent, watch)
            except Hopeless:
                if spent.reply is not None:
                    watch.ended(spent.reply)
                raise
            watch.ended(reply)
            return reply

    def flush_metrics(self) -> None:
        """Send the counts of the calls so far: a message for each call would cost more than all else here."""
        self._sums.flush()

    async def _call(
        self, call: Call, request: dict[str, Any], idempotency_key: str, spent: Spent, watch: Watch
    ) -> Reply:
        attempt, elapsed, attempts = 1, 0.0, 0
        headers, earlier = call_headers(request, idempotency_key), tuple[Reply, ...]()
        coming = None if self._purse is None else self._purse.coming(request, call.attached)
        while True:
            reply, held_up = await self._paid(coming, call, headers, Begun(attempt, elapsed), spent, watch)
            reply = reply._replace(earlier=earlier)
            attempts, error = attempts + 1, reply.error
            if error is None:
                return reply
            earlier = with_attempt(earlier, reply)
            if concerns_all(error, call):
                raise Hopeless(error)
            if held_up:  # the gate waits, for all rows; such an attempt is not counted against this one
                self._check_hope(error, attempts)
                self._gate.log.failed(error)
                continue
            elapsed = reply.seconds
            jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
            delay = next_delay(self._settings, error, attempt=attempt, elapsed=elapsed, jitter=jitter)
            if delay is None:
                return reply
            self._gate.log.failed(error)
            await self._gate.sleep(delay)
            attempt, elapsed = attempt + 1, elapsed + delay

    async def _paid(
        self, coming: Coming | None, call: Call, headers: dict[str, str], begun: Begun, spent: Spent, watch: Watch
    ) -> tuple[Reply, bool]:
        """``_attempt``, if the batch may spend what is ``coming``. Raises Hopeless if not, and Stopped."""
        purse = self._purse
        if purse is None or coming is None:
            return await self._attempt(call, headers, begun, spent, watch)
        try:
            reserved = await purse.reserve(coming, stopped=lambda: self._gate.stopped)
        except BudgetExceeded as error:
            raise Hopeless(error) from None
        if reserved is None:
            raise Stopped
        reply = None
        try:
            reply, held_up = await self._attempt(call, headers, begun, spent, watch)
        finally:
            purse.settle(reserved, coming, reply)
        return reply, held_up

    async def _attempt(
        self, call: Call, headers: dict[str, str], begun: Begun, spent: Spent, watch: Watch
    ) -> tuple[Reply, bool]:
        """One POST: its reply, and whether the server's state kept the request from being answered."""
        model = (call.request or {}).get("model")
        await self._session.prices.get_ready(model)  # nothing is waited for between an answer and its place in spent
        ticket = await self._gate.enter(len(call.contents[0]))
        try:
            # The retries are made here, not in the exchange: while one row waits, others may send.
            steps = exchange(call, begun, retries=False)
            reply = await self._session.run(steps, headers, watch)
        except Exception as error:  # noqa: BLE001 - a bug met by one row must not end the others
            name = type(error).__name__
            message = f"Report this bug: the call, or reading its reply, failed with {name}"
            reply = Reply(None, None, error=ChatCompletionError(message, code=name))
        reply = self._session.prices.priced(reply, model)
        spent.take(reply)
        held_up = _holds_up(reply.error)
        self._gate.leave(ticket, reply, overloaded=held_up)
        if not held_up:
            self._answered, self._answered_at = True, self._loop.time()
        note_refusal(reply, call.settings.base_url)
        return reply, held_up

    def _check_hope(self, error: ChatCompletionError, attempts: int) -> None:
        """Give up on a server that was never there, and on one that has not answered for as long as the deadline."""
        if isinstance(error, TransportError) and not self._answered and attempts >= self._settings.max_attempts:
            raise Hopeless(error)
        wait = error.retry_after or 0.0
        if self._loop.time() + wait - self._answered_at > self._settings.deadline:
            raise Hopeless(error)


def _holds_up(error: ChatCompletionError | None) -> bool:
    """Was it the server's state that kept this request from being answered, and not the request itself?"""
    if isinstance(error, RateLimited):
        return not error.final
    return isinstance(error, TransportError) and not error.sent
