"""The trigger that makes a deferred call. XCom is its journal, so that no restart of a triggerer pays twice."""

from __future__ import annotations

import asyncio
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from airflow_chat_provider._per_loop import PerLoop
from airflow_chat_provider.airflow_api.connections import KnownConnections
from airflow_chat_provider.airflow_api.xcom import Slot
from airflow_chat_provider.core.answer import record
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.steps import Send, Sleep
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.durable.conversation import Conversation
from airflow_chat_provider.durable.entry import KEY, VERSION, Entry, Unusable
from airflow_chat_provider.durable.journal import Journal, Overtaken
from airflow_chat_provider.durable.results import ais_left, aleave
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.transport.aside import asafe_dump, aside, by_size
from airflow_chat_provider.transport.client import AsyncClient
from airflow_chat_provider.transport.open_files import allow_all
from airflow_chat_provider.transport.server_memory import learn

_KNOWN_FOR = 10.0  # seconds for which a connection is not read again
_connections = PerLoop(lambda: KnownConnections(_KNOWN_FOR))
_PATIENCE = (1.0, 5.0, 15.0)  # seconds before a reply that was paid for is offered to the database again
_LOOK_AGAIN = 10.0  # seconds after which a trigger that was overtaken looks what became of the call
# Seconds before a worker is called back. Airflow's scheduler may take the end of the deferring worker for the end of
# the resumed one, if both come close together, and fails a task that is paid for (its issues 66374, 67287, 71580, and
# 72716).
_SETTLED = 10.0
_ENDED = "ended"
_SMALL = 1 << 20  # characters of request and replies; more is for a worker
_LOOKS = 180  # for half an hour: the default deadline


