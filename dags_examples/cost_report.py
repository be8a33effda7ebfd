"""What the calls of a run cost, by model: a report each day, which fails if they cost more than the parameter `most`.

Each task leaves its count in the XCom `usage`, also if it fails. A cost is known if the server states it, or if the
connection has `prices` for the model.
"""

import tempfile
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator

OUTPUT = Path(tempfile.gettempdir()) / "airflow_chat_examples"

with DAG(
    dag_id="example_chat_cost_report",
    schedule="@daily",
    catchup=False,
    is_paused_upon_creation=True,
    params={"output": str(OUTPUT), "most": 5.0},
    doc_md=__doc__,
):
    ask = ChatCompletionOperator(
        task_id="ask",
        prompt="Say in one sentence what a data pipeline is.",
        request={"temperature": 0, "seed": 1, "max_tokens": 60},
    )
    classify = ChatCompletionBatchOperator(
        task_id="classify",
        input=[{"text": "Works well."}, {"text": "Broke at once."}],
        prompt="Good or bad? Answer in one word. {{ row.text }}",
        request={"temperature": 0, "seed": 1, "max_tokens": 5},
        result_format="text",
        output="{{ params.output }}/{{ run_id }}/costs",
    )

    @task(trigger_rule="all_done")
    def report(ti: Any = None, params: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
        """Calls, tokens and cost of each model. Costs are added as decimals, and each currency by itself."""
        found: dict[str, dict[str, Any]] = {}
        costs: dict[str, Decimal] = defaultdict(Decimal)
        for task_id in ("ask", "classify"):
            usage = ti.xcom_pull(task_ids=task_id, key="usage")
            if usage is None:  # nothing was sent
                continue
            line = found.setdefault(usage["model"] or "several models", {"calls": 0, "tokens": 0, "cost": {}})
            line["calls"] += usage["requests"]
            line["tokens"] += usage["total_tokens"] or 0
            if usage["cost"] is not None:
                cost, currency = Decimal(str(usage["cost"])), usage["currency"]
                line["cost"][currency] = str(Decimal(line["cost"].get(currency, 0)) + cost)
                costs[currency] += cost
        for model, line in found.items():
            print(f"{model}: {line['calls']} calls, {line['tokens']} tokens, cost {line['cost'] or 'unknown'}")  # noqa: T201
        most = Decimal(str((params or {})["most"]))
        for currency, cost in costs.items():
            if cost > most:
                raise RuntimeError(f"The calls of this run cost {cost} {currency}, more than {most}")
        return found

    [ask, classify] >> report()
