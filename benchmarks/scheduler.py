"""Tasks in a real Airflow: scheduler, LocalExecutor, API server and SQLite, one task at a time.

A task's time is what the metadata database says: from when it is told to start until it has reported its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from contenders import ALL, EMPTY

_COMPONENTS = ("api-server", "dag-processor", "scheduler")
_START, _RUN, _STOP = 120.0, 60.0, 15.0
_MEASURED = (EMPTY, *ALL)


def scheduler_medians(folder: Path, env: dict[str, str], rounds: int) -> dict[str, float]:
    """Milliseconds of one task of each, in the runs after the first."""
    for contender in _MEASURED:
        (folder / "dags" / f"{contender.dag_id}.py").write_text(contender.dag(), "utf-8")
    port = _free_port()
    env = env | _settings(folder, port)
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True)
    with _components(folder, env, port):
        api = Api(f"http://127.0.0.1:{port}")
        _until(lambda: api.dags() >= {c.dag_id for c in _MEASURED}, _START, "the DAGs are not there")
        for number in range(rounds + 1):
            shift = number % len(_MEASURED)
            for contender in _MEASURED[shift:] + _MEASURED[:shift]:
                _run(api, contender.dag_id, _database(folder))
    durations = _durations(_database(folder))
    return {c.name: statistics.median(durations[c.dag_id][1:]) for c in _MEASURED}


def _settings(folder: Path, port: int) -> dict[str, str]:
    return {
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": "only for this run, and only on this machine, which ends with it",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_database(folder)}",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def _database(folder: Path) -> Path:
    return folder / "airflow" / "airflow.db"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextlib.contextmanager
def _components(folder: Path, env: dict[str, str], port: int) -> Iterator[None]:
    started = []
    try:
        with (folder / "airflow.log").open("wb") as log:
            for name in _COMPONENTS:
                command = [sys.executable, "-m", "airflow", name]
                started.append(
                    subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder, start_new_session=True)
                )
            _until(lambda: _answers(port), _START, "the API server does not answer")
            yield
    except Exception:
        print((folder / "airflow.log").read_text("utf-8", "replace")[-3000:], file=sys.stderr)
        raise
    finally:
        _stop(started)


def _stop(started: list[subprocess.Popen[bytes]]) -> None:
    """End what was started here and whatever that has started, which its session tells."""
    for process in started:
        process.terminate()
    until = time.monotonic() + _STOP
    for process in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, until - time.monotonic()))
    for pid in _of_sessions({process.pid for process in started}):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in started:
        process.wait()


def _of_sessions(sessions: set[int]) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) in sessions:
                found.append(int(folder.name))
    return found


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/version", timeout=5).close()
    except OSError:
        return False
    return True


class Api:
    """The few calls that a run needs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._headers = {"Content-Type": "application/json"}
        self._headers["Authorization"] = f"Bearer {self._call('/auth/token')['access_token']}"

    def dags(self) -> set[str]:
        return {dag["dag_id"] for dag in self._call("/api/v2/dags?limit=100")["dags"]}

    def trigger(self, dag_id: str) -> str:
        return self._call(f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None})["dag_run_id"]

    def _call(self, path: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, self._headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)


def _run(api: Api, dag_id: str, database: Path) -> None:
    run_id = api.trigger(dag_id)
    _until(lambda: _state(database, run_id, dag_id) in ("success", "failed"), _RUN, f"{dag_id} does not end")
    if _state(database, run_id, dag_id) != "success":
        raise RuntimeError(f"{dag_id} failed")


def _state(database: Path, run_id: str, dag_id: str) -> str | None:
    rows = _query(database, "SELECT state FROM dag_run WHERE run_id = ? AND dag_id = ?", run_id, dag_id)
    return rows[0][0] if rows else None


def _durations(database: Path) -> dict[str, list[float]]:
    """Milliseconds by DAG, in the order of its runs."""
    sql = """
        SELECT dag_id, (julianday(end_date) - julianday(start_date)) * 86400000
        FROM task_instance ORDER BY start_date
    """
    found: dict[str, list[float]] = {}
    for dag_id, milliseconds in _query(database, sql):
        found.setdefault(dag_id, []).append(milliseconds)
    return found


def _query(database: Path, sql: str, *values: str) -> list[tuple]:
    # Not read-only by URI: a reader of a database in WAL mode has to be able to write its -shm file.
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
        return connection.execute(sql, values).fetchall()


def _until(true: Callable[[], bool], seconds: float, otherwise: str) -> None:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"{otherwise} after {seconds:g} s")
        time.sleep(0.1)