class ChatCompletionTrigger(BaseTrigger):
    """Makes the call that a task left in its journal, unless the journal shows that this may be the second time.

    Where nothing of the DAG's own code is needed, it ends the task, too. Its arguments, which Airflow stores and logs
    in clear, say which task instance it works for and no more; an event for a worker says in one word what became of
    the call. ``expires``: the task's execution_timeout, in epoch seconds.
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
        self.try_number = try_number
        self.journal = Journal.named(Slot(KEY, dag_id, run_id, task_id, map_index), try_number)
        self.on_uncertain = on_uncertain
        self.expires = expires
        self.version = version
        self.owner = uuid.uuid4().hex
        self._under_way = False
        self._limit: asyncio.Timeout | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class's path and the arguments to make it anew."""
        return (
            "airflow_chat_provider.triggers.ChatCompletionTrigger",
            {
                **self.journal.slot.identity,
                "try_number": self.try_number,
                "on_uncertain": self.on_uncertain,
                "expires": self.expires,
                "version": self.version,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, whatever happens: a trigger that raises is a task that fails without a reason."""
        event: dict[str, Any] = {"version": VERSION}
        try:
            settled = await self._held_back()
        except Exception as error:  # noqa: BLE001 - told of without its text, which may hold the prompt
            settled = "failed"
            event["error"] = type(error).__name__
            where = "".join(traceback.format_tb(error.__traceback__))
            # Not with the exception: its text would be there again
            self.log.error("The trigger failed with %s at\n%s", type(error).__name__, where)  # noqa: TRY400
        # Its `xcoms` stay empty: Airflow stores them as JSON text in JSON, which is not what a task downstream reads.
        ended = settled == _ENDED
        yield TaskSuccessEvent() if ended else TriggerEvent({**event, "state": settled})  # type: ignore[no-untyped-call]

    async def _held_back(self) -> str:
        """``_settle``, but no worker is called back before Airflow has seen the end of the one that deferred."""
        began = time.monotonic()
        settled = await self._settle()
        if settled != _ENDED and self.task_instance is not None:  # in dag.test() there is no scheduler
            await asyncio.sleep(max(0.0, began + _SETTLED - time.monotonic()))
            if settled == "uncertain":  # whoever sent the request may be alive, and done by now
                return await self._settle()
        return settled

    async def _settle(self) -> str:
        """Bring the call to its end, and say in a word which."""
        if self.version > VERSION:
            return "outdated"
        allow_all()
        try:
            entry = await self.journal.aread()
        except Unusable as unusable:
            # Removed by whoever left the XComs and ended before its event was taken?
            return _ENDED if await ais_left(self.journal) else unusable.why
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

    async def _converse(self) -> str:
        """Make each call that it takes, and store each reply before anything looks into it."""
        talk = await self._judged(lambda: Conversation(self.journal.entry))
        hook = ChatCompletionHook(self.journal.entry.deferred.conn_id, **self.journal.entry.deferred.limits)  # type: ignore[arg-type]
        client: AsyncClient | None = None
        try:
            while talk is not None and talk.final is None:
                if client is None:
                    await hook.use(_connections())
                    client = await hook.aclient()
                reply = await self._call(hook, client, talk)
                if reply is None:
                    return "spent"
                reply, dumped = await asafe_dump(reply)
                if not await self._keep(reply, dumped):
                    return "unstored"
                if not self._is_small:
                    return "done"
                talk = await self._judged(partial(_heard, talk, reply))
                if talk is not None and talk.final is None and talk.dialogue is not None:
                    self.log.info("%s", talk.dialogue.asking_again)
        except ChatCompletionError as error:  # of the connection, which may have changed or gone since
            failed = Reply(None, None, error=error)
            return "done" if await self._keep(failed, record.dump(failed)) else "unstored"
        finally:
            if client is not None:
                await client.aclose()
        return "done" if talk is None else await self._ended(talk)

    async def _call(self, hook: ChatCompletionHook, client: AsyncClient, talk: Conversation) -> Reply | None:
        """One call; None where no attempt is left for it."""
        entry = self.journal.entry
        if entry.state == "sent":
            if entry.begun.attempt > hook.settings.max_attempts:
                return None
            self.log.warning("The request is sent again: a triggerer ended while it was under way")
        elif entry.state == "waiting":
            await self._wait(entry, hook.settings.deadline)
        return await hook.asend(
            client,
            talk.request,
            idempotency_key=talk.key,
            begun=entry.begun,
            note=partial(self._note, talk.key, entry.elapsed),
            guard=self.journal.acheck,
        )

    async def _wait(self, entry: Entry, longest: float) -> None:
        """Go on with the wait that another triggerer began. A clock that was set back makes it no longer."""
        await self.journal.acheck()
        await self.journal.awrite(entry.waiting(self.owner, entry.elapsed, entry.until))
        self.journal.doubt()
        await asyncio.sleep(max(0.0, min(entry.until - time.time(), longest)))

    async def _note(self, key: str, before: float, step: Send | Sleep, elapsed: float) -> None:
        """Before each step: what somebody who finds only the journal has to know. ``before``: seconds spent earlier."""
        elapsed += before
        if self._under_way:  # an answer came, which took its time
            self.journal.doubt()
        await self.journal.acheck()
        entry = self.journal.entry
        if isinstance(step, Sleep):
            await self.journal.awrite(entry.waiting(self.owner, elapsed + step.seconds, time.time() + step.seconds))
            self.journal.doubt()
        elif (entry.state, entry.owner, entry.attempt) != ("sent", self.owner, step.attempt):
            await self.journal.awrite(entry.sent(self.owner, key, step.attempt, elapsed))
        self._under_way = isinstance(step, Send)

    async def _keep(self, reply: Reply, dumped: str) -> bool:
        """Store a reply; whether Airflow took it. Raises Overtaken."""
        self._under_way = False
        if self._limit is not None:  # it is paid for: no time limit of the task's ends this
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
                await self.journal.awrite(done)
            except Overtaken:
                if reply.status is not None:
                    self.log.warning(
                        "A reply came that nobody waits for any more; it may be billed (Idempotency-Key %s)", key
                    )
                raise
            except Exception as error:  # noqa: BLE001 - whatever Airflow has against it, the reply is paid for
                self.log.warning("Airflow did not take the reply into XCom: %s", type(error).__name__)
                if pause is None:
                    return False
                await asyncio.sleep(pause)
            else:
                return True
        return False

    @property
    def _is_small(self) -> bool:
        """Is what would be looked into and left here little enough for a loop that belongs to all?"""
        entry = self.journal.entry
        return len(entry.call) + 3 * len(entry.replies) < _SMALL

    async def _judged(self, judge: Callable[[], Conversation]) -> Conversation | None:
        """What looks into an answer, in a thread if a schema may be slow; None where it fails: a worker tells why."""
        wanted = self.journal.entry.deferred.wanted
        try:
            return await aside(judge) if wanted and (wanted["schema"] or wanted["tools"]) else judge()
        except Exception as error:  # noqa: BLE001 - the reply is stored: a worker says what is wrong
            self.log.warning("The reply cannot be read here (%s): a worker goes on", type(error).__name__)
            return None

    async def _ended(self, talk: Conversation) -> str:
        """Leave what the task leaves, and end it; "done" where a worker has to do that."""
        size = len(self.journal.entry.replies)
        left = await by_size(size, talk.outcome) if self._is_small else None
        if left is None or talk.dialogue is None:
            return "done"
        learn(talk.dialogue, self.journal.entry.deferred.configuration["base_url"])
        for warning in left.warnings:
            self.log.warning("%s", warning)
        try:
            await aleave(self.journal, left)
        except Exception as error:  # noqa: BLE001 - the reply is stored: a worker leaves it
            self.log.warning("Airflow did not take an XCom (%s): a worker goes on", type(error).__name__)
            return "done"
        return _ENDED

    async def _stand_by(self) -> str:
        """Another one works for the task. Airflow cancels this trigger soon; if it does not, the other one is gone."""
        self.log.warning(
            "This trigger sends nothing more: another one works for the task, or it was cleared or has ended"
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
        """The task was cleared or marked: the cancellation has closed the socket; say what it may have cost."""
        if self._under_way:
            self.log.warning("The connection was closed while the request was under way: the server may bill it")


def _heard(talk: Conversation, reply: Reply) -> Conversation:
    talk.hear(reply)
    return talk
