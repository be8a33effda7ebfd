"""TLS contexts: making one takes 20 ms, so there is one per process and settings.

A forked process may use its parent's: a context holds no connection, and OpenSSL seeds its random numbers anew.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.errors import InvalidConnection

Default = Callable[..., ssl.SSLContext]
"""Makes a context from ``verify`` that trusts what the HTTP library trusts."""


def tls_context(settings: Settings, default: Default) -> ssl.SSLContext:
    """The context for these settings, made again only when one of their files changes. Raises InvalidConnection."""
    verify, cert, key = settings.verify, settings.client_cert, settings.client_key
    try:
        stamps = _stamp("verify", verify), _stamp("client_cert", cert), _stamp("client_key", key)
        return _context(verify, cert, key, stamps, default)
    except InvalidConnection as error:
        raise InvalidConnection(
            f"Correct connection {settings.conn_id!r}: {error.message}", field=error.field
        ) from None


def _stamp(field: str, path: Any) -> float | None:
    if not isinstance(path, str):
        return None
    with _naming(field, "names a file that cannot be read"):
        return Path(path).stat().st_mtime


@contextlib.contextmanager
def _naming(field: str, why: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise InvalidConnection(f"{field} {why} ({error.strerror or error})", field=field) from None


@lru_cache(maxsize=32)
def _context(
    verify: bool | str,  # noqa: FBT001 - the name and the values are those of the extra
    cert: str | None,
    key: str | None,
    stamps: tuple[float | None, ...],  # noqa: ARG001 - part of the cache key
    default: Default,
) -> ssl.SSLContext:
    with _naming("verify", "holds no usable PEM file"):
        context = default(verify=verify) if isinstance(verify, bool) else _trusting(verify)
    if cert is not None:
        with _naming("client_cert", "holds no usable PEM file, or not that of client_key"):
            context.load_cert_chain(cert, key, _no_passphrase)
    return context


def _trusting(path: str) -> ssl.SSLContext:
    folder = Path(path).is_dir()
    return ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)


def _no_passphrase() -> str:
    # Without this, OpenSSL would ask for one at the terminal, and a worker would wait for ever.
    raise OSError("the key is encrypted")
