"""The CeleryExecutor of `tests.support.airflow_process`: its settings, and the workers that it sends the tasks to."""

from __future__ import annotations

import os
from pathlib import Path

CONCURRENCY = 2
"""Tasks that a worker runs at a time."""


def commands(count: int) -> dict[str, tuple[str, ...]]:
    """What starts each worker, by its name."""
    # On one machine two log servers would want one port. Mingle and gossip cost time and serve only other workers.
    options = ("--skip-serve-logs", "--without-mingle", "--without-gossip")
    names = [f"worker-{number}" for number in range(1, count + 1)]
    return {name: ("celery", "worker", "--celery-hostname", f"{name}@%h", *options) for name in names}


def is_ready(output: Path) -> bool:
    """Whether the worker that printed this takes tasks."""
    return " ready." in output.read_text("utf-8", "replace")


def settings() -> dict[str, str]:
    """A task is missed seconds after its worker was killed, whether that had started it or only taken it."""
    database, broker = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"], os.environ.get("AIRFLOW__CELERY__BROKER_URL")
    if broker is None or database.startswith("sqlite:"):
        raise RuntimeError("Workers need Redis and PostgreSQL. Run: make test-e2e")
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        # More than the workers run: what a killed one had taken must not keep the other from its tasks.
        "AIRFLOW__CORE__PARALLELISM": "16",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(CONCURRENCY),
        # On a busy machine a second is not enough to send a task.
        "AIRFLOW__CELERY__OPERATION_TIMEOUT": "10",
        "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
        # A task that had only been taken is offered again after this; one that still runs is offered too, and Airflow
        # refuses it.
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "15",
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_INTERVAL": "2",
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_THROTTLE": "1",
        # Each running task tells of itself once a second.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "12",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    }
