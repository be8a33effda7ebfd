"""What ``dry_run=True`` prints: the request as it would be sent, as a curl command, and its size."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from airflow_chat_provider.core.connection.settings import is_secret_name
from airflow_chat_provider.core.request.attachments import NO_ATTACHMENTS, Attachments, shown
from airflow_chat_provider.core.request.json_values import encode
from airflow_chat_provider.transport.server_memory import variants

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings

_KEY = "CHAT_API_KEY"


def curl(request: dict[str, Any], settings: Settings, attachments: Attachments = NO_ATTACHMENTS) -> str:
    """The command. The key and any other secret header are shell variables in it; attachments are named before it."""
    sent = variants(request, settings.base_url)[0]
    size, messages = len(encode(sent)), sent.get("messages")
    count = len(messages) if isinstance(messages, list) else 0
    headers = [shlex.quote("content-type: application/json"), *_headers(settings)]
    lines = [
        f"curl {shlex.quote(_url(settings))}",
        *(f"  -H {header}" for header in headers),
        f"  --data-binary {shlex.quote(json.dumps(sent, ensure_ascii=False, indent=1))}",
    ]
    summary = f"# Not sent: model {sent.get('model')}, {count} messages, {size:,} bytes"
    return "\n".join((summary, *_files(attachments), " \\\n".join(lines)))


def _files(attachments: Attachments) -> list[str]:
    """A line for each file: the command has its path alone. Raises for a file that cannot be attached."""
    if not attachments:
        return []
    from airflow_chat_provider.transport.attachments import look

    lines = (f"#   {shown(one.path)}: {one.kind.media}, {one.size:,} bytes" for one in look(attachments))
    return ["# A task sends these files where the command has only [attachment: path]:", *lines]


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
