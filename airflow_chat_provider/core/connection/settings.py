"""A connection as settings: where a call goes, with which key, within which limits, and what of it is secret.

A base URL is read however it was written. One that is nearly right is an error that says what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from airflow_chat_provider.core.connection.fields import DEFAULT_ENDPOINT, FIELDS, field_error, read_extra, read_extras
from airflow_chat_provider.core.errors import InvalidConnection

if TYPE_CHECKING:
    from airflow_chat_provider.core.cost.prices import Rates

DEFAULT_BASE_URL = "https://api.openai.com/v1"
# What people copy from a page about an API, with the base URL in front of it.
_ENDPOINTS = (DEFAULT_ENDPOINT, "/completions", "/responses", "/embeddings", "/messages", "/moderations")
_PAGES = r"/(?:v\d[^/]*|api)(/chat|/models)$"  # not /models alone: that is a base URL of Azure's
_TWICE = r"(?i)[a-z]+:/+(https?)(?::/*|/+)(?=[^/])"  # https://https://
_SCHEME = r"(?i)(https?)([:;.]?[/]{1,2}|[:;])(?![/:])"  # and what is typed for ://
_ROOTS = {
    "azure.com": "/openai/v1",
    "groq.com": "/openai/v1",
    "openrouter.ai": "/api/v1",
    "generativelanguage.googleapis.com": "/v1beta/openai",
}
_LONGEST = 200  # characters of a URL in an error
SHORTEST_SECRET = 5  # characters; a shorter value stands in other words ("1" in "10000"). Airflow's masker: the same
# Masking blanks a value in every log line of a task, so only these names are secret: masked as a header X-Title, the
# words "my pipeline" would disappear everywhere.
_SENSITIVE_NAME = (
    # Not x-portkey-provider, Idempotency-Key, keyword.
    r"(?i)(?<!port)(?<!mon)(?<!tur)(?<!don)(?<!idempotency[-_])key(?!word|board|space|cloak)"
    r"|token(?!s|i[sz])"  # not max_tokens, not tokenizer
    r"|auth(?!or(?!i[sz]))"  # authorization, authentication, x-auth; not author, not authority
    r"|secret|password|passwd|passphrase|pwd|credential|cookie|bearer|jwt|signature|(?<![a-z])sig(?![a-z])"
)
# What people write where a client wants a key and the local server wants none.
_PLACEHOLDERS = frozenset(
    {"empty", "dummy", "ollama", "lm-studio", "not-needed", "not needed", "no-key", "no-key-required"}
    | {"sk-no-key-required", "placeholder", "sk-test", "local", "unused", "nothing", "anything"}
)
_AUTH_SCHEME = r"(?i)(?:bearer|basic|token|digest|negotiate|apikey|api-key|key)\s+"


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
    prices: Mapping[str, Rates] = MappingProxyType({})
    currency: str = FIELDS["currency"].default
    batch_discount: Decimal = FIELDS["batch_discount"].default
    max_total_tokens: int | None = None
    max_cost: Decimal | None = None
    proxy: str | None = None
    verify: bool | str = FIELDS["verify"].default
    client_cert: str | None = None
    client_key: str | None = None

    def __repr__(self) -> str:
        return f"Settings(conn_id={self.conn_id!r}, base_url={self.base_url!r})"  # the others may be secrets

    def url(self, path: str) -> str:
        """``path`` under the base URL, with the connection's query."""
        sign = "&" if "?" in path else "?"
        query = f"{sign}{urlencode(self.query)}" if self.query else ""
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


def is_loopback(host: str) -> bool:
    """Is this host this machine?"""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def root_hint(base_url: str) -> str:
    """What a base URL without a path most probably lacks; empty if it has a path."""
    parts = urlsplit(base_url)
    if parts.path.strip("/"):
        return ""
    host = parts.hostname or ""
    for domain, path in _ROOTS.items():
        if host == domain or host.endswith("." + domain):
            return f"{domain} wants {path} at the end of the base URL"
    return "most servers want /v1 at the end of the base URL"


def origin(parts: SplitResult, port: int | None) -> str:
    """Scheme, host and port, with the brackets that a URL wants around an IPv6 address."""
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{name}:{port}" if port else f"{parts.scheme}://{name}"


def read_base_url(host: str | None, port: int | None, schema: str | None, endpoint: str) -> str:
    """The base URL without a slash at its end; raises InvalidConnection naming the field to correct.

    ``schema`` is a scheme, or the path of a connection URI: Airflow reads ``chat://host/v1`` so.
    """
    text, schema = (host or "").strip(), (schema or "").strip()
    if not text and not port and not schema:
        return DEFAULT_BASE_URL
    if "@" in schema:  # Airflow takes the end of a key for the path: chat://:1/2@host/v1 has the port 1
        raise field_error("password", "has a slash in it: percent-encode the key in the connection's URI (/ as %2F)")
    _check_text(text)
    scheme, path = (schema.lower(), "") if schema.lower() in ("http", "https") else ("", schema)
    if "://" not in text:
        text = f"{scheme or _guess_scheme(text)}://{_bracketed(text)}"
    try:
        parts = urlsplit(text)
        own_port = parts.port
    except ValueError:
        raise field_error("host", "is not a URL: check its port and brackets") from None
    _check_parts(parts)
    if port and not 0 < port < 65536:
        raise field_error("port", f"is {port}, but a port is between 1 and 65535")
    if port and own_port and port != own_port:
        raise field_error("port", f"is {port}, but host names port {own_port}")
    url = f"{origin(parts, own_port or port)}{parts.path.rstrip('/')}" + (f"/{quote(path.strip('/'))}" if path else "")
    _check_end(url, endpoint)
    return url


