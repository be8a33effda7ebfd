"""A file made for OpenAI's Batch API, run at once against any endpoint; the results are in that API's format."""

import tempfile
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.results import read_results

REQUESTS = Path(__file__).parent / "data" / "requests.jsonl"
OUTPUT = Path(tempfile.gettempdir()) / "airflow_chat_examples"

with DAG(dag_id="example_chat_bulk_openai_file", schedule=None, params={"output": str(OUTPUT)}, doc_md=__doc__):
    ask = ChatCompletionBatchOperator(
        task_id="ask",
        input=str(REQUESTS),
        output="{{ params.output }}/{{ run_id }}/requests",
        max_concurrency=4,
    )

    @task
    def answers(manifest: dict[str, Any]) -> dict[str, str]:
        return {
            line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"]
            for line in read_results(manifest)
        }

    answers(ask.output)
