"""A connection as settings: where, with which key, within which limits. An error names the field to correct."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit

from airflow_chat_provider.core.errors import InvalidConnection
from airflow_chat_provider.core.extras import field_error, read_extra, read_extras
from airflow_chat_provider.core.masking import is_secret_name, maskable, secret_values

DEFAULT_ENDPOINT = "/chat/completions"
DEFAULT_BASE_URL = "https://api.openai.com/v1"


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


def is_loopback(host: str) -> bool:
    """Is this host this machine?"""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


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
        values["base_url"] = _base_url(host, port, schema, values.get("endpoint", DEFAULT_ENDPOINT))
        if values.get("client_key") and not values.get("client_cert"):
            raise field_error("client_key", "needs client_cert beside it")
        return Settings(conn_id=conn_id, api_key=key, **values)
    except InvalidConnection as error:
        raise InvalidConnection(f"Correct connection {conn_id!r}: {error.message}", field=error.field) from None


def _base_url(host: str | None, port: int | None, schema: str | None, endpoint: str) -> str:
    """The base URL, however the connection was written: ``schema`` is a scheme, or the path of a connection URI."""
    text = (host or "").strip()
    if not text and not port and not schema:
        return DEFAULT_BASE_URL
    scheme = (schema or "").strip().lower()
    path = "" if scheme in ("http", "https") else (schema or "").strip()
    if path:
        scheme = ""
    if "://" not in text:
        text = f"{scheme or _guess_scheme(text)}://{_bracketed(text)}"
    try:
        parts = urlsplit(text)
        own_port = parts.port
    except ValueError:
        raise field_error("host", "is no URL: check its port and brackets") from None
    _check_url(parts)
    if port and not 0 < port < 65536:
        raise field_error("port", f"is {port}; a port is between 1 and 65535")
    if port and own_port and port != own_port:
        raise field_error("port", f"is {port}, but host states port {own_port}")
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    netloc = f"{name}:{own_port or port}" if own_port or port else name
    url = f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}" + (f"/{quote(path.strip('/'))}" if path else "")
    if endpoint.strip("/") and url.endswith("/" + endpoint.strip("/")):
        raise field_error("host", f"ends in {endpoint}; leave that out, the endpoint is added to the base URL")
    return url


def _check_url(parts: Any) -> None:
    if parts.scheme not in ("http", "https"):
        raise field_error("host", f"has the scheme {parts.scheme[:20]!r}; use http:// or https://")
    if not parts.hostname or not _plausible_host(parts.hostname):
        raise field_error("host", "names no host; write it like https://api.example.com/v1")
    if parts.username or parts.password:
        raise field_error("host", "holds a user or password; the API key belongs in password")
    if parts.query or parts.fragment:
        raise field_error("host", "holds a query; put its parameters into the extra 'query'")
    if not parts.path.isascii() or any(char <= " " for char in parts.path):
        raise field_error("host", "has a path with a space or a character that is not ASCII")


def _plausible_host(name: str) -> bool:
    if ":" in name:
        return True  # urlsplit has checked what stands in brackets
    try:
        return bool(re.fullmatch(r"[A-Za-z0-9._-]+", name.encode("idna").decode()))
    except UnicodeError:
        return False


def _bracketed(text: str) -> str:
    """A bare IPv6 address in the brackets that a URL wants."""
    try:
        return f"[{text}]" if ip_address(text).version == 6 else text
    except ValueError:
        return text


def _guess_scheme(text: str) -> str:
    """https, but http on this machine, where nobody serves TLS."""
    try:
        return "http" if is_loopback(urlsplit(f"//{_bracketed(text)}").hostname or "") else "https"
    except ValueError:
        return "https"
