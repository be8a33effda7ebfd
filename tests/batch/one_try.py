"""One try of a batch in a process to be killed: `python -m tests.batch.one_try INPUT OUTPUT CONCURRENCY`."""

from __future__ import annotations

import sys

from airflow_chat_provider.operators import ChatCompletionBatchOperator


def main(rows: str, output: str, concurrency: str) -> None:
    ChatCompletionBatchOperator(
        task_id="bulk",
        input=rows,
        output=output,
        prompt="{{ row.text }}",
        result_format="text",
        max_concurrency=concurrency,
        max_failures=None,
        max_attempts=1,
    ).execute({})


if __name__ == "__main__":
    main(*sys.argv[1:])
