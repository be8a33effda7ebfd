"""What Airflow wants to know of this provider. Data only: every Airflow component reads it at its start.

A mistake in here stops them all, so the tests hold it against Airflow's own schemas.
"""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    return {
        "package-name": "airflow-chat-provider",
        "name": "Chat Completion",
        "description": "A chat completion as a task, by any OpenAI-compatible endpoint.",
        "integrations": [
            {
                "integration-name": "Chat Completion",
                "external-doc-url": "https://platform.openai.com/docs/api-reference/chat",
                "tags": ["service"],  # one that every supported version of Airflow knows
            },
        ],
        "operators": [
            {
                "integration-name": "Chat Completion",
                "python-modules": ["airflow_chat_provider.operators"],
            },
        ],
        "hooks": [
            {
                "integration-name": "Chat Completion",
                "python-modules": ["airflow_chat_provider.hooks"],
            },
        ],
        "triggers": [
            {
                "integration-name": "Chat Completion",
                "python-modules": ["airflow_chat_provider.triggers"],
            },
        ],
        "task-decorators": [
            {"name": name, "class-name": f"airflow_chat_provider.decorators.{name}"}
            for name in ("chat_completion", "chat_completion_branch")
        ],
        "connection-types": [
            {
                "connection-type": "chat",
                "hook-class-name": "airflow_chat_provider.hooks.ChatCompletionHook",
                "hook-name": "Chat Completion",
                "ui-field-behaviour": _STANDARD_FIELDS,
                "conn-fields": _EXTRA_FIELDS,
            },
        ],
    }


_STANDARD_FIELDS: dict[str, Any] = {
    "hidden-fields": ["schema", "port", "login"],
    "relabeling": {"host": "Base URL", "password": "API key"},
    "placeholders": {
        "host": "https://api.openai.com/v1",
        "password": "may be empty for a local server",
    },
}


def _field(label: str, description: str, kind: str, **more: Any) -> dict[str, Any]:
    # Null is "not set". There is no `default`: the form would store it, and a later default of ours
    # would not reach that connection.
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **more}}


_MASKED = (
    "Masked in logs where the name has key, token, auth, secret, password, credential, cookie or signature in it; "
    "other values are shown."
)

_EXTRA_FIELDS: dict[str, Any] = {
    "model": _field("Model", "The model where a request names none.", "string"),
    "auth": _field(
        "Authentication",
        "How the API key is sent: as a bearer token (default), in an api-key header (Azure), or not at all.",
        "string",
        enum=["bearer", "api-key", "none", None],
    ),
    "organization": _field("Organization", "Sent as OpenAI-Organization.", "string"),
    "project": _field("Project", "Sent as OpenAI-Project.", "string"),
    "headers": _field("Headers", f"Further request headers: an object of names and texts. {_MASKED}", "object"),
    "query": _field(
        "Query", f'Query parameters: an object, like {{"api-version": "…"}} for Azure. {_MASKED}', "object"
    ),
    "endpoint": _field("Endpoint", "The path under the base URL. Default: /chat/completions", "string", minLength=1),
    "request_schema": _field(
        "Request schema",
        "What requests are checked against: 2026-11 (default), 2023-12, the path of a JSON Schema, open (only what "
        "every server refuses is an error), or none.",
        "string",
    ),
    "timeout": _field(
        "Timeout", "Seconds for one attempt, from connect to last byte. Default: 600", "number", minimum=0
    ),
    "connect_timeout": _field("Connect timeout", "Seconds to connect. Default: 5", "number", minimum=0),
    "deadline": _field(
        "Deadline", "Seconds for all attempts and the waits between them. Default: 1800", "number", minimum=0
    ),
    "stall_timeout": _field(
        "Stall timeout", "Seconds between two chunks of a streamed reply. Default: 120", "number", minimum=0
    ),
    "max_attempts": _field("Attempts", "How often a request is sent at most.", "integer", minimum=1),
    "proxy": _field("Proxy", "The URL of a proxy.", "string"),
    "verify": _field("Verify TLS", "true (default), false, or the path of a CA bundle in PEM format.", "string"),
    "client_cert": _field("Client certificate", "The path of a PEM file.", "string"),
    "client_key": _field("Client key", "The path of its key, if that is another file.", "string"),
    "max_response_bytes": _field(
        "Largest response", "Bytes of a response after decompression. Default: 67108864", "integer", minimum=1
    ),
}
