"""One try of a batch in a process to be killed.

`python -m tests.support.one_try INPUT OUTPUT CONCURRENCY [STORE [deduplicate [REUSE]]]`
"""

from __future__ import annotations

import sys
from pathlib import Path

from airflow_chat_provider.operators import ChatCompletionBatchOperator
from tests.support.batching import attach_store


def main(
    rows: str, output: str, concurrency: str, store: str = "", deduplicate: str = "", reuse: str | None = None
) -> None:
    if store:
        attach_store(Path(store))
    ChatCompletionBatchOperator(
        task_id="bulk",
        input=rows,
        output=output,
        prompt="{{ row.text }}",
        result_format="text",
        max_concurrency=concurrency,
        max_failures=None,
        max_attempts=1,
        part_rows=10,
        deduplicate=bool(deduplicate),
        reuse=reuse,
    ).execute({})


if __name__ == "__main__":
    main(*sys.argv[1:])
