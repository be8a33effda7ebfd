"""From an Airflow connection to settings, with every secret of it registered to be masked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from airflow_chat_provider.airflow_api.compat import AirflowException, AirflowNotFoundException
from airflow_chat_provider.core.connection.settings import Settings, settings_from
from airflow_chat_provider.core.errors import InvalidConnection

CONN_TYPE = "chat"
# In a process without a supervisor Airflow 3.1 fails to import from here once it has looked into the environment.
_NO_SUPERVISOR = "airflow.sdk.execution_time.task_runner"


def read_connection(conn_id: str, connection: Any) -> Settings:
    """An Airflow connection as Settings; raises InvalidConnection naming the field to correct."""
    if connection.conn_type != CONN_TYPE:
        raise InvalidConnection(
            f"Use a connection of type 'chat': connection {conn_id!r} is of type {connection.conn_type!r}",
            field="conn_type",
        )
    return settings_from(
        conn_id,
        host=connection.host,
        port=connection.port,
        schema=connection.schema,
        login=connection.login,
        password=connection.password,
        extra=connection.extra,
    )


@contextlib.contextmanager
def readable(conn_id: str) -> Iterator[None]:
    """Airflow's errors of a connection that is missing or malformed, as ours; theirs quote the whole of it."""
    try:
        yield
    except (AirflowNotFoundException, ImportError) as error:
        if isinstance(error, ImportError) and error.name != _NO_SUPERVISOR:
            raise
        raise InvalidConnection(
            f"Create connection {conn_id!r} of type 'chat', or name another in chat_conn_id: "
            "Airflow finds none of that id, or none that it can read",
            field="conn_id",
        ) from None
    except (ValueError, TypeError):
        why = "it cannot be read, neither as a URI nor as JSON"
    except AirflowException as error:
        if not str(error).startswith("Invalid connection string"):
            raise
        why = "it is no valid connection URI"
    else:
        return
    raise InvalidConnection(f"Write connection {conn_id!r} anew: {why}", field="conn_id") from None


def mask(settings: Settings) -> None:
    from airflow.sdk.log import mask_secret

    for secret in settings.secrets:
        mask_secret(secret)


class KnownConnections:
    """What one event loop has read of its connections: each call of a triggerer would ask Airflow for the same again.

    Read anew after ``seconds``, so that a change counts soon.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._found: dict[str, tuple[float, Settings]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, conn_id: str, read: Callable[[], Awaitable[Settings]]) -> Settings:
        """The connection, by ``read`` where it is not known; whoever asks meanwhile waits for the same answer."""
        async with self._locks.setdefault(conn_id, asyncio.Lock()):
            until, settings = self._found.get(conn_id, (0.0, None))
            if settings is None or until <= time.monotonic():
                settings = await read()
                self._found[conn_id] = time.monotonic() + self._seconds, settings
            return settings
