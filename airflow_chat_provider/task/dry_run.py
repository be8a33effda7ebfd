"""What ``dry_run=True`` prints and returns: the request as it would be sent, as a curl command, and its size."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from airflow_chat_provider.core.connection.settings import is_secret_name
from airflow_chat_provider.core.json_text.writing import sanitize
from airflow_chat_provider.core.request.attachments import NO_ATTACHMENTS, Attachments, shown
from airflow_chat_provider.core.request.json_values import encode
from airflow_chat_provider.core.spelling import plural
from airflow_chat_provider.transport.server_memory import variants

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings

_KEY = "CHAT_API_KEY"


def plan(request: dict[str, Any], settings: Settings, attachments: Attachments = NO_ATTACHMENTS) -> dict[str, Any]:
    """What would be sent, as a value that XCom can keep. The key and any other secret header are variables in ``curl``.

    ``bytes`` is the size of the request as it travels, without attachments; those have their own. Raises for a file
    that cannot be attached.
    """
    sent = variants(request, settings.base_url)[0]
    messages = sent.get("messages")
    lines = [
        f"curl {shlex.quote(_url(settings))}",
        *(f"  -H {header}" for header in (shlex.quote("content-type: application/json"), *_headers(settings))),
        f"  --data-binary {shlex.quote(json.dumps(sent, ensure_ascii=False, indent=1))}",
    ]
    found = {
        "dry_run": True,
        "url": _url(settings),
        "model": sent.get("model"),
        "message_count": len(messages) if isinstance(messages, list) else 0,
        "bytes": len(encode(sent)),
        "request": sent,
        "curl": " \\\n".join(lines),
    }
    if attachments:
        from airflow_chat_provider.transport.attachments import look

        found["attachments"] = [
            {"path": shown(one.path), "type": one.kind.media, "bytes": one.size} for one in look(attachments)
        ]
    return dict(sanitize(found)[0])


def told(plan: dict[str, Any]) -> str:
    """A plan for the log: one line, then the command."""
    messages, size = plural(plan["message_count"], "message"), plural(plan["bytes"], "byte")
    model = "" if plan["model"] is None else f"model {plan['model']}, "
    attached = plan.get("attachments", ())
    files = "".join(f"#   {one['path']}: {one['type']}, {plural(one['bytes'], 'byte')}\n" for one in attached)
    if files:
        files = "# A task sends these files where the command has only [attachment: path]:\n" + files
    return f"# Not sent: {model}{messages}, {size}\n{files}{plan['curl']}"


def _headers(settings: Settings) -> list[str]:
    """Each header, quoted for a shell. A secret is a variable in double quotes, where the shell expands it."""
    found = []
    for name, value in settings.request_headers().items():
        if not is_secret_name(name) and not any(secret in value for secret in settings.secrets):
            found.append(shlex.quote(f"{name}: {value}"))
        elif settings.api_key and value in (settings.api_key, f"Bearer {settings.api_key}"):
            found.append(f'"{name}: {value.removesuffix(settings.api_key)}${_KEY}"')
        else:
            found.append(f'"{name}: ${name.upper().replace("-", "_")}"')
    return found


def _url(settings: Settings) -> str:
    """The URL, with ``***`` for every secret in it, however short."""
    url = settings.base_url + "/" + settings.endpoint.lstrip("/")
    for secret in settings.secrets:
        url = url.replace(secret, "***")
    shown = (
        f"{quote_plus(name)}={'***' if is_secret_name(name) else quote_plus(value)}"
        for name, value in settings.query.items()
    )
    return "?".join(filter(None, (url, "&".join(shown))))
