"""Calls to the endpoint of one connection: a request is prepared, sent with retries or streamed, and can be aborted.

A session needs nothing but settings and knows nothing of Airflow. The hook, the trigger and the batch call through one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.exchange import exchange, salvaged
from airflow_chat_provider.core.call.steps import AFRESH, Begun, Call, Response, Result, Send, Sleep
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest, TransportError
from airflow_chat_provider.core.request.attachments import NO_ATTACHMENTS, Attachments, encoded, quotable
from airflow_chat_provider.core.request.json_values import encode
from airflow_chat_provider.core.request.prepare import finish
from airflow_chat_provider.schema import load_schema
from airflow_chat_provider.transport.aside import by_size
from airflow_chat_provider.transport.call_log import CallLog
from airflow_chat_provider.transport.client import AsyncClient, AsyncLive, Client, Guard, Live
from airflow_chat_provider.transport.server_memory import note_refusal, variants

if TYPE_CHECKING:
    from airflow_chat_provider.airflow_api.connections import Log
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.request.schema import RequestSchema
    from airflow_chat_provider.core.types import JSONObject

Exchange: TypeAlias = "Generator[Send | Sleep, Result, Reply]"
Note: TypeAlias = Callable[[Send | Sleep, float], Awaitable[None]]
"""Awaited before each step of an exchange, with the seconds since it began."""


def prepared(request: Any, settings: Settings, schema: RequestSchema | None) -> tuple[JSONObject, list[str]]:
    """The request as it will be sent (with the connection's model, typed and validated), and what there is to warn of.

    Raises InvalidRequest.
    """
    return finish(_with_model(request, settings, schema), schema, base_url=settings.base_url)


def _with_model(request: Any, settings: Settings, schema: RequestSchema | None) -> Any:
    if not isinstance(request, Mapping) or request.get("model") is not None:
        return request
    if settings.model:
        return {**request, "model": settings.model}
    if schema is None or "model" not in schema.required:
        return request
    raise InvalidRequest(
        f"Name a model in the request, or in the extra 'model' of connection {settings.conn_id!r}: neither has one",
        path="$.model",
        keyword="required",
    )


def call_for(request: JSONObject, settings: Settings, attachments: Attachments = NO_ATTACHMENTS) -> Call:
    """A prepared request for ``exchange``, with its attachments, which are read now.

    Raises InvalidRequest if it holds text that UTF-8 cannot encode, or if a file cannot be attached; TransportError if
    another try may be able to read it.
    """
    forms, choices, shown = variants(request, settings.base_url), request.get("n"), request
    if attachments:
        from airflow_chat_provider.transport.attachments import read

        files = read(attachments)
        contents = tuple(encoded(form, attachments, files) for form in forms)
        shown = quotable(request, attachments, files)
    else:
        contents = tuple(map(encode, forms))
    return Call(settings, contents, choices if isinstance(choices, int) else 1, shown)


async def acall_for(request: JSONObject, settings: Settings, attachments: Attachments = NO_ATTACHMENTS) -> Call:
    """``call_for`` for an event loop: attachments are read in a thread, which may talk to Airflow."""
    if not attachments:
        return call_for(request, settings)
    from airflow_chat_provider.airflow_api.compat import in_thread

    return await in_thread(call_for, request, settings, attachments)


def call_headers(request: JSONObject, idempotency_key: str | None) -> dict[str, str]:
    """The headers of all attempts of one call: what may be answered, and a key, made up if none is given."""
    own = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
    return {**own, "accept": "text/event-stream, application/json"} if request.get("stream") else own


def _unsent(error: ChatCompletionError, attachments: Attachments) -> Reply:
    """The reply to a request whose attachments could not be read. Without attachments the error is raised."""
    if not attachments:
        raise error
    return Reply(None, None, attempts=0, error=error)


class _BaseSession:
    def __init__(self, settings: Settings, log: Log | None = None) -> None:
        self.settings = settings
        self._log = log or logging.getLogger(__name__)
        self._call_log = CallLog(settings, self._log)

    def prepare(self, request: Any, schema: Any) -> JSONObject:
        """``prepared``, for what ``load_schema`` takes as a schema; warnings are logged. Raises InvalidRequest."""
        proved, warnings = prepared(request, self.settings, load_schema(schema))
        for warning in warnings:
            self._log.warning("%s", warning)
        return proved

    def finished(self, request: JSONObject, reply: Reply) -> None:
        """Remember what the reply shows of the server, and log the end of the call."""
        note_refusal(reply, self.settings.base_url)
        self._call_log.ended(request, reply)

    def log_doubts(self, reply: Reply) -> Reply:
        """Log what was read otherwise than it was written. A task has that among the warnings of its outcome."""
        for doubt in reply.doubts:
            self._log.warning("%s", doubt)
        return reply

    def _exchange(self, request: JSONObject) -> Exchange:
        return exchange(call_for(request, self.settings))


class Session(_BaseSession):
    """Synchronous; threads may share it."""

    def __init__(self, settings: Settings, log: Log | None = None) -> None:
        super().__init__(settings, log)
        self.client = Client(settings)
        self._current: Stream | None = None

    def send(
        self,
        request: JSONObject,
        *,
        idempotency_key: str | None = None,
        attachments: Attachments = NO_ATTACHMENTS,
    ) -> Reply:
        """One call of a prepared request. The Reply carries its error; nothing is raised for it."""
        try:
            call = call_for(request, self.settings, attachments)
        except ChatCompletionError as error:
            return _unsent(error, attachments)
        reply = self.run(exchange(call), call_headers(request, idempotency_key), self._call_log)
        self.finished(request, reply)
        return reply

    def run(self, steps: Exchange, headers: dict[str, str], log: CallLog | None = None) -> Reply:
        """Make the attempts and waits of an exchange; without ``log``, in silence."""
        self._current = call = Stream(self.client, steps, headers, log)
        call.open(hand_over=False)
        self._current = None
        return call.reply

    def unfinished(self) -> Reply | None:
        """The last call as far as it came, without status and error, if an exception broke in on it; else None."""
        return None if self._current is None else self._current.so_far()

    @contextlib.contextmanager
    def stream(self, request: JSONObject, *, idempotency_key: str | None = None) -> Iterator[Stream]:
        """One call of a prepared request whose chunks are wanted as they come. Raises the error of a failed call."""
        call = Stream(self.client, self._exchange(request), call_headers(request, idempotency_key), self._call_log)
        try:
            call.open()
            if call.over:
                call.reply.raise_for_error()
            yield call
        finally:
            call.close()
            if call.over:
                self.finished(request, self.log_doubts(call.reply))


class AsyncSession(_BaseSession):
    """For one event loop. Cheap: all sessions of a loop for one connection share their sockets. To be closed."""

    def __init__(self, settings: Settings, log: Log | None = None) -> None:
        super().__init__(settings, log)
        self._client = AsyncClient(settings)

    async def send(
        self,
        request: JSONObject,
        *,
        idempotency_key: str | None = None,
        begun: Begun = AFRESH,
        note: Note | None = None,
        guard: Guard | None = None,
        attachments: Attachments = NO_ATTACHMENTS,
    ) -> Reply:
        """``Session.send`` for an event loop. ``begun``: how far the call had come with an earlier driver."""
        try:
            call = await acall_for(request, self.settings, attachments)
        except ChatCompletionError as error:
            return _unsent(error, attachments)
        headers = call_headers(request, idempotency_key)
        stream = AsyncStream(self._client, exchange(call, begun), headers, self._call_log, note, guard)
        await stream.open(hand_over=False)
        self.finished(request, stream.reply)
        return stream.reply

    async def run(self, steps: Exchange, headers: dict[str, str]) -> Reply:
        """Make the attempts and waits of an exchange in silence: a batch has a line for many calls."""
        call = AsyncStream(self._client, steps, headers)
        await call.open(hand_over=False)
        return call.reply

    @contextlib.asynccontextmanager
    async def stream(self, request: JSONObject, *, idempotency_key: str | None = None) -> AsyncIterator[AsyncStream]:
        """``Session.stream`` for an event loop."""
        headers = call_headers(request, idempotency_key)
        call = AsyncStream(self._client, self._exchange(request), headers, self._call_log)
        try:
            await call.open()
            if call.over:
                call.reply.raise_for_error()
            yield call
        finally:
            await call.aclose()
            if call.over:
                self.finished(request, self.log_doubts(call.reply))

    async def aclose(self) -> None:
        """Be done with it."""
        await self._client.aclose()


class _Driver:
    """Drives one exchange. ``reply`` is there when it is over. ``log``, if any, is told of failures and waits."""

    def __init__(self, steps: Exchange, headers: dict[str, str], log: CallLog | None = None) -> None:
        self._log = log
        self._steps = steps
        self._headers = headers
        self._began = time.monotonic()
        self._reply: Reply | None = None
        self._attempt = 1

    @property
    def reply(self) -> Reply:
        """The complete reply, assembled from the chunks. RuntimeError while there are more to come."""
        if self._reply is None:
            raise RuntimeError("read all chunks first: the reply is not complete")
        return self._reply

    @property
    def over(self) -> bool:
        return self._reply is not None

    def so_far(self) -> Reply:
        """What is known before the reply is there."""
        return Reply(None, None, attempts=self._attempt, seconds=time.monotonic() - self._began)

    def _next(self, outcome: Response | TransportError | None = None, *, last: bool = False) -> Send | Sleep | None:
        """The exchange's next step, None when it is over. ``last``: it may send no more, as a caller has chunks."""
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        result = Result(outcome, time.monotonic() - self._began, time.time(), jitter, last)
        try:
            step = self._steps.send(result)
        except StopIteration as done:
            self._reply = done.value
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is, the bytes that came are kept
            self._reply = salvaged(outcome, error, self._attempt)
            return None
        self._attempt = step.attempt
        if isinstance(step, Sleep) and self._log is not None:
            self._log.failed(step)
        return step

    def _still_waits(self, step: Send) -> Callable[[], None] | None:
        """To be called when an attempt has brought nothing for a long time."""
        return None if self._log is None else partial(self._log.waits, step)


class Stream(_Driver):
    """Iterate for the chunks of a call; raises ChatCompletionError where the stream breaks. Then ``reply`` is there."""

    def __init__(self, client: Client, steps: Exchange, headers: dict[str, str], log: CallLog | None = None) -> None:
        super().__init__(steps, headers, log)
        self._client = client
        self._live: Live | None = None
        self._chunks: Iterator[dict[str, Any]]

    def open(self, *, hand_over: bool = True) -> None:
        """Make attempts until there is a chunk to hand out, or a final reply.

        Without ``hand_over`` no caller gets a chunk, so a stream that breaks may be retried to the end.
        """
        step: Send | Sleep | None = next(self._steps)
        while step is not None:
            outcome: Response | TransportError | None = None
            if isinstance(step, Sleep):
                self._client.sleep(step.seconds)
            else:
                live = self._client.open(step, self._headers, still_waits=self._still_waits(step))
                if isinstance(live, Live) and self._begins(live, hand_over=hand_over):
                    return
                outcome = live.outcome if isinstance(live, Live) else live
            step = self._next(outcome, last=self._client.aborted)

    def _begins(self, live: Live, *, hand_over: bool) -> bool:
        """Is there a chunk to hand out? If not, or if none is wanted, the response is read to its end."""
        self._live, chunks = live, iter(live)
        for first in chunks:
            if hand_over:
                self._chunks = chain((first,), chunks)
                return True
        return False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._live is not None and not self.over:
            yield from self._chunks
            self._next(self._live.outcome, last=True)
        self.reply.raise_for_error()

    def close(self) -> None:
        """Close a stream that was not read to its end."""
        if self._live is not None:
            self._live.close()


class AsyncStream(_Driver):
    """The asynchronous twin of Stream. ``note`` and ``guard`` let a trigger keep its journal."""

    def __init__(
        self,
        client: AsyncClient,
        steps: Exchange,
        headers: dict[str, str],
        log: CallLog | None = None,
        note: Note | None = None,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(steps, headers, log)
        self._client = client
        self._note = note
        self._guard = guard
        self._live: AsyncLive | None = None
        self._first: dict[str, Any]
        self._chunks: AsyncIterator[dict[str, Any]]

    async def open(self, *, hand_over: bool = True) -> None:
        step: Send | Sleep | None = next(self._steps)
        while step is not None:
            outcome: Response | TransportError | None = None
            size = 0
            if self._note is not None:
                await self._note(step, time.monotonic() - self._began)
            if isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
            else:
                live = await self._client.open(step, self._headers, self._guard, self._still_waits(step))
                if isinstance(live, AsyncLive) and await self._begins(live, hand_over=hand_over):
                    return
                outcome = live.outcome if isinstance(live, AsyncLive) else live
                answer = live.attempt.size if isinstance(live, AsyncLive) else 0
                size = max(answer, len(step.content) // 2)  # an error's quotations are searched for in the request
            step = await by_size(size, self._next, outcome)

    async def _begins(self, live: AsyncLive, *, hand_over: bool) -> bool:
        self._live, self._chunks = live, aiter(live)
        async for first in self._chunks:
            if hand_over:
                self._first = first
                return True
        return False

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        if self._live is not None and not self.over:
            yield self._first
            async for chunk in self._chunks:
                yield chunk
            finish = partial(self._next, self._live.outcome, last=True)
            await by_size(self._live.attempt.size, finish)
        self.reply.raise_for_error()

    async def aclose(self) -> None:
        if self._live is not None:
            await self._live.aclose()
