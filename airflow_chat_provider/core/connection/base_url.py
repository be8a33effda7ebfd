"""The base URL of a connection, however it was written; what is wrong with one, and what to write instead."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, quote, urlsplit

from airflow_chat_provider.core.connection.fields import DEFAULT_ENDPOINT, field_error

DEFAULT_BASE_URL = "https://api.openai.com/v1"
# What people copy from a page about an API, with the base URL in front of it.
_ENDPOINTS = (DEFAULT_ENDPOINT, "/completions", "/responses", "/embeddings", "/messages", "/moderations")
_PAGES = re.compile(r"/(?:v\d[^/]*|api)(/chat|/models)$")  # not /models alone: that is a base URL of Azure's
_TWICE = re.compile(r"[a-z]+:/+(https?)(?::/*|/+)(?=[^/])", re.IGNORECASE)  # https://https://
_SCHEME = re.compile(r"(https?)([:;.]?[/]{1,2}|[:;])(?![/:])", re.IGNORECASE)  # and what is typed for ://
_ROOTS = {
    "azure.com": "/openai/v1",
    "groq.com": "/openai/v1",
    "openrouter.ai": "/api/v1",
    "generativelanguage.googleapis.com": "/v1beta/openai",
}
_LONGEST = 200  # characters of a URL in an error


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
    if twice := _TWICE.match(text):
        scheme = f"{twice[1].lower()}://"
        raise field_error("host", f"has two schemes{_instead(scheme + text[twice.end() :])}")
    wrong = _SCHEME.match(text)
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
    page = _PAGES.search(path)
    return next((end for end in _ENDPOINTS if path.endswith(end)), page[1] if page else "")
