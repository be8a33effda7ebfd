"""Calls to the endpoint of one connection: a request is prepared, sent with retries or streamed, and can be aborted.

A session needs nothing but settings and knows nothing of Airflow. The hook, the trigger and the batch call through one.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.exchange import exchange
from airflow_chat_provider.core.call.meter import Meter, Purse, metered
from airflow_chat_provider.core.call.steps import AFRESH, Begun, Call
from airflow_chat_provider.core.cost.estimate import sure_tokens
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.core.request.attachments import NO_ATTACHMENTS, TEXT, Attachments, encoded, quotable
from airflow_chat_provider.core.request.json_values import encode
from airflow_chat_provider.core.request.prepare import finish
from airflow_chat_provider.schema import load_schema
from airflow_chat_provider.transport.call_log import CallLog
from airflow_chat_provider.transport.client import AsyncClient, Client, Guard
from airflow_chat_provider.transport.driver import AsyncStream, Exchange, Note, Stream
from airflow_chat_provider.transport.observer import NOBODY, Watch, get_ready, watched
from airflow_chat_provider.transport.price_list import PriceList
from airflow_chat_provider.transport.server_memory import note_refusal, variants

if TYPE_CHECKING:
    from airflow_chat_provider.airflow_api.connections import Log
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.request.schema import RequestSchema
    from airflow_chat_provider.core.types import JSONObject


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
    forms, choices, shown, attached = variants(request, settings.base_url), request.get("n"), request, 0
    if attachments:
        from airflow_chat_provider.transport.attachments import read

        files = read(attachments)
        contents = tuple(encoded(form, attachments, files) for form in forms)
        shown = quotable(request, attachments, files)
        attached = sum(file.size for file in files if file.kind is TEXT)
    else:
        contents = tuple(map(encode, forms))
    return Call(settings, contents, choices if isinstance(choices, int) else 1, shown, attached)


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
        self.prices = PriceList(settings)

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
        return self.prices.pricing(exchange(call_for(request, self.settings)), request.get("model"))

    def _paid_from(self, purse: Purse | None, request: JSONObject, call: Call, begun: Begun = AFRESH) -> Exchange:
        """The exchange of a call, which ends where the purse has no more for it."""
        steps = exchange(call, begun)
        if purse is None:
            return steps
        price = partial(self.prices.cost, asked=request.get("model"))
        return metered(steps, Meter(purse, sure_tokens(request, call.attached), price), begun)


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
        purse: Purse | None = None,
    ) -> Reply:
        """One call of a prepared request. The Reply carries its error; nothing is raised for it.

        ``purse``: what its attempts are paid from, if they are limited.
        """
        try:
            call = call_for(request, self.settings, attachments)
        except ChatCompletionError as error:
            return _unsent(error, attachments)
        with watched(self.settings, request) as watch:
            steps = self.prices.pricing(self._paid_from(purse, request, call), request.get("model"))
            reply = self.run(steps, call_headers(request, idempotency_key), self._call_log, watch)
            watch.ended(reply)
        self.finished(request, reply)
        return reply

    def run(self, steps: Exchange, headers: dict[str, str], log: CallLog | None = None, watch: Watch = NOBODY) -> Reply:
        """Make the attempts and waits of an exchange; without ``log``, in silence."""
        self._current = call = Stream(self.client, steps, headers, log, watch)
        call.open(hand_over=False)
        self._current = None
        return call.reply

    def unfinished(self) -> Reply | None:
        """The last call as far as it came, without status and error, if an exception broke in on it; else None."""
        return None if self._current is None else self._current.so_far()

    @contextlib.contextmanager
    def stream(self, request: JSONObject, *, idempotency_key: str | None = None) -> Iterator[Stream]:
        """One call of a prepared request whose chunks are wanted as they come. Raises the error of a failed call."""
        headers = call_headers(request, idempotency_key)
        with watched(self.settings, request) as watch:
            call = Stream(self.client, self._exchange(request), headers, self._call_log, watch)
            try:
                call.open()
                if call.over:
                    call.reply.raise_for_error()
                yield call
            finally:
                call.close()
                if call.over:
                    watch.ended(call.reply)
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
        purse: Purse | None = None,
    ) -> Reply:
        """``Session.send`` for an event loop. ``begun``: how far the call had come with an earlier driver."""
        try:
            call = await acall_for(request, self.settings, attachments)
        except ChatCompletionError as error:
            return _unsent(error, attachments)
        headers = call_headers(request, idempotency_key)
        await get_ready()
        with watched(self.settings, request) as watch:
            if purse is not None:  # which prices each attempt as soon as it has ended
                await self.prices.get_ready(request.get("model"))
            steps = self._paid_from(purse, request, call, begun)
            stream = AsyncStream(self._client, steps, headers, self._call_log, note, guard, watch)
            await stream.open(hand_over=False)
            reply = await self.prices.apriced(stream.reply, request.get("model"))
            watch.ended(reply)
        self.finished(request, reply)
        return reply

    async def run(self, steps: Exchange, headers: dict[str, str], watch: Watch = NOBODY) -> Reply:
        """Make the attempts and waits of an exchange in silence: a batch has a line for many calls."""
        call = AsyncStream(self._client, steps, headers, watch=watch)
        await call.open(hand_over=False)
        return call.reply

    @contextlib.asynccontextmanager
    async def stream(self, request: JSONObject, *, idempotency_key: str | None = None) -> AsyncIterator[AsyncStream]:
        """``Session.stream`` for an event loop."""
        headers = call_headers(request, idempotency_key)
        await get_ready()
        await self.prices.get_ready(request.get("model"))
        with watched(self.settings, request) as watch:
            call = AsyncStream(self._client, self._exchange(request), headers, self._call_log, watch=watch)
            try:
                await call.open()
                if call.over:
                    call.reply.raise_for_error()
                yield call
            finally:
                await call.aclose()
                if call.over:
                    watch.ended(call.reply)
                    self.finished(request, self.log_doubts(call.reply))

    async def aclose(self) -> None:
        """Be done with it."""
        await self._client.aclose()
