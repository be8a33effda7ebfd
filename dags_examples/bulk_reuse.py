"""A table that is labelled every day: only rows that changed since the last run are asked for and paid for.

The batch takes the answers of the last run, whose manifest it finds in XCom. Rows with the same text are asked once.
"""

import csv
import tempfile
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionBatchOperator

REVIEWS = Path(__file__).parent / "data" / "reviews.csv"
OUTPUT = Path(tempfile.gettempdir()) / "airflow_chat_examples"

with DAG(
    dag_id="example_chat_bulk_reuse",
    schedule=None,  # "@daily"
    max_active_runs=1,
    params={"output": str(OUTPUT), "new_reviews": []},
    doc_md=__doc__,
):

    @task
    def todays_table(params: dict[str, Any] | None = None) -> list[dict[str, str]]:
        """In your DAG, a query. Airflow gives ``params``."""
        with REVIEWS.open(encoding="utf-8", newline="") as file:
            texts = [row["review"] for row in csv.DictReader(file)]
        return [{"review": text} for text in (*texts, *(params or {})["new_reviews"])]

    label = ChatCompletionBatchOperator(
        task_id="label",
        input=todays_table(),
        output="{{ params.output }}/{{ run_id }}/labels",
        prompt="Good or bad? Answer in one word.\n\n{{ row.review }}",
        request={"temperature": 0, "seed": 1, "max_tokens": 8},
        result_format="text",
        response_key="label",
        reuse="{{ ti.xcom_pull(task_ids='label', include_prior_dates=True) }}",
        deduplicate=True,
        max_concurrency=4,
    )

    @task
    def tell(manifest: dict[str, Any]) -> dict[str, Any]:
        counts = {key: manifest[key] for key in ("total", "reused", "deduplicated")}
        return {**counts, "asked": manifest["usage"]["requests"]}

    tell(label.output)
