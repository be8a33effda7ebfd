"""What a reader can do about what a server says of an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from airflow_chat_provider.core.connection.base_url import origin, root_hint
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.server.error_body import ServerError, read_error
from airflow_chat_provider.core.server.generation import ADVICE, CUT_ADVICE, is_cut, is_spoilt
from airflow_chat_provider.core.server.scrub import printable
from airflow_chat_provider.core.server.verdict import Reason, Words, why_final

__all__ = ["ServerError", "advice", "read_error"]

_ADVICE = {
    400: "Correct the request",
    402: "Add credit to the account behind connection {conn}",
    403: "Ask for access: the key of connection {conn} may not do this",
    404: "Check the base URL {base} of connection {conn} and the model",
    405: "Check the base URL {base} and endpoint of connection {conn}",
    407: "Check the user and password in the proxy of connection {conn}",
    408: "Try again later",
    409: "Try again later",
    413: "Send a smaller request",
    422: "Correct the request",
    429: "Wait, or lower the rate of requests",
    498: "Wait, or lower the rate of requests",
}
_TODO_FINALLY: dict[Reason, str] = {
    "account": "Raise the quota or pay the bill of the account behind connection {conn}; waiting does not help",
    "size": "Send a smaller request or a lower token limit, or raise the limit of the account behind connection "
    "{conn}; waiting does not help",
}
_LONGEST_URL = 200
_NOT_FOUND = frozenset({"model_not_found", "model_not_available"})
# nginx and Cloudflare, Apache, Go, HAProxy and others, on a port where they speak TLS.
_WANTS_TLS = re.compile(
    r"plain http request|http request to an? https|plain http to an ssl|https port|ssl-enabled|requires? (?:tls|https)",
    re.IGNORECASE,
)
_LOOKED_AT = 4096  # characters of a page


def advice(
    status: int,
    said: ServerError,
    settings: Settings,
    *,
    body: Any = None,
    location: str = "",
    judged: int | None = None,
    reason: Reason | None = None,
) -> str:
    """What to do about a status, and the status: the beginning of an error message.

    ``location``: where the server redirects, without a quotation. ``judged``: the status that the error in a 2xx
    stands for. ``reason``: what ``why_final`` found, where that was asked.
    """
    code = printable(str(said.code)[:64]) if said.code is not None and str(said.code) != str(status) else ""
    if judged is not None:
        at, status = f"HTTP {status} with the error {code or judged}", judged
    else:
        at = f"HTTP {status}, {code}" if code else f"HTTP {status}"
    if 300 <= status < 400:
        return f"{_redirected(location, settings)} ({at})"
    if reason is None:
        reason = why_final(status, said.codes, Words(said.message), None)
    names = {"conn": repr(settings.conn_id), "base": settings.base_url}
    todo = _todo(status, said, settings, body, reason).format(**names)
    if judged == 429 and not reason:
        todo += ": it is a rate limit"
    return f"{todo} ({at})"


def _todo(status: int, said: ServerError, settings: Settings, body: Any, reason: Reason) -> str:
    if status < 500 and is_spoilt(said.codes, said.message):
        return CUT_ADVICE if is_cut(said.message, body) else ADVICE
    if reason:
        return _TODO_FINALLY[reason]
    if status == 401:
        have = "Check the API key (password)" if settings.api_key else "Set an API key (password, now empty)"
        return have + " of connection {conn}"
    if status >= 500:
        return "Try again later; the server at {base} failed"
    if settings.base_url.startswith("http:") and _WANTS_TLS.search(_text(body)):
        return "Write https:// in the base URL (host) of connection {conn}: the server at {base} wants TLS"
    todo = _ADVICE.get(status, "Correct the request or connection {conn}")
    return todo + _of_the_path(said, settings, body) if status in (404, 405) else todo


def _of_the_path(said: ServerError, settings: Settings, body: Any) -> str:
    """What more there is to say where nothing is found: the path of the base URL may be missing or wrong."""
    hint = "" if said.codes & _NOT_FOUND else root_hint(settings.base_url)
    page = "a web page came, not the answer of an API" if _text(body).lstrip()[:1] == "<" else ""
    return "".join(f"; {part}" for part in (hint, page) if part)


def _text(body: Any) -> str:
    if isinstance(body, Mapping):
        body = read_error(body).message
    return body[:_LOOKED_AT] if isinstance(body, str) else ""


def _redirected(location: str, settings: Settings) -> str:
    """What to set where the server redirects: by its Location, as far as that is the way to the same endpoint."""
    base, why = settings.base_url, "and redirects are not followed"
    of = f"of connection {settings.conn_id!r}"
    check = f"Check the base URL {base} {of}: it redirects"
    try:
        target = urlsplit(urljoin(settings.url(settings.endpoint), location))
        begin = origin(target, target.port)
    except ValueError:
        return f"{check}, {why}"
    path = target.path.rstrip("/")
    ends = (end.rstrip("/") for end in (settings.endpoint, "/models"))
    end = next((end for end in ends if end and path.endswith(end)), "")
    new = begin + path.removesuffix(end)
    if not location or not target.hostname or not _showable(new):
        return f"{check}, {why}"
    if not end:
        return f"{check} to {begin}, {why}"
    if new == base:
        return (
            f"Write {target.path[len(path) - len(end) :]} in the extra 'endpoint' {of}: {base} redirects there, {why}"
        )
    return f"Write {new} in the base URL (host) {of}: {base} redirects there, {why}"


def _showable(url: str) -> bool:
    """Is it a URL that may stand in an error, and in a connection?"""
    return len(url) <= _LONGEST_URL and re.fullmatch(r"https?://[\w.:/\[\]~-]+", url, re.ASCII) is not None
