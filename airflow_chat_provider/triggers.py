"""The trigger that sends a deferred request. XCom is its journal, so that no restart of a triggerer pays twice."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_chat_provider.connections import KnownConnections
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.core.exchange import Send, Sleep
from airflow_chat_provider.core.journal import KEY, VERSION, Entry, Unusable
from airflow_chat_provider.core.record import safe
from airflow_chat_provider.core.response import Reply
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.journal import Journal
from airflow_chat_provider.loops import PerLoop
from airflow_chat_provider.xcoms import Slot

_KNOWN_FOR = 10.0  # seconds for which a connection is not read again
_connections = PerLoop(lambda: KnownConnections(_KNOWN_FOR))
_PATIENCE = (1.0, 5.0, 15.0)  # seconds before a reply that was paid for is offered to the database again


class ChatCompletionTrigger(BaseTrigger):
    """Sends the request that a task left in its journal, unless the journal shows that this may be the second time.

    Its arguments, which Airflow stores and logs in clear, say which task instance it works for and no more; its event
    says in one word what became of the call. ``expires``: the task's execution_timeout, in epoch seconds.
    """

    def __init__(
        self,
        *,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: int = -1,
        try_number: int = 1,
        on_uncertain: str = "fail",
        expires: float | None = None,
        version: int = VERSION,
        **unknown: Any,  # noqa: ARG002 - of a newer version, which run() tells of
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.journal = Journal(Slot(KEY, dag_id, run_id, task_id, map_index), try_number)
        self.on_uncertain = on_uncertain
        self.expires = expires
        self.version = version
        self._under_way = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class's path and the arguments to make it anew."""
        return (
            "airflow_chat_provider.triggers.ChatCompletionTrigger",
            {
                **self.journal.slot.identity,
                "try_number": self.journal.try_number,
                "on_uncertain": self.on_uncertain,
                "expires": self.expires,
                "version": self.version,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, whatever happens: a trigger that raises is a task that fails without a reason."""
        event: dict[str, Any] = {"version": VERSION}
        try:
            event["state"] = await self._settle()
        except Exception as error:  # noqa: BLE001 - told of without its text, which may hold the prompt
            event |= {"state": "failed", "error": type(error).__name__}
            where = "".join(traceback.format_tb(error.__traceback__))
            # Not with the exception: its text would be there again
            self.log.error("The trigger failed with %s at\n%s", type(error).__name__, where)  # noqa: TRY400
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _settle(self) -> str:
        """Bring the call to its end, and say in a word which."""
        if self.version > VERSION:
            return "outdated"
        try:
            entry = await self.journal.aread()
        except Unusable as unusable:
            return unusable.why
        if entry.state == "done":
            return "done"
        if entry.state == "sent":
            if self.on_uncertain != "resend":
                return "uncertain"
            self.log.warning("The request is sent again: a triggerer ended while it was under way")
        try:
            async with asyncio.timeout(None if self.expires is None else self.expires - time.time()) as limit:
                reply = await self._call(entry)
        except TimeoutError:
            if limit.expired():
                return "timed_out"
            raise
        return await self._keep(reply)

    async def _call(self, entry: Entry) -> Reply:
        deferred = entry.deferred
        hook = ChatCompletionHook(deferred.conn_id, **deferred.limits)  # type: ignore[arg-type]
        try:
            await hook.use(_connections())
            client = await hook.aclient()
        except ChatCompletionError as error:  # of the connection, which may have changed or gone since
            return Reply(None, None, error=error)
        try:
            if entry.state == "waiting":
                await asyncio.sleep(max(0.0, entry.until - time.time()))
            return await hook.asend(
                client,
                deferred.request,
                idempotency_key=deferred.idempotency_key,
                begun=entry.begun,
                note=partial(self._note, entry.elapsed),
            )
        finally:
            await client.aclose()

    async def _note(self, before: float, step: Send | Sleep, elapsed: float) -> None:
        """Before each step: what somebody who finds only the journal has to know. ``before``: seconds spent earlier."""
        elapsed += before
        entry = self.journal.entry
        self._under_way = isinstance(step, Send)
        if isinstance(step, Sleep):
            await self.journal.awrite(entry.waiting(elapsed + step.seconds, time.time() + step.seconds))
        elif entry.state != "sent" or entry.attempt != step.attempt:
            await self.journal.awrite(entry.sent(step.attempt, elapsed))

    async def _keep(self, reply: Reply) -> str:
        self._under_way = False
        entry = self.journal.entry.done(safe(reply))
        for pause in (*_PATIENCE, None):
            try:
                await self.journal.awrite(entry)
            except Exception as error:  # noqa: BLE001 - whatever Airflow has against it, the reply is paid for
                self.log.warning("Airflow did not take the reply into XCom: %s", type(error).__name__)
                if pause is None:
                    break
                await asyncio.sleep(pause)
            else:
                return "done"
        return "unstored"

    async def on_kill(self) -> None:
        """The task was cleared or marked: the cancellation has closed the socket; say what it may have cost."""
        if self._under_way:
            self.log.warning("The connection was closed while the request was under way: the server may bill it")
