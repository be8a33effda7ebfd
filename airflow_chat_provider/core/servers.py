"""Which server a base URL belongs to, and what it accepts: the one table that rules and messages depend on.

An entry is here only if the server's documentation, its source or a report says so. To add a server, add a row.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

ANSWER_PARTS = ("thinking", "redacted_thinking", "reference", "image_url")
"""Kinds of parts in answers, beside text and refusal, that the servers that send them take back."""


class Server(NamedTuple):
    """What a server accepts and refuses. The default is a compatible server of which nothing else is known.

    ``known`` is False as long as the connection, and so the server, is not known.
    """

    name: str = "this server"
    known: bool = True
    openai: bool = False  # OpenAI's API, also Azure's: refuses every name and value that its schema does not have
    azure: bool = False
    # The fields that it takes in the assistant's messages beside OpenAI's own; None: it ignores what it does not know.
    only_message_fields: tuple[str, ...] | None = None
    message_parts: tuple[str, ...] = ()  # of ANSWER_PARTS, those that it takes back, if it has only_message_fields
    function_names: str | None = None  # a pattern for names of functions that it takes beside those of OpenAI
    strict_function_names: bool = False  # refuses other names of functions
    dollar_names: bool = False  # has tools of its own, whose names begin with "$"
    nine_letter_ids: bool = False  # takes only ids of calls that are nine letters and digits
    pairs_calls: bool = False  # refuses a call without its answer, and an answer without its call
    needs_content: bool = False  # refuses an assistant message that neither says nor calls anything
    needs_switches: bool = False  # refuses top_logprobs without logprobs, and stream_options without stream
    needs_json_word: bool = False  # refuses json_object if no message has the word JSON in it
    one_choice: bool = False  # refuses n above 1
    no_blank_stop: bool = False  # refuses a stop sequence of white space
    no_image_urls: bool = False  # reads images from data: URIs only


_UNKNOWN = Server(known=False)
_OTHER = Server()
# "Unrecognized request argument", "Additional properties are not allowed".
_OPENAI = Server("OpenAI", openai=True, only_message_fields=())
_AZURE = _OPENAI._replace(azure=True)
_AZURE_HOSTS = (".openai.azure.com", ".openai.azure.us", ".services.ai.azure.com", ".cognitiveservices.azure.com")
_GEMINI = Server("Gemini", function_names=r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_MOONSHOT = Server("Moonshot", strict_function_names=True, dollar_names=True)
_OLLAMA = Server("Ollama", needs_content=True, no_image_urls=True)
_DASHSCOPE = Server("DashScope", needs_json_word=True)
_BY_HOST = {
    "api.openai.com": _OPENAI,
    "api.anthropic.com": Server(
        "Anthropic",
        function_names=r"[a-zA-Z0-9_-]{1,128}",
        strict_function_names=True,
        pairs_calls=True,
        one_choice=True,
        no_blank_stop=True,
    ),
    # wrong_api_format for reasoning_content and reasoning_details; `reasoning` is taken (QwenLM/qwen-code#11045).
    "api.cerebras.ai": Server("Cerebras", only_message_fields=("reasoning",)),
    "api.deepseek.com": Server("DeepSeek", strict_function_names=True, pairs_calls=True, needs_switches=True),
    # "property 'reasoning_content' is unsupported" (janhq/jan#8136); groq-python's messages have `reasoning`.
    "api.groq.com": Server("Groq", only_message_fields=("reasoning",), needs_json_word=True, one_choice=True),
    # 422 extra_forbidden for assistant.reasoning_content (charmbracelet/crush#1590, BerriAI/litellm#30835); its own
    # thinking parts are taken (vercel/ai#17930).
    "api.mistral.ai": Server(
        "Mistral",
        only_message_fields=(),
        message_parts=ANSWER_PARTS,
        strict_function_names=True,
        nine_letter_ids=True,
        pairs_calls=True,
    ),
    "api.moonshot.ai": _MOONSHOT,
    "api.moonshot.cn": _MOONSHOT,
    "generativelanguage.googleapis.com": _GEMINI,
    "ollama.com": _OLLAMA,
}
_OLLAMA_PORT = 11434  # a local Ollama has no host name of its own, only the port that it listens on by default


@lru_cache(maxsize=64)
def server_at(base_url: str | None) -> Server:
    """The server at a base URL; for None or "" one that is not ``known``."""
    if not base_url:
        return _UNKNOWN
    try:
        parts = urlsplit(base_url if "://" in base_url else f"//{base_url}")
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return _OTHER
    if host in _BY_HOST:
        return _BY_HOST[host]
    if host.endswith(".api.openai.com"):  # us.api.openai.com and its like keep data in a region
        return _OPENAI
    if host.endswith(_AZURE_HOSTS):
        return _AZURE
    if host.startswith("dashscope") and host.endswith(".aliyuncs.com"):
        return _DASHSCOPE
    if host.endswith("aiplatform.googleapis.com"):
        return _GEMINI
    return _OLLAMA if port == _OLLAMA_PORT else _OTHER


# What OpenTelemetry's conventions call the providers whose hosts these are. They call all that speak OpenAI's dialect
# "openai" if no more is known.
_PROVIDERS = {
    "api.anthropic.com": "anthropic",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
}
_PROVIDER_SUFFIXES = {
    ".openai.azure.com": "azure.ai.openai",
    ".openai.azure.us": "azure.ai.openai",
    ".services.ai.azure.com": "azure.ai.inference",
    ".cognitiveservices.azure.com": "azure.ai.openai",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    ".amazonaws.com": "aws.bedrock",
    ".ml.cloud.ibm.com": "ibm.watsonx.ai",
}


def provider_at(host: str) -> str:
    """``gen_ai.provider.name`` of the server with this host name."""
    named = (name for suffix, name in _PROVIDER_SUFFIXES.items() if host.endswith(suffix))
    return _PROVIDERS.get(host) or next(named, "openai")
