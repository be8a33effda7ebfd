"""The hook: from an Airflow connection to a client, and from a request to a reply."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.hook import BaseHook

from airflow_chat_provider._forks import renew_in_child
from airflow_chat_provider.airflow_api.compat import in_thread, loop_reaches_airflow, uncut
from airflow_chat_provider.airflow_api.connections import CONN_TYPE, KnownConnections, mask, read_connection, readable
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.call.exchange import exchange
from airflow_chat_provider.core.call.steps import AFRESH, Begun
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidConnection, InvalidRequest
from airflow_chat_provider.core.request.prepare import finish
from airflow_chat_provider.core.request.schema import load_schema
from airflow_chat_provider.core.server.scrub import printable
from airflow_chat_provider.transport.outgoing import call_for, headers, learn, with_model

if TYPE_CHECKING:
    import httpx
    import httpx2

    from airflow_chat_provider.transport.client import AsyncClient, Client
    from airflow_chat_provider.transport.response import AsyncStream, Guard, Note, Stream

_LONGEST_MODEL = 200  # characters of a model's name in the log


class ChatCompletionHook(BaseHook):
    """Calls the Chat Completions API of the endpoint that an Airflow connection of type ``chat`` describes.

    ``timeout`` and ``deadline`` (seconds, for one attempt and for all) and ``max_attempts`` override the connection.
    Safe to share between threads. Errors: InvalidConnection for what the connection holds, and those of ``create``.
    """

    conn_name_attr = "chat_conn_id"
    default_conn_name = "chat_default"
    conn_type = CONN_TYPE
    hook_name = "Chat Completion"

    def __init__(
        self,
        chat_conn_id: str = default_conn_name,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        max_attempts: int | None = None,
    ) -> None:
        super().__init__()
        self.chat_conn_id = chat_conn_id
        self._limits = {"timeout": timeout, "deadline": deadline, "max_attempts": max_attempts}
        self._settings: Settings | None = None
        self._client: Client | None = None
        self._lock = threading.RLock()
        self._aborted = False
        renew_in_child(self)

    def _renew(self) -> None:
        self._lock = threading.RLock()  # another thread may have held it when this process was forked

    @property
    def settings(self) -> Settings:
        """The connection, read once, with this hook's own limits."""
        with self._lock:
            if self._settings is None:
                with readable(self.chat_conn_id):
                    connection = self.get_connection(self.chat_conn_id)
                self._settings = self._limited(self._adopt(connection))
            return self._settings

    async def _asettings(self) -> Settings:
        if self._settings is None:
            self._settings = self._limited(await self._aread())
        return self._settings

    async def _aconnection(self) -> Any:
        if loop_reaches_airflow():
            with contextlib.suppress(ImportError):  # Airflow 3.1 does not look into the environment here
                return await uncut(self.aget_connection(self.chat_conn_id))
        return await in_thread(self.get_connection, self.chat_conn_id)

    async def use(self, known: KnownConnections) -> None:
        """Take the connection from those that ``known`` has read lately, instead of reading it."""
        self._settings = self._limited(await known.get(self.chat_conn_id, self._aread))

    async def _aread(self) -> Settings:
        with readable(self.chat_conn_id):
            connection = await self._aconnection()
        # In a thread: registering secrets talks to the supervisor, which would stall the loop.
        return await in_thread(self._adopt, connection)

    def _adopt(self, connection: Any) -> Settings:
        settings = read_connection(self.chat_conn_id, connection)
        mask(settings)
        return settings

    def _limited(self, settings: Settings) -> Settings:
        try:
            settings = settings.override(**self._limits)
        except InvalidConnection as error:
            raise InvalidRequest(f"Correct the argument {error.message}", path=error.field, keyword="type") from None
        if settings.exposes_key:
            self.log.warning(
                "The API key of connection %r travels unencrypted: use https:// in its base URL %s",
                settings.conn_id,
                settings.base_url,
            )
        return settings

    @property
    def client(self) -> Client:
        """The synchronous client, made when first needed."""
        with self._lock:
            if self._client is None:
                from airflow_chat_provider.transport.client import Client

                self._client = Client(self.settings)
                if self._aborted:
                    self._client.abort()
            return self._client

    def get_conn(self) -> httpx.Client | httpx2.Client:
        """A Client of the HTTP library that Airflow's task SDK is on: httpx, or httpx2 from Airflow 3.4 on.

        It has the connection's base URL, authentication, headers, query, proxy and TLS, and raises that library's own
        errors.
        """
        return self.client.http

    def create(self, request: Mapping[str, Any], *, idempotency_key: str | None = None) -> Reply:
        """One chat completion with retries: the Reply with ``body``, ``status``, ``message``, ``text``.

        The request is proved against the connection's ``request_schema`` first. Raises InvalidRequest,
        InvalidConnection, TransportError, StatusError, ProtocolError; ``Idempotency-Key`` is one for all attempts.
        """
        return self._told(self.send(self.prepare(request), idempotency_key=idempotency_key)).raise_for_error()

    async def acreate(self, request: Mapping[str, Any], *, idempotency_key: str | None = None) -> Reply:
        """``create`` for an event loop."""
        client = await self.aclient()
        try:
            reply = await self.asend(client, self.prepare(request), idempotency_key=idempotency_key)
        finally:
            await client.aclose()
        return self._told(reply).raise_for_error()

    async def aclient(self) -> AsyncClient:
        """An asynchronous client, to be closed by the caller. All of a loop with one connection share their sockets."""
        from airflow_chat_provider.transport.client import AsyncClient

        return AsyncClient(await self._asettings())

    def prepare(self, request: Any, schema: Any = ...) -> dict[str, Any]:
        """The request as it will be sent: model filled in, typed, proved; warnings are logged.

        ``schema`` other than the connection's ``request_schema``: see ``validate_request``.
        """
        settings = self.settings
        loaded = load_schema(settings.request_schema if schema is ... else schema)
        request = with_model(request, settings, loaded)
        prepared, warnings = finish(request, loaded, base_url=settings.base_url)
        for warning in warnings:
            self.log.warning("%s", warning)
        return prepared

    def send(self, request: dict[str, Any], *, idempotency_key: str | None = None) -> Reply:
        """A prepared request with retries; the Reply carries its error, nothing is raised for it."""
        reply = self.client.run(exchange(call_for(request, self.settings)), headers(request, idempotency_key))
        self._finished(request, reply)
        return reply

    async def asend(
        self,
        client: AsyncClient,
        request: dict[str, Any],
        *,
        idempotency_key: str | None = None,
        begun: Begun = AFRESH,
        note: Note | None = None,
        guard: Guard | None = None,
    ) -> Reply:
        """``send`` through an asynchronous client.

        ``note(step, elapsed)`` is awaited before each Send and Sleep, and ``guard()`` again when a connection is there
        and nothing was sent by it; ``begun`` goes on where an earlier call ended.
        """
        steps = exchange(call_for(request, self.settings), begun)
        reply = await client.run(steps, headers(request, idempotency_key), note, guard)
        self._finished(request, reply)
        return reply

    @contextlib.contextmanager
    def stream(self, request: Mapping[str, Any], *, idempotency_key: str | None = None) -> Iterator[Stream]:
        """A streamed completion: iterate over the chunks as they come, then read ``reply`` (as ``create`` returns it).

        Retried only until the first chunk. Raises what ``create`` raises, here or while it is iterated over. A server
        that answers with one JSON body gives no chunks, and the reply.
        """
        prepared = self.prepare({**request, "stream": True})
        call = self.client.stream(exchange(call_for(prepared, self.settings)), headers(prepared, idempotency_key))
        try:
            call.open()
            if call.over:
                call.reply.raise_for_error()
            yield call
        finally:
            call.close()
            if call.over:
                self._finished(prepared, self._told(call.reply))

    @contextlib.asynccontextmanager
    async def astream(
        self, request: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> AsyncIterator[AsyncStream]:
        """``stream`` for an event loop: ``async for`` over the chunks."""
        client = await self.aclient()
        prepared = self.prepare({**request, "stream": True})
        call = client.stream(exchange(call_for(prepared, self.settings)), headers(prepared, idempotency_key))
        try:
            await call.open()
            if call.over:
                call.reply.raise_for_error()
            yield call
        finally:
            await call.aclose()
            await client.aclose()
            if call.over:
                self._finished(prepared, self._told(call.reply))

    def _finished(self, request: dict[str, Any], reply: Reply) -> None:
        learn(reply, self.settings.base_url)
        self.log.info(
            "Chat completion: model %s, %s messages, status %s, %s attempts, %.2f s, %s tokens, request id %s",
            printable(str(request.get("model"))[:_LONGEST_MODEL]),
            len(request["messages"]) if isinstance(request.get("messages"), list) else 0,
            reply.status,
            reply.attempts,
            reply.seconds,
            reply.tokens,
            printable(str(reply.request_id)),
        )

    def _told(self, reply: Reply) -> Reply:
        """Log what was guessed. Not for an operator's calls, whose outcome has these among its warnings."""
        for doubt in reply.doubts:
            self.log.warning("%s", doubt)
        return reply

    def abort(self) -> None:
        """Stop for good: the socket of a call under way is closed, and nothing more is sent.

        The call returns at once with a TransportError, or with what was wrong with its last attempt. May be called
        from a signal handler or another thread; takes no lock, which the interrupted code may hold.
        """
        self._aborted = True
        if self._client is not None:
            self._client.abort()

    def close(self) -> None:
        """Close idle connections."""
        if self._client is not None:
            self._client.close()

    def test_connection(self) -> tuple[bool, str]:
        """Ask for the models, or, where there is no list, for nothing: ``(works, what was found)``."""
        from airflow_chat_provider.transport.probe import probe

        try:
            return probe(self.settings, self.client)
        except ChatCompletionError as error:
            return False, error.message
        finally:
            self.close()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The connection form before Airflow 3.2; from 3.2 on provider_info describes it."""
        from airflow_chat_provider.provider_info import get_provider_info

        behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
        return {key.replace("-", "_"): value for key, value in behaviour.items()}
