"""The names of the operators: which arguments are templates, and which XComs are theirs."""

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
ATTRIBUTES = {"output": "output_path", "dry_run": "_dry_run"}
"""Arguments whose attribute has another name: every operator of Airflow's has one of theirs."""
XCOMS = ("body", "status", "configuration", "usage", "messages", "arguments", "return_value")
"""The XComs that a task leaves."""
