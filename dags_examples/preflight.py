"""A batch that is sent only if it will not cost too much: a dry run counts first, and sends nothing."""

import tempfile
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionBatchOperator

REVIEWS = Path(__file__).parent / "data" / "reviews.csv"
OUTPUT = Path(tempfile.gettempdir()) / "airflow_chat_examples"
BATCH: dict[str, Any] = {
    "input": str(REVIEWS),
    "output": "{{ params.output }}/{{ run_id }}/reviews",
    "id_key": "id",
    "prompt": "Is this review of a {{ row.product }} good or bad? Answer in one word.\n\n{{ row.review }}",
    "request": {"temperature": 0, "max_tokens": 5},
    "result_format": "text",
}

with DAG(
    dag_id="example_chat_preflight",
    schedule=None,
    params={"output": str(OUTPUT), "most_tokens": 10_000},
    doc_md=__doc__,
):
    estimate = ChatCompletionBatchOperator(task_id="estimate", dry_run=True, **BATCH)
    classify = ChatCompletionBatchOperator(task_id="classify", **BATCH)

    @task.short_circuit
    def is_small_enough(plan: dict[str, Any], most_tokens: str) -> bool:
        tokens = plan["input_tokens"] + plan["output_tokens"]
        return not plan["would_fail"] and tokens <= int(most_tokens)  # or plan["cost"]["most"], by your prices

    is_small_enough(estimate.output, "{{ params.most_tokens }}") >> classify
