"""An Airflow connection as settings, with all of its secrets registered to be masked in logs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from airflow_chat_provider.airflow_api.compat import exceptions, in_thread, loop_reaches_airflow, uncut
from airflow_chat_provider.core.connection.settings import Settings, settings_from
from airflow_chat_provider.core.errors import InvalidConnection, InvalidRequest

if TYPE_CHECKING:
    from airflow.sdk import Connection

CONN_TYPE = "chat"
# Airflow 3.1, in a process without a supervisor, fails to import this after it has looked into the environment.
_NO_SUPERVISOR = "airflow.sdk.execution_time.task_runner"


class Source(Protocol):
    """What reads a connection from Airflow: a hook, or its class."""

    def get_connection(self, conn_id: str) -> Connection: ...
    async def aget_connection(self, conn_id: str) -> Connection: ...


class Log(Protocol):
    """A logger of Python's or of structlog's."""

    def info(self, message: str, /, *args: object) -> object: ...
    def warning(self, message: str, /, *args: object) -> object: ...


def read_settings(source: Source, conn_id: str) -> Settings:
    """Read a connection from Airflow. Raises InvalidConnection, which names the field to correct."""
    with _readable(conn_id):
        connection = source.get_connection(conn_id)
    return _adopt(conn_id, connection)


async def aread_settings(source: Source, conn_id: str) -> Settings:
    """``read_settings`` for an event loop."""
    with _readable(conn_id):
        connection = await _aconnection(source, conn_id)
    # In a thread: registering secrets talks to the supervisor, which would stall the loop.
    return await in_thread(_adopt, conn_id, connection)


async def _aconnection(source: Source, conn_id: str) -> Connection:
    if loop_reaches_airflow():
        with contextlib.suppress(ImportError):  # Airflow 3.1 does not look into the environment here
            return await uncut(source.aget_connection(conn_id))
    return await in_thread(source.get_connection, conn_id)


def _adopt(conn_id: str, connection: Connection) -> Settings:
    from airflow.sdk.log import mask_secret

    if connection.conn_type != CONN_TYPE:
        raise InvalidConnection(
            f"Use a connection of type 'chat': connection {conn_id!r} is of type {connection.conn_type!r}",
            field="conn_type",
        )
    settings = settings_from(
        conn_id,
        host=connection.host,
        port=connection.port,
        schema=connection.schema,
        login=connection.login,
        password=connection.password,
        extra=connection.extra,
    )
    for secret in settings.secrets:
        mask_secret(secret)
    return settings


@contextlib.contextmanager
def _readable(conn_id: str) -> Iterator[None]:
    """Turn Airflow's errors for a missing or malformed connection into ours: theirs quote it with its secrets."""
    try:
        yield
    except (exceptions.AirflowNotFoundException, ImportError) as error:
        if isinstance(error, ImportError) and error.name != _NO_SUPERVISOR:
            raise
        raise InvalidConnection(_not_found(conn_id), field="conn_id") from None
    except (ValueError, TypeError):
        why = "Airflow can read it neither as a URI nor as JSON"
    except exceptions.AirflowException as error:
        if not str(error).startswith("Invalid connection string"):
            raise
        why = "it is not a valid connection URI"
    else:
        return
    raise InvalidConnection(f"Write connection {conn_id!r} anew: {why}", field="conn_id") from None


def _not_found(conn_id: str) -> str:
    """Airflow passes over a variable that it cannot read, and says that there is no such connection."""
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if variable in os.environ:
        return (
            f"Correct connection {conn_id!r}: Airflow cannot read {variable}. Write it as JSON, or percent-encode the "
            "key in its URI ('/' is %2F, '#' is %23)"
        )
    return (
        f"Create connection {conn_id!r} of type 'chat': Airflow finds none with that id that it can read. Or name "
        "another one in chat_conn_id"
    )


def limited(settings: Settings, limits: Mapping[str, Any], log: Log) -> Settings:
    """The settings with a task's own limits (see ``Settings.override``). Warns of a key that travels unencrypted.

    Raises InvalidRequest, because a wrong limit is an argument of the task's and not a field of the connection.
    """
    try:
        settings = settings.override(**limits)
    except InvalidConnection as error:
        raise InvalidRequest(f"Correct the argument {error.message}", path=error.field, keyword="type") from None
    if settings.exposes_key:
        log.warning(
            "Use https:// in the base URL %s of connection %r: its API key travels unencrypted",
            settings.base_url,
            settings.conn_id,
        )
    return settings


class KnownConnections:
    """The connections that one event loop has read, for ``seconds``. Else each trigger would read the same one."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._found: dict[str, tuple[float, Settings]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, conn_id: str, read: Callable[[], Awaitable[Settings]]) -> Settings:
        """The connection, by ``read`` if it is not known. Whoever asks in the meantime waits for the same answer."""
        async with self._locks.setdefault(conn_id, asyncio.Lock()):
            until, settings = self._found.get(conn_id, (0.0, None))
            if settings is None or until <= time.monotonic():
                settings = await read()
                self._found[conn_id] = time.monotonic() + self._seconds, settings
            return settings
