"""The trigger that makes a deferred call, and the one that waits for batches of a vendor's batch API.

XCom is the journal of the first, so that no restart of a triggerer pays twice. The second one only looks.
"""

from __future__ import annotations

import asyncio
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from airflow_chat_provider._per_loop import PerLoop
from airflow_chat_provider.airflow_api.connections import KnownConnections, aread_settings, limited
from airflow_chat_provider.airflow_api.xcom import Slot
from airflow_chat_provider.core.answer import record
from airflow_chat_provider.core.answer.dialogue import adrive
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.steps import Send, Sleep
from airflow_chat_provider.core.cost.budget import Budget
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.durable.entry import KEY, VERSION, Conversation, Ending, Entry, Unusable
from airflow_chat_provider.durable.journal import Journal, Overtaken
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.transport import batch_watch
from airflow_chat_provider.transport.aside import asafe_dump, aside, by_size
from airflow_chat_provider.transport.batch_api import BatchApi
from airflow_chat_provider.transport.call_log import duration
from airflow_chat_provider.transport.observer import under
from airflow_chat_provider.transport.open_files import allow_all
from airflow_chat_provider.transport.server_memory import learn
from airflow_chat_provider.transport.session import AsyncSession

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings

_KNOWN_FOR = 10.0  # seconds for which a connection is not read again
_connections = PerLoop(lambda: KnownConnections(_KNOWN_FOR))
_PATIENCE = (1.0, 5.0, 15.0)  # seconds before a reply, which is paid for, is offered to the database again
_LOOK_AGAIN = 10.0  # seconds after which a trigger that was overtaken looks again what became of the call
_LOOKS = 180  # for half an hour, the default deadline
# Seconds before a worker is called back. If the deferring worker and the resumed one end close together, Airflow's
# scheduler may mistake one for the other, and fails a task that is paid for (its issues 66374, 67287, 71580, 72716).
_SETTLED = 10.0
_SMALL = 1 << 20  # characters of request and replies; a worker examines more
_T = TypeVar("_T")


class _Ends(Exception):
    """The trigger's work ends here, before its conversation does."""

    def __init__(self, how: Ending) -> None:
        super().__init__(how)
        self.how = how


