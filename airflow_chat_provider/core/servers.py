"""Which server a base URL belongs to, as far as a rule depends on it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

_AZURE = (".openai.azure.com", ".openai.azure.us", ".services.ai.azure.com", ".cognitiveservices.azure.com")


class Server(NamedTuple):
    """``known`` is False where the connection, and so the server, is not known yet."""

    known: bool = False
    openai: bool = False
    azure: bool = False
    anthropic: bool = False
    dashscope: bool = False
    deepseek: bool = False
    gemini: bool = False
    groq: bool = False
    mistral: bool = False
    moonshot: bool = False
    ollama: bool = False
    cerebras: bool = False


@lru_cache(maxsize=64)
def server_at(base_url: str | None) -> Server:
    if not base_url:
        return Server()
    host, port = _host_and_port(base_url)
    azure = host.endswith(_AZURE)
    return Server(
        known=True,
        # us.api.openai.com and its like keep data in a region; they are the same API.
        openai=azure or host == "api.openai.com" or host.endswith(".api.openai.com"),
        azure=azure,
        anthropic=host == "api.anthropic.com",
        dashscope=host.startswith("dashscope") and host.endswith(".aliyuncs.com"),
        deepseek=host == "api.deepseek.com",
        gemini=host == "generativelanguage.googleapis.com" or host.endswith("aiplatform.googleapis.com"),
        groq=host == "api.groq.com",
        mistral=host == "api.mistral.ai",
        moonshot=host in ("api.moonshot.ai", "api.moonshot.cn"),
        # A local Ollama has no host name of its own, only the port that it listens on by default.
        ollama=host == "ollama.com" or port == 11434,
        cerebras=host == "api.cerebras.ai",
    )


def _host_and_port(base_url: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(base_url if "://" in base_url else f"//{base_url}")
        return (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "", None
