"""A connection as settings: where, with which key, within which limits. An error names the field to correct."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote, urlencode, urlsplit

from airflow_chat_provider.core.connection.base_url import (
    DEFAULT_BASE_URL,
    DEFAULT_ENDPOINT,
    field_error,
    is_loopback,
    read_base_url,
)
from airflow_chat_provider.core.connection.fields import read_extra, read_extras
from airflow_chat_provider.core.connection.masking import is_secret_name, maskable, secret_values
from airflow_chat_provider.core.errors import InvalidConnection


class Settings(NamedTuple):
    """What a call needs to know of its connection. Times in seconds, sizes in bytes."""

    conn_id: str = "chat_default"
    base_url: str = DEFAULT_BASE_URL
    api_key: str = ""
    model: str | None = None
    auth: str = "bearer"
    organization: str | None = None
    project: str | None = None
    headers: Mapping[str, str] = MappingProxyType({})
    query: Mapping[str, str] = MappingProxyType({})
    endpoint: str = DEFAULT_ENDPOINT
    request_schema: Any = "2026-11"
    timeout: float = 600.0
    connect_timeout: float = 5.0
    deadline: float = 1800.0
    stall_timeout: float = 120.0
    max_attempts: int = 3
    max_response_bytes: int = 64 << 20
    proxy: str | None = None
    verify: bool | str = True
    client_cert: str | None = None
    client_key: str | None = None

    def __repr__(self) -> str:
        return f"Settings(conn_id={self.conn_id!r}, base_url={self.base_url!r})"  # the others may be secrets

    def url(self, path: str) -> str:
        """``path`` under the base URL, with the connection's query."""
        query = f"?{urlencode(self.query)}" if self.query else ""
        return f"{self.base_url}/{path.lstrip('/')}{query}"

    def request_headers(self) -> dict[str, str]:
        """The connection's headers, the key in the one that ``auth`` names."""
        found = {"openai-organization": self.organization, "openai-project": self.project}
        if self.api_key and self.auth != "none":
            found |= (
                {"api-key": self.api_key} if self.auth == "api-key" else {"authorization": f"Bearer {self.api_key}"}
            )
        own = {name.lower(): value for name, value in self.headers.items()}
        return {name: value for name, value in {**found, **own}.items() if value}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be in no log: the key, the proxy's password, and what headers and query name as secret."""
        quoted = (urlsplit(self.proxy).password or "") if self.proxy else ""
        named = (part for name, value in self._named for part in secret_values(name, value))
        return tuple(dict.fromkeys(filter(maskable, (self.api_key, unquote(quoted), quoted, *named))))

    @property
    def exposes_key(self) -> bool:
        """Does a key travel in clear to another machine?"""
        parts = urlsplit(self.base_url)
        carries = any(is_secret_name(name) for name, value in self._named if value)
        carries = carries or (bool(self.api_key) and self.auth != "none")
        return parts.scheme == "http" and carries and not is_loopback(parts.hostname or "")

    @property
    def _named(self) -> tuple[tuple[str, str], ...]:
        """Headers and query parameters."""
        return (*self.headers.items(), *self.query.items())

    @property
    def limits(self) -> dict[str, Any]:
        """What ``override`` takes."""
        return {"timeout": self.timeout, "deadline": self.deadline, "max_attempts": self.max_attempts}

    def override(self, **values: Any) -> Settings:
        """These settings with a task's own limits; None keeps the connection's. Raises InvalidConnection."""
        given = {name: read_extra(name, value) for name, value in values.items() if value is not None}
        return self._replace(**given) if given else self


def settings_from(
    conn_id: str,
    *,
    host: str | None = None,
    port: int | None = None,
    schema: str | None = None,
    login: str | None = None,
    password: str | None = None,
    extra: str | None = None,
) -> Settings:
    """The parts of an Airflow connection as Settings; raises InvalidConnection naming the field to correct."""
    try:
        if login:
            raise field_error("login", "is not used; the API key belongs in password")
        values = read_extras(extra)
        key = (password or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise field_error("password", "has a line break or a character that is not ASCII, which no API key has")
        values["base_url"] = read_base_url(host, port, schema, values.get("endpoint", DEFAULT_ENDPOINT))
        if values.get("client_key") and not values.get("client_cert"):
            raise field_error("client_key", "needs client_cert beside it")
        return Settings(conn_id=conn_id, api_key=key, **values)
    except InvalidConnection as error:
        raise InvalidConnection(f"Correct connection {conn_id!r}: {error.message}", field=error.field) from None
