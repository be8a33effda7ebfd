"""How the batch APIs of vendors differ from OpenAI's: the one table of it.

Most speak OpenAI's form: OpenAI and Azure OpenAI themselves, Groq, and gateways such as LiteLLM's proxy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings


class Dialect(NamedTuple):
    """What a vendor's batch API is told, and where.

    ``endpoint`` is the one that the requests of a file are for. ``fields`` go with a file, besides its ``purpose``.
    ``metadata``: does it keep what it is told about a batch?
    """

    base_url: str
    endpoint: str
    files: str = "/files"
    purpose: str = "batch"
    fields: tuple[tuple[str, str], ...] = ()
    metadata: bool = True


_TOGETHER = frozenset({"api.together.xyz", "api.together.ai"})
_AZURE_DEPLOYMENT = r"(?P<base>.+/openai)/deployments/[^/]+"
_VERSION = r".*(?P<version>/v\d[^/]*)"


def dialect_at(settings: Settings) -> Dialect:
    """How to speak to the batch API of a connection's server."""
    base, endpoint = settings.base_url, "/" + settings.endpoint.strip("/")
    if deployment := re.fullmatch(_AZURE_DEPLOYMENT, base):  # batches belong to the resource
        return Dialect(deployment["base"], endpoint)
    if base.endswith("/openai"):  # Azure with an api-version in its query
        return Dialect(base, endpoint)
    version = re.fullmatch(_VERSION, urlsplit(base).path)
    dialect = Dialect(base, (version["version"] if version else "/v1") + endpoint)
    if (urlsplit(base).hostname or "") in _TOGETHER:
        named = (("file_name", "requests.jsonl"), ("file_type", "jsonl"))
        return dialect._replace(files="/files/upload", purpose="batch-api", fields=named, metadata=False)
    return dialect
