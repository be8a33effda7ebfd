"""Which arguments of the operator are templates."""

REQUEST_FIELDS = ("request", "messages", "model", "prompt", "system_prompt")
TEMPLATE_FIELDS = (
    *REQUEST_FIELDS,
    "chat_conn_id",
    "configuration",
    "request_schema",
    "timeout",
    "deadline",
    "max_attempts",
)