class ChatCompletionTrigger(BaseTrigger):
    """Makes the call that a task left in its journal, unless the journal shows that it may have been made already.

    It also ends the task, unless that needs code of the DAG's. Airflow stores and logs the arguments in clear, so they
    only say which task instance this works for; the event for a worker says in one word what became of the call.
    ``expires``: when the task's execution_timeout ends, in epoch seconds. ``traceparent``: the span that those of the
    calls belong under, by W3C's Trace Context; None without traces.
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
        traceparent: str | None = None,
        version: int = VERSION,
        **unknown: Any,  # noqa: ARG002 - those of a newer version; run() then ends as "outdated"
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.try_number = try_number
        self.journal = Journal.from_slot(Slot(KEY, dag_id, run_id, task_id, map_index), try_number)
        self.on_uncertain = on_uncertain
        self.expires = expires
        self.traceparent = traceparent
        self.version = version
        self.owner = uuid.uuid4().hex
        self._under_way = False
        self._budget: Budget | None = None
        self._limit: asyncio.Timeout | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class's path and the arguments to make it anew."""
        traced = {"traceparent": self.traceparent} if self.traceparent else {}
        return (
            "airflow_chat_provider.triggers.ChatCompletionTrigger",
            {
                **self.journal.slot.identity,
                "try_number": self.try_number,
                "on_uncertain": self.on_uncertain,
                "expires": self.expires,
                **traced,
                "version": self.version,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, whatever happens: if a trigger raises, its task fails without a reason."""
        event: dict[str, Any] = {"version": VERSION}
        how: Ending
        try:
            how = await self._held_back()
        except Exception as error:  # noqa: BLE001 - logged without its text, which may hold the prompt
            how = "failed"
            event["error"] = type(error).__name__
            where = "".join(traceback.format_tb(error.__traceback__))
            self.log.error("The trigger failed with %s at\n%s", type(error).__name__, where)  # noqa: TRY400 - as above
        # The event has no `xcoms`: Airflow would store them as JSON text within JSON, which no task downstream expects.
        yield TaskSuccessEvent() if how == "ended" else TriggerEvent({**event, "state": how})  # type: ignore[no-untyped-call]

    async def _held_back(self) -> Ending:
        """``_settle``, but call no worker back before Airflow has seen the end of the one that deferred."""
        began = time.monotonic()
        how = await self._settle()
        if how != "ended" and self.task_instance is not None:  # in dag.test() there is no scheduler
            await asyncio.sleep(max(0.0, began + _SETTLED - time.monotonic()))
            if how == "uncertain":  # the triggerer that sent the request may be alive, and done by now
                return await self._settle()
        return how

    async def _settle(self) -> Ending:
        """Bring the call to its end, unless somebody else may be doing that."""
        if self.version > VERSION:
            return "outdated"
        allow_all()
        try:
            entry = await self.journal.aread()
        except Unusable as unusable:
            # A trigger that left the XComs, and ended before Airflow took its event, has removed the journal.
            return "ended" if await self.journal.ais_left() else unusable.why
        if entry.state == "sent" and self.on_uncertain != "resend":
            return "uncertain"
        try:
            async with asyncio.timeout(None if self.expires is None else self.expires - time.time()) as limit:
                self._limit = limit
                return await self._converse()
        except Overtaken:
            return await self._stand_by()
        except TimeoutError:
            if limit.expired():
                return "timed_out"
            raise

    async def _converse(self) -> Ending:
        """Make each call that is due, and store each reply before anything examines it."""
        try:
            talk = await self._examined(lambda: Conversation(self.journal.entry))
            if talk.final is None:
                await self._drive(talk)
        except _Ends as ends:
            return ends.how
        except ChatCompletionError as error:  # of the connection, which may have changed or gone meanwhile
            failed = Reply(None, None, attempts=0, error=error)
            return "done" if await self._keep(failed, record.dump(failed)) else "unstored"
        return await self._ended(talk)

    async def _drive(self, talk: Conversation) -> None:
        deferred = self.journal.entry.deferred
        known = await _connections().get(
            deferred.conn_id, partial(aread_settings, ChatCompletionHook, deferred.conn_id)
        )
        session = AsyncSession(limited(known, deferred.limits, self.log), self.log)
        self._budget = self.journal.entry.budget
        try:
            with under(self.traceparent):
                await adrive(
                    talk, partial(self._call, session), lambda reply: self._examined(partial(talk.take, reply))
                )
        finally:
            await session.aclose()

    async def _call(self, session: AsyncSession, talk: Conversation) -> Reply:
        """Make one call and store its reply. Raises _Ends if no attempt is left for it, or a worker must go on."""
        if talk.dialogue is not None and talk.dialogue.call > 1:
            self.log.info("%s", talk.dialogue.asking_again)
        entry = self.journal.entry
        if entry.state == "sent":
            if entry.begun.attempt > session.settings.max_attempts:
                raise _Ends("spent")
            self.log.warning("Sending the request again: a triggerer ended while it was under way")
        elif entry.state == "waiting":
            await self._wait(entry, session.settings.deadline)
        reply = await session.send(
            talk.request,
            idempotency_key=talk.key,
            begun=entry.begun,
            note=partial(self._note, talk.key, entry.elapsed),
            guard=self.journal.acheck,
            attachments=talk.attachments,
            purse=self._budget,
        )
        reply, dumped = await asafe_dump(reply)
        if not await self._keep(reply, dumped):
            raise _Ends("unstored")
        if not self._is_small:
            raise _Ends("done")
        return reply

    async def _wait(self, entry: Entry, longest: float) -> None:
        """Go on with a wait that another triggerer began, for ``longest`` seconds: the clock may have been set back."""
        await self.journal.acheck()
        await self._write(entry.waiting(self.owner, entry.elapsed, entry.until))
        self.journal.doubt()
        left = max(0.0, min(entry.until - time.time(), longest))
        self.log.info(
            "Attempt %d begins in %s: an earlier triggerer began this wait", entry.begun.attempt, duration(left)
        )
        await asyncio.sleep(left)

    async def _note(self, key: str, before: float, step: Send | Sleep, elapsed: float) -> None:
        """Write into the journal, before each step, what whoever goes on from there has to know.

        ``before``: the seconds that the call had taken when this trigger took it up.
        """
        elapsed += before
        if self._under_way:  # an answer came, and took its time
            self.journal.doubt()
        await self.journal.acheck()
        entry = self.journal.entry
        if isinstance(step, Sleep):
            await self._write(entry.waiting(self.owner, elapsed + step.seconds, time.time() + step.seconds))
            self.journal.doubt()
        elif (entry.state, entry.owner, entry.attempt) != ("sent", self.owner, step.attempt):
            await self._write(entry.sent(self.owner, key, step.attempt, elapsed))
        self._under_way = isinstance(step, Send)

    async def _write(self, entry: Entry) -> None:
        """Write an entry, with what is spent of the task's limits."""
        if self._budget is not None:
            entry = replace(entry, spent=self._budget.committed.to_dict())
        await self.journal.awrite(entry)

    async def _keep(self, reply: Reply, dumped: str) -> bool:
        """Store a reply; did Airflow take it? Raises Overtaken."""
        self._under_way = False
        if self._limit is not None:  # the reply is paid for: the task's time limit must not end this
            due = self._limit.when()
            self._limit.reschedule(None)
            try:
                return await self._stored(reply, dumped)
            finally:
                self._limit.reschedule(due)
        return await self._stored(reply, dumped)

    async def _stored(self, reply: Reply, dumped: str) -> bool:
        self.journal.doubt()
        key = self.journal.entry.key
        done = await by_size(len(dumped), self.journal.entry.done, self.owner, dumped)
        for pause in (*_PATIENCE, None):
            try:
                await self.journal.acheck()
                await self._write(done)
            except Overtaken:
                if reply.status is not None:
                    self.log.warning(
                        "A reply came, but nobody waits for it any more; it may be billed (Idempotency-Key %s)", key
                    )
                raise
            except Exception as error:  # noqa: BLE001 - whatever the reason, the reply is paid for
                then = "a worker takes over" if pause is None else f"the next try is in {duration(pause)}"
                self.log.warning("Airflow could not store the reply in XCom (%s): %s", type(error).__name__, then)
                if pause is None:
                    return False
                await asyncio.sleep(pause)
            else:
                return True
        return False

    @property
    def _is_small(self) -> bool:
        """Can the replies be examined and left on a loop that all triggers share?"""
        entry = self.journal.entry
        return len(entry.call) + 3 * len(entry.replies) < _SMALL

    async def _examined(self, examine: Callable[[], _T]) -> _T:
        """``examine()``, which looks into an answer, in a thread if a schema may make it slow.

        Raises _Ends if it fails: the reply is stored, so a worker can say what is wrong.
        """
        wanted = self.journal.entry.deferred.wanted
        try:
            return await aside(examine) if wanted and (wanted["schema"] or wanted["tools"]) else examine()
        except Exception as error:  # noqa: BLE001 - see above
            self.log.warning("The trigger cannot read the reply (%s): a worker takes over", type(error).__name__)
            raise _Ends("done") from None

    async def _ended(self, talk: Conversation) -> Ending:
        """Set the task's XComs and end it, or leave both to a worker ("done")."""
        left = await by_size(len(self.journal.entry.replies), talk.outcome) if self._is_small else None
        if left is None or talk.dialogue is None:
            return "done"
        learn(talk.dialogue, self.journal.entry.deferred.configuration["base_url"])
        for warning in left.warnings:
            self.log.warning("%s", warning)
        try:
            await self.journal.aleave(left)
        except Exception as error:  # noqa: BLE001 - the reply is stored: a worker sets them
            self.log.warning("Airflow could not store an XCom (%s): a worker takes over", type(error).__name__)
            return "done"
        return "ended"

    async def _stand_by(self) -> Ending:
        """Wait, as another trigger works for the task. If Airflow does not cancel this one, the other one has gone."""
        self.log.warning(
            "This trigger sends nothing more: another one is working for the task, or the task was cleared or has ended"
        )
        seen = 0
        for _ in range(_LOOKS):
            await asyncio.sleep(_LOOK_AGAIN)
            try:
                seen += (await self.journal.aread()).state == "done"
            except Unusable:
                seen = 0
            if seen == 3:
                return "done"
        return "overtaken"

    async def on_kill(self) -> None:
        """Warn of the cost when the task is cleared or marked. The cancellation itself has closed the socket."""
        if self._under_way:
            self.log.warning("The connection was closed while the request was under way: the server may bill it")


BATCH_VERSION = 1
"""Of the events of ChatCompletionBatchTrigger."""


class ChatCompletionBatchTrigger(BaseTrigger):
    """Waits until batches of a vendor's batch API have ended; ``any_one``: until the first of them has.

    It only looks: a worker fetches the answers. Networks and servers that fail meanwhile are waited out. The arguments
    hold ids alone. ``at_most``: seconds after which a worker is to look again. ``expires``: when the task's
    execution_timeout ends, in epoch seconds.
    """

    def __init__(
        self,
        *,
        conn_id: str,
        batches: Sequence[str],
        any_one: bool = False,
        at_most: float | None = None,
        expires: float | None = None,
        cancel_on_kill: bool = True,
        **unknown: Any,  # noqa: ARG002 - those of a newer version
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.batches = list(batches)
        self.any_one = any_one
        self.at_most = at_most
        self.expires = expires
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class's path and the arguments to make it anew."""
        names = ("conn_id", "batches", "any_one", "at_most", "expires", "cancel_on_kill")
        return (
            "airflow_chat_provider.triggers.ChatCompletionBatchTrigger",
            {name: getattr(self, name) for name in names},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, whatever happens: if a trigger raises, its task fails without a reason."""
        began, event = time.monotonic(), {"version": BATCH_VERSION, "state": "ended"}
        try:
            async with asyncio.timeout(None if self.expires is None else self.expires - time.time()) as limit:
                settings = await self._settings()
                await batch_watch.watch(settings, self.batches, self.log, any_one=self.any_one, at_most=self.at_most)
        except TimeoutError:
            event["state"] = "timed_out" if limit.expired() else "failed"
        except Exception as error:  # noqa: BLE001 - logged without a traceback's values
            event |= {"state": "failed", "error": type(error).__name__}
            self.log.error("The trigger failed with %s", error)  # noqa: TRY400 - as above
        if self.task_instance is not None:  # in dag.test() there is no scheduler
            await asyncio.sleep(max(0.0, began + _SETTLED - time.monotonic()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _settings(self) -> Settings:
        return await _connections().get(self.conn_id, partial(aread_settings, ChatCompletionHook, self.conn_id))

    async def on_kill(self) -> None:
        """Cancel the batches when the task is cleared or marked. A triggerer that restarts does not call this."""
        if not self.cancel_on_kill:
            self.log.warning("Left under way at the batch API: %s", ", ".join(self.batches))
            return
        api = BatchApi(await self._settings())
        try:
            for batch in self.batches:
                try:
                    await api.cancel(batch)
                    self.log.warning("Cancelled batch %s: what it has answered is paid for, and kept", batch)
                except ChatCompletionError as error:
                    self.log.warning("Cancel batch %s at the vendor yourself: %s", batch, error.message)
        finally:
            await api.aclose()
