"""Fills the database of the Airflow in AIRFLOW_HOME, through Airflow's models: run by pages.py in a process of its own.

10,000 task instances of 14 DAGs in 30 days, each with a `usage`, some of them failed; and one conversation of 100
messages. The numbers are drawn from a fixed seed, so that two runs measure the same.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

DAGS, DAYS, TASK_INSTANCES, MESSAGES = 14, 30, 10_000, 100
CONVERSATION = {"dag_id": "long_conversation", "run_id": "filled", "task_id": "ask"}
_MODELS = [f"vendor-{number % 4}/model-{number}" for number in range(DAGS)]
_ERRORS = ("RateLimited 429", "StatusError 400", "StatusError 503", "TransportTimeout", "InvalidOutput 200")
_DAG = """
from airflow.sdk import DAG
from airflow_chat_provider.operators import ChatCompletionOperator

with DAG("{dag_id}", schedule=None):
    ChatCompletionOperator(task_id="ask", model="{model}", prompt="Anything.")
"""
_ANSWER = """## Step {number}

The **answer** has a list, a table and some code:

1. Read the `orders` table.
2. Join it with the customers.

| Column | Type | Nullable |
|---|---|---|
| id | bigint | no |
| placed_at | timestamptz | yes |

```python
def total(orders: list[Order]) -> Decimal:
    return sum((order.amount for order in orders if order.placed_at), Decimal(0))
```
"""


def dag_files(folder: Path) -> None:
    """The DAGs whose runs are filled in."""
    names = {f"chat_{number:02}": model for number, model in enumerate(_MODELS)}
    names[CONVERSATION["dag_id"]] = _MODELS[0]
    for dag_id, model in names.items():
        (folder / f"{dag_id}.py").write_text(_DAG.format(dag_id=dag_id, model=model), "utf-8")


def usage(chance: random.Random, model: str, error: str | None) -> dict[str, Any]:
    """What one call took."""
    read, written = int(chance.lognormvariate(7, 1)), int(chance.lognormvariate(5, 1))
    answered = error is None or error.startswith("InvalidOutput")
    counts = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written} if answered else {}
    return {
        "requests": int(answered),
        **{name: counts.get(name) for name in ("input_tokens", "output_tokens", "total_tokens")},
        "cache_read_tokens": read // 3 if answered else None,
        "cache_write_tokens": None,
        "reasoning_tokens": written // 4 if answered else None,
        "tool_calls": 0,
        "cost": round(read * 4e-7 + written * 1.6e-6, 8) if answered else None,
        "model": model,
        "attempts": 1 + (chance.random() < 0.1),
        "seconds": round(chance.lognormvariate(0.5, 0.8), 3),
        "request_id": f"req_{chance.getrandbits(64):016x}",
        "errors": {error: 1} if error else {},
        "rejected": [],
    }


def conversation() -> dict[str, Any]:
    """The XComs of one call whose conversation has 100 messages, with its answer."""
    messages = [
        {"role": "assistant", "content": _ANSWER.format(number=number)}
        if number % 2
        else {"role": "user", "content": f"What comes after step {number}? " + "Please be exact. " * 12}
        for number in range(MESSAGES)
    ]
    chance = random.Random(0)
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": _MODELS[0],
        "choices": [{"index": 0, "message": messages[-1], "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9000, "completion_tokens": 120, "total_tokens": 9120},
    }
    return {
        "status": 200,
        "body": body,
        "usage": usage(chance, _MODELS[0], None),
        "messages": messages,
        "configuration": {"chat_conn_id": "chat_default", "model": _MODELS[0], "base_url": "http://127.0.0.1/v1"},
        "return_value": {"body": body, "status": 200},
    }


def runs(now: datetime) -> Iterator[tuple[str, str, datetime, float, str, dict[str, Any]]]:
    """DAG, run, when it began, how long it took, its state and its XComs."""
    chance = random.Random(1)
    step = timedelta(days=DAYS) / (TASK_INSTANCES // DAGS + 1)
    for number in range(TASK_INSTANCES):
        dag, turn = number % DAGS, number // DAGS
        began = now - timedelta(minutes=5) - step * turn - timedelta(seconds=chance.randrange(300))
        error = chance.choice(_ERRORS) if chance.random() < 0.06 else None
        taken = usage(chance, _MODELS[dag], error)
        yield (
            f"chat_{dag:02}",
            f"filled_{turn:05}",
            began,
            taken["seconds"],
            "failed" if error else "success",
            {"usage": taken},
        )
    yield CONVERSATION["dag_id"], CONVERSATION["run_id"], now, 4.0, "success", conversation()


def fill() -> None:
    """Write all of it. The DAGs are known to Airflow already."""
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils import timezone
    from airflow.utils.session import create_session
    from sqlalchemy import insert

    with create_session() as session:
        version_of: dict[str, Any] = {}
        dag_runs, tasks, entries = [], [], []
        for number, (dag_id, run_id, began, seconds, state, xcoms) in enumerate(runs(timezone.utcnow()), 1):
            if dag_id not in version_of:
                version = DagVersion.get_latest_version(dag_id, session=session)
                assert version is not None, f"Airflow does not know {dag_id}"
                version_of[dag_id] = version.id
            ended = began + timedelta(seconds=seconds)
            shared = {"dag_id": dag_id, "run_id": run_id, "start_date": began, "end_date": ended}
            dag_runs.append(
                shared
                | {"id": number, "logical_date": None, "run_after": began, "queued_at": began, "run_type": "manual"}
                | {"state": state, "created_dag_version_id": version_of[dag_id], "conf": {}}
            )
            tasks.append(
                shared
                | {"task_id": "ask", "map_index": -1, "duration": seconds, "state": state, "try_number": 1}
                | {"max_tries": 0, "pool": "default_pool", "queue": "default", "priority_weight": 1, "pid": 1}
                | {"operator": "ChatCompletionOperator", "custom_operator_name": None, "executor_config": {}}
                | {"dag_version_id": version_of[dag_id], "task_display_name": "ask"}
            )
            entries += [
                {"dag_run_id": number, "dag_id": dag_id, "run_id": run_id, "task_id": "ask", "map_index": -1}
                | {"key": key, "value": value, "timestamp": ended}
                for key, value in xcoms.items()
            ]
        for model, rows in ((DagRun, dag_runs), (TaskInstance, tasks), (XComModel, entries)):
            session.execute(insert(model.__table__), rows)


if __name__ == "__main__":
    if sys.argv[1:] == ["dags"]:
        dag_files(Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]))
    else:
        fill()
