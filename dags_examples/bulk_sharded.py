"""A file shared by several tasks, which Airflow's executor spreads over its workers; then one file of all results.

Each task takes every n-th row and has a folder of its own below ``output``. A worker that dies takes nothing with it:
its task is retried anywhere, and goes on with the rows that have no result.
"""

import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.results import read_results

REVIEWS = Path(__file__).parent / "data" / "reviews.csv"
OUTPUT = Path(tempfile.gettempdir()) / "airflow_chat_examples"
SHARDS = 3

with DAG(dag_id="example_chat_bulk_sharded", schedule=None, params={"output": str(OUTPUT)}, doc_md=__doc__):
    summarise = ChatCompletionBatchOperator.partial(
        task_id="summarise",
        input=str(REVIEWS),
        output="{{ params.output }}/{{ run_id }}/sharded",
        id_key="id",
        prompt="Summarise this review in five words: {{ row.review }}",
        request={"temperature": 0, "seed": 1, "max_tokens": 16},
        result_format="text",
        response_key="summary",
        max_concurrency=2,
        retries=2,
        retry_delay=timedelta(minutes=1),
    ).expand(shard=[f"{number}/{SHARDS}" for number in range(1, SHARDS + 1)])

    @task
    def merge(manifests: list[dict[str, Any]], output: str) -> int:
        """One file, in the order of the rows."""
        rows = 0
        with Path(output).open("w", encoding="utf-8") as merged:
            for line in read_results(manifests, ordered=True):
                merged.write(json.dumps(line) + "\n")
                rows += 1
        return rows

    merge(summarise.output, "{{ params.output }}/{{ run_id }}/sharded/merged.jsonl")
