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

# {at} is the status. It stands where a reader who sees no more than 100 characters (Airflow's grid) still sees it, so
# what may be long, as a base URL, comes after it.
_ADVICE = {
    400: "Correct the request {at}",
    402: "Add credit to the account behind connection {conn} {at}",
    403: "Ask for access: the key of connection {conn} is not allowed to do this {at}",
    404: "Check the base URL and the model {at}: {base} of connection {conn} does not have one of them",
    405: "Check the base URL and the endpoint {at}: {base} of connection {conn} takes no such requests",
    407: "Check the user and password in the proxy of connection {conn} {at}",
    408: "Try again later {at}",
    409: "Try again later {at}",
    413: "Send a smaller request {at}",
    422: "Correct the request {at}",
    429: "Wait, or lower the rate of requests: it is a rate limit {at}",
    498: "Wait, or lower the rate of requests {at}",
}
_TODO_FINALLY: dict[Reason, str] = {
    "account": "Raise the quota or pay the bill {at}, for the account behind connection {conn}; waiting does not help",
    "size": "Send a smaller request or a lower token limit {at}, or raise the limit of the account behind connection "
    "{conn}; waiting does not help",
}
_NO_MODEL = "Check the model {model} {at}: the server at {base} of connection {conn} does not offer it"
_TOO_LONG = "Shorten the messages, or choose a model with a larger context {at}"
_LONGEST_MODEL = 60  # characters in a message
# A URL that may stand in an error message, and in a connection.
_SHOWABLE = r"(?a)(?=.{1,200}\Z)https?://[\w.:/\[\]~-]+"
_NOT_FOUND = frozenset({"model_not_found", "model_not_available", "model_not_found_error"})
# vLLM, Ollama, LiteLLM, Anthropic and others, whose code says no more than the status.
_SAYS_NO_MODEL = (
    r"(?i)\bmodel\b.{0,100}\b(?:does not exist|not exist|not found|not available|not supported)"
    r"|\b(?:no such|unknown|invalid) model\b|\Amodel: "
)
_CONTEXT = frozenset({"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded"})
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
    model: str = "",
) -> str:
    """The beginning of an error message: what to do about a status, and the status in parentheses.

    ``location``: where the server redirects to; it quotes nothing. ``judged``: the status that the error in a 2xx
    stands for. ``reason``: what ``why_final`` found; it is looked for here if None. ``model``: the request's.
    """
    at = f"({what_came(status, said, judged)})"
    status = status if judged is None else judged
    if 300 <= status < 400:
        return _redirected(location, settings, at)
    if reason is None:
        reason = verdict.why_final(status, said.codes, verdict.Words(said.message), None)
    names = {"conn": repr(settings.conn_id), "base": settings.base_url, "at": at}
    names["model"] = repr(printable(model[:_LONGEST_MODEL])) if model else "of the request"
    todo = _todo(status, said, settings, body, reason).format(**names)
    if status in (404, 405) and not _lacks_model(status, said):  # the path of the base URL may be missing or wrong
        page = "a web page came, not an API's answer" if _text(body).lstrip()[:1] == "<" else ""
        todo += "".join(f"; {part}" for part in (root_hint(settings.base_url), page) if part)
    return todo


def what_came(status: int, said: ServerError, judged: int | None = None) -> str:
    """``HTTP 429, rate_limit_exceeded``: what a server answered instead of a completion."""
    code = printable(str(said.code)[:64]) if said.code is not None and str(said.code) != str(status) else ""
    if judged is not None:
        return f"HTTP {status} with the error {code or judged}"
    return f"HTTP {status}, {code}" if code else f"HTTP {status}"


def _todo(status: int, said: ServerError, settings: Settings, body: JSON, reason: Reason) -> str:
    if status < 500 and verdict.is_spoilt(said.codes, said.message):
        is_cut = verdict.is_cut(said.message, failed_generation(body))
        return f"{verdict.CUT_ADVICE if is_cut else verdict.SPOILT_ADVICE} {{at}}"
    if reason:
        return _TODO_FINALLY[reason]
    if status == 401:
        if not settings.api_key:
            return "Set an API key: the password of connection {conn} is empty {at}"
        return "Check the API key (password) of connection {conn} {at}"
    if status >= 500:
        return "Try again later: the server failed {at}, at {base}"
    if settings.base_url.startswith("http:") and re.search(_WANTS_TLS, _text(body)):
        return "Write https:// in the base URL (host): the server expects TLS {at}; connection {conn}, {base}"
    if _lacks_model(status, said):
        return _NO_MODEL
    if said.codes & _CONTEXT:
        return _TOO_LONG
    return _ADVICE.get(status, "Correct the request or connection {conn} {at}")


def _lacks_model(status: int, said: ServerError) -> bool:
    """Is it the model that the server does not have, and not the path?"""
    if status not in (400, 403, 404):
        return False
    return bool(said.codes & _NOT_FOUND) or (status == 404 and re.search(_SAYS_NO_MODEL, said.message) is not None)


def _text(body: JSON) -> str:
    if isinstance(body, dict):
        body = read_error(body).message
    return body[:_LOOKED_AT] if isinstance(body, str) else ""


def _redirected(location: str, settings: Settings, at: str) -> str:
    """What to set where the server redirects. The Location is trusted only if it leads to the same endpoint."""
    base = settings.base_url
    why = f"redirects are not followed; connection {settings.conn_id!r}, {base}"
    check = f"Check the base URL {at}: it redirects"
    try:
        target = urlsplit(urljoin(settings.url(settings.endpoint), location))
        begin = origin(target, target.port)
    except ValueError:
        return f"{check}, and {why}"
    path = target.path.rstrip("/")
    ends = (end.rstrip("/") for end in (settings.endpoint, "/models"))
    end = next((end for end in ends if end and path.endswith(end)), "")
    new = begin + path.removesuffix(end)
    if not location or not target.hostname or not re.fullmatch(_SHOWABLE, new):
        return f"{check}, and {why}"
    if not end:
        return f"{check} to {begin}, and {why}"
    if new == base:
        new_end = target.path[len(path) - len(end) :]
        return f"Write {new_end} in the extra 'endpoint': the server redirects there {at}, and {why}"
    return f"Write {new} in the base URL (host): the server redirects there {at}, and {why}"
