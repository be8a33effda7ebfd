"""Runs the DAG `example_chat_chained` against the embedded model, and prints what each of its tasks left in XCom."""

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from airflow_chat_provider.local_server import LocalServer

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".airflow-demo"
DATABASE = HOME / "airflow.db"
LOG = HOME / "demo.log"
MIGRATED = HOME / "migrated-to"  # the version of Airflow that made the database: to migrate takes seconds
DAG_ID = "example_chat_chained"

# The demonstration reads the database itself: it made it, and to ask Airflow takes seconds for each value.
TASKS = """
    SELECT task_id, map_index, state FROM task_instance
    WHERE (dag_id, run_id) = (SELECT dag_id, run_id FROM dag_run WHERE dag_id = ? ORDER BY id DESC LIMIT 1)
    ORDER BY start_date IS NULL, start_date, map_index
"""
XCOM = """
    SELECT CAST(value AS TEXT) FROM xcom  -- SQLite has made a number of what looks like one
    WHERE dag_run_id = (SELECT max(id) FROM dag_run WHERE dag_id = ?)
        AND task_id = ? AND map_index = ? AND key = ?
"""


class Outcome(NamedTuple):
    task: str
    state: str
    status: Any
    body: Any
    returned: Any


def main() -> int:
    HOME.mkdir(exist_ok=True)
    print("Starting the model …", flush=True)
    with LocalServer(port=0) as server:
        print(f"{server.model} answers at {server.url}\nRunning the DAG {DAG_ID} …", flush=True)
        code = run_dag(environment(server.url, server.model))
    if not MIGRATED.exists():
        return code
    outcomes = list(read_outcomes())
    for outcome in outcomes:
        print(f"\n{described(outcome)}")
    print(f"\nAirflow's own log of it: {LOG.relative_to(ROOT)}")
    return code or int(not outcomes or any(outcome.state != "success" for outcome in outcomes))


def environment(url: str, model: str) -> dict[str, str]:
    connection = {"conn_type": "chat", "host": url, "extra": {"model": model}}
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return ours | {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags_examples"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{DATABASE}",
        "AIRFLOW_CONN_CHAT_DEFAULT": json.dumps(connection),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def run_dag(env: dict[str, str]) -> int:
    version = metadata.version("apache-airflow")
    with LOG.open("w") as log:
        if not MIGRATED.exists() or MIGRATED.read_text() != version:
            if code := airflow("db", "migrate", env=env, log=log):
                return code
            MIGRATED.write_text(version)
        return airflow("dags", "test", DAG_ID, env=env, log=log)


def airflow(*arguments: str, env: dict[str, str], log: TextIO) -> int:
    command = [sys.executable, "-m", "airflow", *arguments]
    code = subprocess.run(command, env=env, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        print(f"`airflow {' '.join(arguments)}` failed, see {LOG}", file=sys.stderr)
    return code


def read_outcomes() -> Iterator[Outcome]:
    with closing(sqlite3.connect(DATABASE)) as database:
        for task_id, map_index, state in database.execute(TASKS, (DAG_ID,)).fetchall():

            def pulled(key: str, where: tuple[str, str, int] = (DAG_ID, task_id, map_index)) -> Any:
                row = database.execute(XCOM, (*where, key)).fetchone()
                return json.loads(row[0]) if row else None

            name = task_id if map_index < 0 else f"{task_id}[{map_index}]"
            yield Outcome(name, state, pulled("status"), pulled("body"), pulled("return_value"))


def described(outcome: Outcome) -> str:
    """A task that is no chat completion has neither body nor status: what it returned is shown then."""
    lines = [f"{outcome.task}: {outcome.state}"]
    if outcome.status is not None:
        lines[0] += f", status {outcome.status}"
    body = outcome.body if isinstance(outcome.body, dict) else {}
    usage = body.get("usage") or {}
    if usage:
        lines[0] += f", {usage.get('prompt_tokens')} tokens in, {usage.get('completion_tokens')} out"
    replies = [choice["message"].get("content") for choice in body.get("choices", ())] or [outcome.returned]
    for reply in replies:
        text = reply if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False)
        lines.append(textwrap.indent(textwrap.fill(text, 96), "    "))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
