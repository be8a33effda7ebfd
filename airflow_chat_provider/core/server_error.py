"""The error bodies of the servers that speak this API, in all their shapes, and what a reader can do about each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from airflow_chat_provider.core.retry import QUOTA
from airflow_chat_provider.core.sanitize import sanitize
from airflow_chat_provider.core.scrub import printable
from airflow_chat_provider.core.settings import Settings

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
_LONGEST_CODE = 200  # characters


class ServerError(NamedTuple):
    """What a server said: message, code (such that XCom can keep it), and code and type in lower case to compare."""

    message: str = ""
    code: str | int | None = None
    codes: frozenset[str] = frozenset()


def read_error(body: Any) -> ServerError:
    """The error in a body: nested or flat object, array (Gemini), FastAPI's ``detail``, a string; else an empty one."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return ServerError()
    inner = body.get("error", body)
    if isinstance(inner, str):
        return ServerError(inner)
    if not isinstance(inner, dict):
        return ServerError()
    code = inner.get("code") if inner.get("code") is not None else inner.get("type")
    names = frozenset(filter(None, (_word(inner.get(key)).lower() for key in ("code", "type", "status"))))
    return ServerError(
        _message(inner.get("message") or inner.get("detail") or inner.get("msg")),
        sanitize(code[:_LONGEST_CODE] if isinstance(code, str) else code)[0] if isinstance(code, str | int) else None,
        names,
    )


def _word(value: Any) -> str:
    """A text or a number, cut to a code's length; anything else is none."""
    return str(value)[:_LONGEST_CODE] if isinstance(value, str | int | float) else ""


def _message(value: Any) -> str:
    """A message's text; of validation details the place and the complaint, never the ``input`` that they quote."""
    for _ in range(4):
        if not isinstance(value, Mapping):
            break
        value = value.get("message") or value.get("detail") or value.get("msg")
    if isinstance(value, str):
        return value
    return "; ".join(filter(None, map(_detail, value[:3]))) if isinstance(value, list) else ""


def _detail(item: Any) -> str:
    if not isinstance(item, Mapping):
        return item if isinstance(item, str) else ""
    place = ".".join(map(_word, item["loc"][:20])) if isinstance(item.get("loc"), list) else ""
    said = item.get("msg") or item.get("message")
    return ": ".join(filter(None, (place, said if isinstance(said, str) else _word(said))))


def advice(status: int, said: ServerError, settings: Settings) -> str:
    """What to do about a status, and the status: the beginning of an error message."""
    names = {"conn": repr(settings.conn_id), "base": settings.base_url}
    code = f", {printable(str(said.code)[:64])}" if said.code is not None and str(said.code) != str(status) else ""
    return f"{_todo(status, said, settings).format(**names)} (HTTP {status}{code})"


def _todo(status: int, said: ServerError, settings: Settings) -> str:
    if status == 401:
        have = "Check the API key (password)" if settings.api_key else "Set an API key (password, now empty)"
        return have + " of connection {conn}"
    if status == 429 and said.codes & QUOTA:
        return "Raise the quota or pay the bill of the account behind connection {conn}; waiting does not help"
    if 300 <= status < 400:
        return "Check the base URL {base} of connection {conn}: it redirects, and redirects are not followed"
    if status >= 500:
        return "Try again later; the server at {base} failed"
    return _ADVICE.get(status, "Correct the request or connection {conn}")
