"""Which arguments of the operators are templates."""

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
BATCH_FIELDS = (
    "input",
    "output_path",
    "shard",
    "max_concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "max_failures",
)
