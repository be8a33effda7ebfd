"""One row's call: attempts and waits, at the pace that the gate allows."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.exchange import exchange, next_delay
from airflow_chat_provider.core.call.judging import concerns_all
from airflow_chat_provider.core.call.steps import Begun
from airflow_chat_provider.core.errors import ChatCompletionError, RateLimited, TransportError
from airflow_chat_provider.transport.server_memory import note_refusal
from airflow_chat_provider.transport.session import call_headers

if TYPE_CHECKING:
    from typing import Any

    from airflow_chat_provider.batch.pace.gate import Gate
    from airflow_chat_provider.batch.pace.spent import Spent
    from airflow_chat_provider.core.call.steps import Call
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.transport.session import AsyncSession


class Hopeless(Exception):
    """No other row would fare better: the batch ends with ``error``."""

    def __init__(self, error: ChatCompletionError) -> None:
        super().__init__(error)
        self.error = error


class Caller:
    """Calls for all workers. A rate limit, an overload or a lost connection holds up the batch, not a row."""

    def __init__(self, session: AsyncSession, gate: Gate, settings: Settings) -> None:
        self._session = session
        self._gate = gate
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._answered = False
        self._answered_at = self._loop.time()

    async def reply(self, call: Call, request: dict[str, Any], idempotency_key: str, spent: Spent) -> Reply:
        """The last reply for a row, with its error; ``spent`` takes all. Raises Hopeless, and Stopped at the end."""
        attempt, elapsed, tries = 1, 0.0, 0
        while True:
            reply, held_up = await self._attempt(call, request, idempotency_key, Begun(attempt, elapsed), spent)
            tries, error = tries + 1, reply.error
            if error is None:
                return reply
            if concerns_all(error, call):
                raise Hopeless(error)
            if held_up:
                self._check_hope(error, tries)
                continue
            elapsed = reply.seconds
            jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
            delay = next_delay(self._settings, error, attempt=attempt, elapsed=elapsed, jitter=jitter)
            if delay is None:
                return reply
            await self._gate.sleep(delay)
            attempt, elapsed = attempt + 1, elapsed + delay

    async def _attempt(
        self, call: Call, request: dict[str, Any], idempotency_key: str, begun: Begun, spent: Spent
    ) -> tuple[Reply, bool]:
        ticket = await self._gate.enter(len(call.contents[0]))
        try:
            # The retries are ours: whoever waits here lets others send.
            steps = exchange(call, begun, retries=False)
            reply = await self._session.run(steps, call_headers(request, idempotency_key))
        except Exception as error:  # noqa: BLE001 - one row's reply must not end the others'
            reply = Reply(None, None, error=_unreadable(error))
        spent.take(reply)
        held_up = _holds_up(reply.error)
        self._gate.leave(ticket, reply, overloaded=held_up)
        if not held_up:
            self._answered, self._answered_at = True, self._loop.time()
        note_refusal(reply, call.settings.base_url)
        return reply, held_up

    def _check_hope(self, error: ChatCompletionError, tries: int) -> None:
        """A server that was never there is not waited for; another one for as long as the deadline says."""
        if isinstance(error, TransportError) and not self._answered and tries >= self._settings.max_attempts:
            raise Hopeless(error)
        wait = error.retry_after or 0.0
        if self._loop.time() + wait - self._answered_at > self._settings.deadline:
            raise Hopeless(error)


def _unreadable(error: Exception) -> ChatCompletionError:
    name = type(error).__name__
    return ChatCompletionError(f"Report this: the call, or what was made of its reply, ended in a {name}", code=name)


def _holds_up(error: ChatCompletionError | None) -> bool:
    """Is it the server's state that kept this request from being answered, rather than the request?"""
    if isinstance(error, RateLimited):
        return not error.final
    return isinstance(error, TransportError) and not error.sent
