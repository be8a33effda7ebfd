"""What the user can do about an error that a server sent."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from airflow_chat_provider.core.connection.settings import Settings, origin, root_hint
from airflow_chat_provider.core.server import verdict
from airflow_chat_provider.core.server.error_body import ServerError, failed_generation, read_error
from airflow_chat_provider.core.server.scrub import printable
from airflow_chat_provider.core.server.verdict import Reason
from airflow_chat_provider.core.types import JSON

_ADVICE = {
    400: "Correct the request",
    402: "Add credit to the account behind connection {conn}",
    403: "Ask for access: the key of connection {conn} is not allowed to do this",
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
# A URL that may stand in an error message, and in a connection.
_SHOWABLE = r"(?a)(?=.{1,200}\Z)https?://[\w.:/\[\]~-]+"
_NOT_FOUND = frozenset({"model_not_found", "model_not_available"})
# nginx and Cloudflare, Apache, Go, HAProxy and others, on a port where they speak TLS.
_WANTS_TLS = (
    r"(?i)plain http request|http request to an? https|plain http to an ssl|https port|ssl-enabled"
    r"|requires? (?:tls|https)"
)
_LOOKED_AT = 4096  # characters of a page


def advice(
    status: int,
    said: ServerError,
    settings: Settings,
    *,
    body: JSON = None,
    location: str = "",
    judged: int | None = None,
    reason: Reason | None = None,
) -> str:
    """The beginning of an error message: what to do about a status, and the status in parentheses.

    ``location``: where the server redirects to; it quotes nothing. ``judged``: the status that the error in a 2xx
    stands for. ``reason``: what ``why_final`` found; it is looked for here if None.
    """
    code = printable(str(said.code)[:64]) if said.code is not None and str(said.code) != str(status) else ""
    if judged is not None:
        at, status = f"HTTP {status} with the error {code or judged}", judged
    else:
        at = f"HTTP {status}, {code}" if code else f"HTTP {status}"
    if 300 <= status < 400:
        return f"{_redirected(location, settings)} ({at})"
    if reason is None:
        reason = verdict.why_final(status, said.codes, verdict.Words(said.message), None)
    names = {"conn": repr(settings.conn_id), "base": settings.base_url}
    todo = _todo(status, said, settings, body, reason).format(**names)
    if judged == 429 and not reason:
        todo += ": it is a rate limit"
    return f"{todo} ({at})"


def _todo(status: int, said: ServerError, settings: Settings, body: JSON, reason: Reason) -> str:
    if status < 500 and verdict.is_spoilt(said.codes, said.message):
        return verdict.CUT_ADVICE if verdict.is_cut(said.message, failed_generation(body)) else verdict.SPOILT_ADVICE
    if reason:
        return _TODO_FINALLY[reason]
    if status == 401:
        if not settings.api_key:
            return "Set an API key: the password of connection {conn} is empty"
        return "Check the API key (password) of connection {conn}"
    if status >= 500:
        return "Try again later; the server at {base} failed"
    if settings.base_url.startswith("http:") and re.search(_WANTS_TLS, _text(body)):
        return "Write https:// in the base URL (host) of connection {conn}: the server at {base} expects TLS"
    todo = _ADVICE.get(status, "Correct the request or connection {conn}")
    if status in (404, 405):  # the path of the base URL may be missing or wrong
        hint = "" if said.codes & _NOT_FOUND else root_hint(settings.base_url)
        page = "a web page came, not an API's answer" if _text(body).lstrip()[:1] == "<" else ""
        todo += "".join(f"; {part}" for part in (hint, page) if part)
    return todo


def _text(body: JSON) -> str:
    if isinstance(body, dict):
        body = read_error(body).message
    return body[:_LOOKED_AT] if isinstance(body, str) else ""


def _redirected(location: str, settings: Settings) -> str:
    """What to set where the server redirects. The Location is trusted only if it leads to the same endpoint."""
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
    if not location or not target.hostname or not re.fullmatch(_SHOWABLE, new):
        return f"{check}, {why}"
    if not end:
        return f"{check} to {begin}, {why}"
    if new == base:
        new_end = target.path[len(path) - len(end) :]
        return f"Write {new_end} in the extra 'endpoint' {of}: {base} redirects there, {why}"
    return f"Write {new} in the base URL (host) {of}: {base} redirects there, {why}"
