"""The hook: from an Airflow connection to a client, and from a request to a reply."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.hook import BaseHook

from airflow_chat_provider._per_loop import renew_in_child
from airflow_chat_provider.airflow_api.connections import CONN_TYPE, aread_settings, limited, read_settings
from airflow_chat_provider.core.errors import ChatCompletionError

if TYPE_CHECKING:
    import httpx
    import httpx2

    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.transport.driver import AsyncStream, Stream
    from airflow_chat_provider.transport.session import AsyncSession, Session


class ChatCompletionHook(BaseHook):
    """Calls the Chat Completions API of the endpoint that an Airflow connection of type ``chat`` describes.

    ``timeout`` and ``deadline`` (seconds, for one attempt and for a whole call) and ``max_attempts`` override the
    connection. Threads may share a hook. Each method raises InvalidConnection if the connection is wrong.
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
        self._session: Session | None = None
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
                self._settings = limited(read_settings(self, self.chat_conn_id), self._limits, self.log)
            return self._settings

    @property
    def session(self) -> Session:
        """Makes the calls, for operators too: it takes prepared requests, and its replies carry their errors."""
        with self._lock:
            if self._session is None:
                from airflow_chat_provider.transport.session import Session

                self._session = Session(self.settings, self.log)
                if self._aborted:
                    self._session.client.abort()
            return self._session

    async def _asession(self) -> AsyncSession:
        from airflow_chat_provider.transport.session import AsyncSession

        if self._settings is None:
            self._settings = limited(await aread_settings(self, self.chat_conn_id), self._limits, self.log)
        return AsyncSession(self._settings, self.log)

    def get_conn(self) -> httpx.Client | httpx2.Client:
        """A Client of the HTTP library that Airflow's task SDK uses: httpx, or httpx2 from Airflow 3.4 on.

        It has the connection's base URL, authentication, headers, query, proxy and TLS, and raises that library's own
        errors.
        """
        return self.session.client.http

    def create(self, request: Mapping[str, Any], *, idempotency_key: str | None = None) -> Reply:
        """One chat completion with retries: the Reply with ``body``, ``status``, ``message``, ``text``.

        The request is first validated against the connection's ``request_schema``. All attempts have one
        ``Idempotency-Key``. Raises InvalidRequest, TransportError, StatusError, ProtocolError, IncompleteReply.
        """
        session = self.session
        prepared = session.prepare(request, session.settings.request_schema)
        return session.log_doubts(session.send(prepared, idempotency_key=idempotency_key)).raise_for_error()

    async def acreate(self, request: Mapping[str, Any], *, idempotency_key: str | None = None) -> Reply:
        """``create`` for an event loop."""
        session = await self._asession()
        try:
            prepared = session.prepare(request, session.settings.request_schema)
            reply = await session.send(prepared, idempotency_key=idempotency_key)
            return session.log_doubts(reply).raise_for_error()
        finally:
            await session.aclose()

    @contextlib.contextmanager
    def stream(self, request: Mapping[str, Any], *, idempotency_key: str | None = None) -> Iterator[Stream]:
        """A streamed completion: iterate over the chunks as they come, then read ``reply`` (as ``create`` returns it).

        Retried only until the first chunk. Raises what ``create`` raises, here or during the iteration. If a server
        answers with one JSON body, there are no chunks, but there is the reply.
        """
        session = self.session
        prepared = session.prepare({**request, "stream": True}, session.settings.request_schema)
        with session.stream(prepared, idempotency_key=idempotency_key) as stream:
            yield stream

    @contextlib.asynccontextmanager
    async def astream(
        self, request: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> AsyncIterator[AsyncStream]:
        """``stream`` for an event loop: ``async for`` over the chunks."""
        session = await self._asession()
        try:
            prepared = session.prepare({**request, "stream": True}, session.settings.request_schema)
            async with session.stream(prepared, idempotency_key=idempotency_key) as stream:
                yield stream
        finally:
            await session.aclose()

    def abort(self) -> None:
        """Stop for good: the socket of a call under way is closed, and nothing more is sent.

        The call returns at once with a TransportError, or with the error of its last attempt. May be called from a
        signal handler or another thread: it takes no lock, which the interrupted code may hold.
        """
        self._aborted = True
        if self._session is not None:
            self._session.client.abort()

    def close(self) -> None:
        """Close idle connections."""
        if self._session is not None:
            self._session.client.close()

    def test_connection(self) -> tuple[bool, str]:
        """Ask the server for its models, at no cost: ``(works, what was found)``."""
        from airflow_chat_provider.transport.probe import probe

        try:
            return probe(self.settings, self.session.client)
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
