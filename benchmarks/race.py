"""Does Airflow fail deferred tasks that were paid for? `.ci/postgres .venv/bin/python benchmarks/race.py ended 0 10`

A whole Airflow (PostgreSQL, LocalExecutor of 16) runs 200 mapped deferred tasks against a server that takes a second;
each argument is one such run. ``ended``: the triggers end the tasks. A number: workers do, called back so many seconds
after the task has deferred at the earliest. Airflow's scheduler may take the end of the worker that deferred for the
end of the one that was called back. Prints a line for each run.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tests.conftest  # noqa: F401 - Airflow's environment, with the database that .ci/postgres made
from airflow_chat_provider.testing import ChatServer, replies
from tests.support.airflow_process import AirflowProcess

COUNT = 200
_PATIENCE = 600.0
_DAGS = """
from airflow.sdk import DAG, Asset
from airflow_chat_provider.operators import ChatCompletionOperator

with DAG({name!r}, schedule=None):
    ChatCompletionOperator.partial(
        task_id="ask", model={name!r}, result_format="text", deferrable=True, {more}
    ).expand(prompt=[str(number) for number in range({count})])
"""
# The module is changed before the triggerer's process for triggers is forked.
_SITE = """
import os, sys
if "triggerer" in sys.argv:
    from airflow_chat_provider import triggers
    triggers._SETTLED = float(os.environ["HELD_BACK"])
"""


def main():
    for kind in sys.argv[1:] or ["ended", "0", "10"]:
        print(measure(kind), flush=True)


def measure(kind):
    name = f"many_{kind.replace('.', '_')}"
    more = "" if kind == "ended" else "outlets=[Asset('answers')],"
    home = Path(tempfile.mkdtemp(prefix="airflow-chat-race-"))
    (home / "sitecustomize.py").write_text(_SITE, "utf-8")
    with ChatServer(default=replies.delay(1.0, replies.ok("paid"))) as server:
        connection = {"conn_type": "chat", "host": server.url}
        environment = {
            "AIRFLOW_CONN_CHAT_DEFAULT": json.dumps(connection),
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "256",
            "AIRFLOW__CORE__PARALLELISM": "16",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "5",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
            "HELD_BACK": "0" if kind == "ended" else kind,
            "PYTHONPATH": os.pathsep.join([str(home), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        with AirflowProcess(home, _DAGS.format(name=name, more=more, count=COUNT), environment) as airflow:
            run, began = airflow.trigger(name), time.monotonic()
            state = run.wait_state(_PATIENCE)
            seconds = time.monotonic() - began
            states = Counter(task["state"] for task in run.tasks)
    what = "ended by their triggers" if kind == "ended" else f"by workers, held back {kind} s"
    return f"{COUNT} tasks {what}: {dict(states)}, {len(server.requests)} POSTs, {seconds:.0f} s, run {state}"


if __name__ == "__main__":
    main()
