"""A digest, each morning, of what failed in the batches of the last day: counted, and put into words by a model.

It looks at the output folders of batches below the parameter `output`. If nothing failed, nothing is asked.
"""

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.results import read_errors

OUTPUT = Path(tempfile.gettempdir()) / "airflow_chat_examples"
DAY = 24 * 60 * 60

with DAG(
    dag_id="example_chat_failure_digest",
    schedule="0 6 * * *",
    catchup=False,
    is_paused_upon_creation=True,
    params={"output": str(OUTPUT)},
    doc_md=__doc__,
):

    @task
    def failures(params: dict[str, Any] | None = None) -> list[str]:
        """A line for each kind of failure in each batch, the most frequent first."""
        found: Counter[str] = Counter()
        for manifest in Path((params or {})["output"]).glob("**/manifest.json"):
            if manifest.stat().st_mtime > time.time() - DAY:
                for line in read_errors(manifest.parent, on_unfinished="ignore"):
                    error = line.get("failure") or line["error"]  # as lines of OpenAI's format call it
                    found[f"{manifest.parent.name}: {error['class']}, status {error['status']}, {error['code']}"] += 1
        return [f"{count} x {what}" for what, count in found.most_common(50)]

    @task.short_circuit
    def anything(lines: list[str]) -> bool:
        return bool(lines)

    @chat_completion(
        result_format="text",
        system_prompt="You help the people who run data pipelines.",
        request={"temperature": 0, "seed": 1, "max_tokens": 200},
    )
    def digest(lines: list[str]) -> str:
        return "Say in three sentences what failed last night and what to look at first:\n\n" + "\n".join(lines)

    @task
    def show(text: str) -> None:
        print(text)  # noqa: T201 - or send it by mail, with Airflow's SmtpNotifier

    failed = failures()
    written = digest(failed)
    anything(failed) >> written
    show(written)
