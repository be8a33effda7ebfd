"""The "Test" button of a connection. It sends nothing that costs anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.call.exchange import judge, with_server_words
from airflow_chat_provider.core.call.steps import Call, Send
from airflow_chat_provider.core.connection.settings import root_hint
from airflow_chat_provider.core.errors import TransportError, TransportTimeout
from airflow_chat_provider.core.server.error_body import read_error
from airflow_chat_provider.core.server.scrub import printable
from airflow_chat_provider.core.spelling import plural

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.transport.client import Client

_TIMEOUT = 20.0
_NO_SUCH_PAGE = (404, 405, 501)


def probe(settings: Settings, client: Client) -> tuple[bool, str]:
    """``(works, what was found)``; the text never holds the key or a body.

    If the server has no list of models, the endpoint is sent the request ``{}``. An API refuses that before a model
    sees it, because it has no messages; with a wrong base URL, there is no such page. A GET would not tell the two
    apart: many APIs answer a GET of their endpoint with 404.
    """
    timeout = min(settings.timeout, _TIMEOUT)
    models = _reply(settings, client, Send(timeout, 1), "GET", "/models")
    listed = _listed(models)
    if listed is not None:
        return True, _told(settings, listed)
    if not _may_lack_the_list(models):
        return False, _why(settings, models, timeout)
    completion = _reply(settings, client, Send(timeout, 1, b"{}"), "POST", None)
    if _is_an_apis(completion):
        return True, _told_without_list(settings, models, completion)
    if completion.status in _NO_SUCH_PAGE and models.status in _NO_SUCH_PAGE:
        return False, _told_of_the_path(settings, models.status)
    return False, _why(settings, models if completion.status in _NO_SUCH_PAGE else completion, timeout)


def _reply(settings: Settings, client: Client, send: Send, method: str, path: str | None) -> Reply:
    """One attempt, judged as that of a call would be."""
    live, call = client.open(send, {}, method, path), Call(settings)
    outcome = live if isinstance(live, TransportError) else live.drain()
    return with_server_words(judge(outcome, call, now=0.0), call)


def _why(settings: Settings, reply: Reply, timeout: float) -> str:
    if isinstance(reply.error, TransportTimeout) and reply.error.sent:
        return f"{settings.base_url} was reached, but did not answer within {timeout:g} s"
    return str(reply.error or "no answer")


def _listed(reply: Reply) -> list[Any] | None:
    """The models, from an object (OpenAI) or an array (Together); None if the reply is neither."""
    if not 200 <= (reply.status or 0) < 300:
        return None
    body = reply.body
    found = body.get("data") if isinstance(body, dict) else body
    is_list = isinstance(found, list) and (isinstance(body, dict) or any(map(_name, found)))
    return found if is_list else None


def _name(item: Any) -> str | None:
    name = item.get("id") if isinstance(item, dict) else None
    return name if isinstance(name, str) else None


def _may_lack_the_list(reply: Reply) -> bool:
    """Is it worth trying the endpoint? Not if the key was refused, the server is down, or an HTML page came."""
    status = reply.status or 0
    return status in _NO_SUCH_PAGE or (200 <= status < 300 and isinstance(reply.body, dict))


def _is_an_apis(reply: Reply) -> bool:
    """Is this how a chat completions API answers a request without messages?"""
    status, body = reply.status or 0, reply.body
    if isinstance(reply.error, TransportError):
        return False
    if status in (400, 422, 500):  # 500: the endpoint exists, and fails over the empty request
        return not (isinstance(body, str) and body.lstrip()[:1] == "<")
    if not isinstance(body, dict):
        return False
    if status == 404:
        return "model" in read_error(body).message.lower()
    return 200 <= status < 300 and ("choices" in body or "error" in body)


def _told(settings: Settings, data: list[Any]) -> str:
    names = [name for name in map(_name, data) if name is not None]
    listed = ", ".join(printable(name[:64]) for name in names[:5]) + (", ..." if len(names) > 5 else "")
    if settings.model and names and settings.model not in names:
        return f"{settings.base_url} answers, but does not list the model {settings.model!r}; it has {listed}"
    return f"{settings.base_url} answers with {plural(len(names), 'model')}: {listed}"


def _told_without_list(settings: Settings, models: Reply, completion: Reply) -> str:
    endpoint = "/" + settings.endpoint.strip("/")
    lost = f", so the model {settings.model!r} was not looked for" if settings.model else ""
    return (
        f"{settings.base_url} answers, but has no list of models (HTTP {models.status} for /models){lost}: {endpoint} "
        f"answered a request without messages with HTTP {completion.status}"
    )


def _told_of_the_path(settings: Settings, status: int | None) -> str:
    found = f"{settings.base_url} was reached, but has no /models (HTTP {status})"
    hint = root_hint(settings.base_url)
    return f"{found}; {hint}" if hint else found
