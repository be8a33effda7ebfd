"""The reviews of a CSV file classified to JSON: one task, a request for each row, results beside their rows."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.results import read_results

REVIEWS = Path(__file__).parent / "data" / "reviews.csv"
OUTPUT = Path(tempfile.gettempdir()) / "airflow_chat_examples"
VERDICT = {
    "type": "object",
    "properties": {"sentiment": {"type": "string", "enum": ["positive", "negative", "mixed"]}},
    "required": ["sentiment"],
    "additionalProperties": False,
}

with DAG(dag_id="example_chat_bulk_reviews", schedule=None, params={"output": str(OUTPUT)}, doc_md=__doc__):
    classify = ChatCompletionBatchOperator(
        task_id="classify",
        input=str(REVIEWS),
        output="{{ params.output }}/{{ run_id }}/reviews",
        id_key="id",
        system_prompt="You help a shop to read its customers' reviews.",
        prompt="Classify this review of a {{ row.product }}. Answer in JSON.\n\n{{ row.review }}",
        request={"temperature": 0, "seed": 1, "max_tokens": 40},
        response_schema=VERDICT,
        result_format="json",
        response_key="verdict",
        max_concurrency=4,
    )

    @task
    def count(manifest: dict[str, Any]) -> dict[str, int]:
        return dict(Counter(line["verdict"]["sentiment"] for line in read_results(manifest)))

    count(classify.output)
