"""A connection as settings: where a call goes, with which key, within which limits, and what of it is secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote, urlencode, urlsplit

from airflow_chat_provider.core.connection.base_url import DEFAULT_BASE_URL, is_loopback, read_base_url
from airflow_chat_provider.core.connection.fields import DEFAULT_ENDPOINT, FIELDS, field_error, read_extra, read_extras
from airflow_chat_provider.core.errors import InvalidConnection

SHORTEST_SECRET = 5  # characters; a shorter value stands in other words ("1" in "10000"). Airflow's masker: the same
# Masking blanks a value in every log line of a task, so only these names are secret: masked as a header X-Title, the
# words "my pipeline" would disappear everywhere.
_SECRET_NAME = re.compile(
    # Not x-portkey-provider, Idempotency-Key, keyword.
    r"(?<!port)(?<!mon)(?<!tur)(?<!don)(?<!idempotency[-_])key(?!word|board|space|cloak)"
    r"|token(?!s|i[sz])"  # not max_tokens, not tokenizer
    r"|auth(?!or(?!i[sz]))"  # authorization, authentication, x-auth; not author, not authority
    r"|secret|password|passwd|passphrase|pwd|credential|cookie|bearer|jwt|signature|(?<![a-z])sig(?![a-z])",
    re.IGNORECASE,
)
# What people write where a client wants a key and the local server wants none.
_PLACEHOLDERS = frozenset(
    {"empty", "dummy", "ollama", "lm-studio", "not-needed", "not needed", "no-key", "no-key-required"}
    | {"sk-no-key-required", "placeholder", "sk-test", "local", "unused", "nothing", "anything"}
)
_AUTH_SCHEME = re.compile(r"(?:bearer|basic|token|digest|negotiate|apikey|api-key|key)\s+", re.IGNORECASE)


class Settings(NamedTuple):
    """What a call needs to know of its connection. Times in seconds, sizes in bytes; FIELDS says what each one is."""

    conn_id: str = "chat_default"
    base_url: str = DEFAULT_BASE_URL
    api_key: str = ""
    model: str | None = None
    auth: str = FIELDS["auth"].default
    organization: str | None = None
    project: str | None = None
    headers: Mapping[str, str] = MappingProxyType({})
    query: Mapping[str, str] = MappingProxyType({})
    endpoint: str = DEFAULT_ENDPOINT
    request_schema: str | dict[str, Any] | None = FIELDS["request_schema"].default
    timeout: float = FIELDS["timeout"].default
    connect_timeout: float = FIELDS["connect_timeout"].default
    deadline: float = FIELDS["deadline"].default
    stall_timeout: float = FIELDS["stall_timeout"].default
    max_attempts: int = FIELDS["max_attempts"].default
    max_response_bytes: int = FIELDS["max_response_bytes"].default
    proxy: str | None = None
    verify: bool | str = FIELDS["verify"].default
    client_cert: str | None = None
    client_key: str | None = None

    def __repr__(self) -> str:
        return f"Settings(conn_id={self.conn_id!r}, base_url={self.base_url!r})"  # the others may be secrets

    def url(self, path: str) -> str:
        """``path`` under the base URL, with the connection's query."""
        query = f"?{urlencode(self.query)}" if self.query else ""
        return f"{self.base_url}/{path.lstrip('/')}{query}"

    def request_headers(self) -> dict[str, str]:
        """The connection's headers by their names in lower case, with the key in the one that ``auth`` names.

        A header of the connection replaces one of ours, and an empty one removes it.
        """
        found: dict[str, str] = {}
        if self.organization:
            found["openai-organization"] = self.organization
        if self.project:
            found["openai-project"] = self.project
        if self.api_key and self.auth == "api-key":
            found["api-key"] = self.api_key
        elif self.api_key and self.auth == "bearer":
            found["authorization"] = f"Bearer {self.api_key}"
        for name, value in self.headers.items():
            found[name.lower()] = value
        return {name: value for name, value in found.items() if value} if self.headers else found

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be in no log: the key, the proxy's password, and what headers and query name as secret."""
        found = [self.api_key]
        if self.proxy:
            quoted = urlsplit(self.proxy).password or ""
            found += [unquote(quoted), quoted]
        for name, value in (*self.headers.items(), *self.query.items()):
            found += secret_values(name, value)
        return tuple(dict.fromkeys(filter(maskable, found)))

    @property
    def exposes_key(self) -> bool:
        """Does a key travel in clear to another machine?"""
        parts = urlsplit(self.base_url)
        if parts.scheme != "http" or is_loopback(parts.hostname or ""):
            return False
        if self.api_key and self.auth != "none":
            return True
        named = (*self.headers.items(), *self.query.items())
        return any(value and is_secret_name(name) for name, value in named)

    @property
    def limits(self) -> dict[str, Any]:
        """What ``override`` takes."""
        return {"timeout": self.timeout, "deadline": self.deadline, "max_attempts": self.max_attempts}

    def override(self, **values: object) -> Settings:
        """These settings with a task's own limits; None keeps the connection's. Raises InvalidConnection."""
        own = {}
        for name, value in values.items():
            if value is not None:
                own[name] = read_extra(name, value)
        return self._replace(**own) if own else self


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
            raise field_error("login", "is not used: leave it empty, and put the API key into password")
        values = read_extras(extra) if extra and not extra.isspace() else {}
        key = (password or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise field_error("password", "has a line break or a character that is not ASCII, as no API key has")
        values["base_url"] = read_base_url(host, port, schema, values.get("endpoint", DEFAULT_ENDPOINT))
        if values.get("client_key") and not values.get("client_cert"):
            raise field_error("client_key", "needs client_cert as well")
        return Settings(conn_id=conn_id, api_key=key, **values)
    except InvalidConnection as error:
        raise InvalidConnection(f"Correct connection {conn_id!r}: {error.message}", field=error.field) from None


def is_secret_name(name: str) -> bool:
    """Does a header or a query parameter of this name carry a secret?"""
    return _SECRET_NAME.search(name) is not None


def maskable(value: str) -> bool:
    """May a secret value be blanked wherever it stands? Not a short one, and not a word like EMPTY."""
    return len(value) >= SHORTEST_SECRET and value.lower() not in _PLACEHOLDERS


def secret_values(name: str, value: str) -> Iterator[str]:
    """What is secret in a header or a query parameter: the value without ``Bearer`` or the like, and each cookie."""
    if not is_secret_name(name):
        return
    scheme = _AUTH_SCHEME.match(value)
    yield value[scheme.end() :] if scheme else value
    if "cookie" in name.lower():
        yield from (part.partition("=")[2].strip() for part in value.split(";"))
