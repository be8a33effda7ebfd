"""What Airflow has to know about this provider: its operators, hooks, decorators and the form of its connections.

Every Airflow component reads it at its start. A mistake in here stops them all, so the tests hold it against Airflow's
own schemas; and whatever it imports is paid for by all of them.
"""

from typing import Any

from airflow_chat_provider.core.connection.fields import FIELDS, Field

_DOCUMENTATION = "https://airflow-chat-provider.readthedocs.io/"


def get_provider_info() -> dict[str, Any]:
    """The provider info in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-chat-provider",
        "name": "Chat Completion",
        "description": "A chat completion as a task, by any OpenAI-compatible endpoint.",
        "integrations": [
            {
                "integration-name": "Chat Completion",
                "external-doc-url": _DOCUMENTATION,
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
                "conn-fields": {name: _form_field(field) for name, field in FIELDS.items()},
            },
        ],
        "config": {
            "chat": {
                "description": "What the traces of chat completions tell, where Airflow's traces are on.",
                "options": {
                    "trace_content": _switch(
                        "Have prompts and answers in the spans of calls. Whoever sees the traces can read them then."
                    ),
                    "trace_rows": _switch("Have a span for each call of a batch, and not for the batch alone."),
                },
            },
        },
    }


def _switch(description: str) -> dict[str, Any]:
    """An option of Airflow's configuration that is off by default."""
    return {
        "description": description,
        "version_added": None,
        "type": "boolean",
        "example": "True",
        "default": "False",
    }


_STANDARD_FIELDS: dict[str, Any] = {
    "hidden-fields": ["schema", "port", "login"],
    "relabeling": {"host": "Base URL", "password": "API key"},
    "placeholders": {
        "host": "https://api.openai.com/v1",
        "password": "may be empty for a local server",
    },
}


def _form_field(field: Field) -> dict[str, Any]:
    """One extra as the connection form knows it.

    Null is "not set". There is no ``default`` in the schema: the form would store it, and a later default of ours would
    not reach that connection. So the description names it.
    """
    default = f". Default: {field.shown_default}" if field.shown_default else ""
    return {
        "label": field.label,
        "description": field.help.replace("`", "") + default,
        "schema": {"type": [field.kind, "null"], **field.rule},
    }
