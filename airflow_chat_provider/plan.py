"""A request as it would be sent, for a reader: a curl command, with the size of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.plain import encode
from airflow_chat_provider.outgoing import variants

if TYPE_CHECKING:
    from airflow_chat_provider.core.settings import Settings

_KEY = "CHAT_API_KEY"


def curl(request: dict[str, Any], settings: Settings) -> str:
    """The command. The key is a variable of the shell's, any other header of the connection's is left to the reader."""
    sent = variants(request, settings.base_url)[0]
    size, messages = len(encode(sent)), sent.get("messages")
    count = len(messages) if isinstance(messages, list) else 0
    headers = [shlex.quote("content-type: application/json"), *_headers(settings)]
    lines = [
        f"curl {shlex.quote(_url(settings))}",
        *(f"  -H {header}" for header in headers),
        f"  --data-binary {shlex.quote(json.dumps(sent, ensure_ascii=False, indent=1))}",
    ]
    said = f"# Not sent: model {sent.get('model')}, {count} messages, {size:,} bytes"
    return said + "\n" + " \\\n".join(lines)


def _headers(settings: Settings) -> list[str]:
    """In double quotes, in which a shell fills in its variables."""
    known = {"openai-organization": settings.organization, "openai-project": settings.project}
    found = []
    for name, value in settings.request_headers().items():
        if settings.api_key and settings.api_key in value:
            shown = value.replace(settings.api_key, f"${_KEY}")
        else:
            shown = known.get(name) or f"${name.upper().replace('-', '_')}"
        found.append(f'"{name}: {shown}"')
    return found


def _url(settings: Settings) -> str:
    url = settings.url(settings.endpoint)
    for secret in settings.secrets:
        url = url.replace(secret, "***")
    return url


def print_plan(request: Mapping[str, Any], settings: Settings) -> None:
    """To the task's output, as the user wants to see it: the one place where a prompt is shown."""
    print(curl(dict(request), settings))  # noqa: T201 - asked for by dry_run=True
