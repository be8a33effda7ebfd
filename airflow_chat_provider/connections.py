"""From an Airflow connection to settings, with every secret of it registered to be masked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from airflow_chat_provider.compat import AirflowException, AirflowNotFoundException
from airflow_chat_provider.core.errors import InvalidConnection
from airflow_chat_provider.core.settings import Settings, settings_from

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
