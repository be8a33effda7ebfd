"""A table classified by tomorrow for half the price: the vendor's batch API, then single calls for what it left over.

It needs a server that has a batch API, such as OpenAI's. Both tasks write to one folder: the second asks only for rows
that have no answer there, and for nothing if all have one.
"""

import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.results import read_results

REVIEWS = Path(__file__).parent / "data" / "reviews.csv"
OUTPUT = Path(tempfile.gettempdir()) / "airflow_chat_examples"
SENTIMENT = {
    "type": "object",
    "properties": {"sentiment": {"type": "string", "enum": ["positive", "negative", "mixed"]}},
    "required": ["sentiment"],
    "additionalProperties": False,
}
CLASSIFY: dict[str, Any] = {
    "input": str(REVIEWS),
    "output": "{{ params.output }}/{{ run_id }}/overnight",
    "id_key": "id",
    "prompt": "Classify this review of a {{ row.product }}. Answer in JSON.\n\n{{ row.review }}",
    "request": {"max_completion_tokens": 40},
    "response_schema": SENTIMENT,
    "result_format": "json",
    "response_key": "verdict",
}

with DAG(dag_id="example_chat_bulk_batch_api", schedule=None, params={"output": str(OUTPUT)}, doc_md=__doc__):
    overnight = ChatCompletionBatchOperator(
        task_id="overnight",
        via="batch_api",
        completion_window="24h",
        retries=2,
        retry_delay=timedelta(minutes=10),
        **CLASSIFY,
    )
    the_rest = ChatCompletionBatchOperator(task_id="the_rest", trigger_rule="all_done", **CLASSIFY)

    @task
    def count(manifest: dict[str, Any]) -> dict[str, int]:
        return dict(Counter(line["verdict"]["sentiment"] for line in read_results(manifest)))

    overnight >> the_rest
    count(the_rest.output)