def _guess_scheme(text: str) -> str:
    """https, but http on this machine, where nobody serves TLS."""
    try:
        return "http" if is_loopback(urlsplit(f"//{_bracketed(text)}").hostname or "") else "https"
    except ValueError:
        return "https"


def _bracketed(text: str) -> str:
    """A bare IPv6 address in the brackets that a URL wants."""
    try:
        return f"[{text}]" if ip_address(text).version == 6 else text
    except ValueError:
        return text


def _check_text(text: str) -> None:
    """Refuse what a URL parser would take for something else."""
    if text[:1] in ("'", '"', "<"):
        raise field_error("host", "begins with a quotation mark or bracket: remove it")
    if "\\" in text:
        raise field_error("host", f"contains a backslash instead of a slash{_instead(text.replace(chr(92), '/'))}")
    if twice := re.match(_TWICE, text):
        scheme = f"{twice[1].lower()}://"
        raise field_error("host", f"has two schemes{_instead(scheme + text[twice.end() :])}")
    wrong = re.match(_SCHEME, text)
    if wrong and wrong[2] != "://" and not re.match(r"\d+(/|$)", text[wrong.end() :]):  # not http:80
        right = f"{wrong[1].lower()}://"
        raise field_error("host", f"has {wrong[0]} instead of {right}{_instead(right + text[wrong.end() :])}")


def _instead(url: str) -> str:
    """The URL to write, unless it may hold a key."""
    shown = len(url) <= _LONGEST and url.isascii() and url.isprintable() and not any(char in url for char in "@?# ")
    return f"; write {url}" if shown else ""


def _check_parts(parts: SplitResult) -> None:
    if parts.scheme not in ("http", "https"):
        raise field_error("host", f"has the scheme {parts.scheme[:20]!r}: use http:// or https://")
    host = parts.hostname or ""
    if not _may_be_host(host):
        why = "it contains a space" if any(map(str.isspace, host)) else "check what follows ://"
        raise field_error("host", f"does not name a host: {why}, and write it like https://api.example.com/v1")
    if parts.username or parts.password:
        raise field_error("host", "contains a user or password: put the API key into password")
    if parts.query or parts.fragment:
        path, end = parts.path.rstrip("/"), _endpoint_of(parts.path.rstrip("/"))
        also = f", and remove {end}" if end else ""
        base = origin(parts, parts.port) + path.removesuffix(end)
        raise field_error("host", f"contains a query: put its parameters into the extra 'query'{also}{_instead(base)}")
    if not parts.path.isascii() or any(char <= " " for char in parts.path):
        raise field_error("host", "has a space or a character that is not ASCII in its path")


def _may_be_host(name: str) -> bool:
    if ":" in name:
        return True  # urlsplit has checked what stands in brackets
    try:
        return bool(re.fullmatch(r"[A-Za-z0-9._-]+", name.encode("idna").decode()))
    except UnicodeError:
        return False


def _check_end(url: str, endpoint: str) -> None:
    """Refuse a base URL that has a part of the endpoint at its end, and an endpoint that has a part of the base URL."""
    if (twice := re.search(r"(/v\d[^/]*)\1(?=/|$)", url)) is not None:
        once = url.replace(twice[0], twice[1], 1)
        raise field_error("host", f"has {twice[1]} twice{_instead(once.removesuffix(_endpoint_of(once)))}")
    own = "/" + endpoint.strip("/")
    end = own if own != "/" and url.endswith(own) else ""
    if not end and own == DEFAULT_ENDPOINT:
        end = _endpoint_of(urlsplit(url).path)
    if end:
        base = _instead(url.removesuffix(end))
        raise field_error("host", f"ends in {end}: remove it, the endpoint is added to the base URL{base}")
    version = re.search(r"/v\d[^/]*$", url)
    if version and own.startswith(version[0] + "/"):
        rest = own.removeprefix(version[0])
        raise field_error("endpoint", f"begins with {version[0]}, but the base URL ends in it; write {rest}")


def _endpoint_of(path: str) -> str:
    """The endpoint of an API that a path ends in; empty if it ends in none."""
    page = re.search(_PAGES, path)
    return next((end for end in _ENDPOINTS if path.endswith(end)), page[1] if page else "")


def is_secret_name(name: str) -> bool:
    """Does a header or a query parameter of this name carry a secret?"""
    return re.search(_SENSITIVE_NAME, name) is not None


def maskable(value: str) -> bool:
    """May a secret value be blanked wherever it stands? Not a short one, and not a word like EMPTY."""
    return len(value) >= SHORTEST_SECRET and value.lower() not in _PLACEHOLDERS


def secret_values(name: str, value: str) -> Iterator[str]:
    """What is secret in a header or a query parameter: the value without ``Bearer`` or the like, and each cookie."""
    if not is_secret_name(name):
        return
    scheme = re.match(_AUTH_SCHEME, value)
    yield value[scheme.end() :] if scheme else value
    if "cookie" in name.lower():
        yield from (part.partition("=")[2].strip() for part in value.split(";"))
