"""A whole Airflow in processes of its own: scheduler, triggerer, API server, DAG processor and executor.

with AirflowProcess(home, dags="...", environment={...}) as airflow:
    run = airflow.trigger("a_dag")
    assert run.wait_state() == "success"

The database is SQLite, unless the environment names one. The executor is the LocalExecutor, unless there are workers:
`workers=2` are Celery's "worker-1" and "worker-2", which can be killed and started like the other components.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from airflow_chat_provider.testing import ChatServer, Received
from tests.support import workers as celery

COMPONENTS = ("api-server", "dag-processor", "scheduler", "triggerer")
START, STEP, STOP = 300.0, 180.0, 15.0
"""Seconds: the most that the start takes, anything that a test waits for, and the end; on a machine that is busy."""


def until(true: Callable[[], Any], what: str, seconds: float = STEP) -> None:
    """Wait until ``true()`` is."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)


class AirflowProcess:
    """Started on entering, with one file of DAGs; on leaving everything is ended that was started."""

    def __init__(self, home: Path, dags: str, environment: dict[str, str], workers: int = 0) -> None:
        self.home = home
        (home / "dags").mkdir()
        (home / "dags" / "dags.py").write_text(dags, "utf-8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._workers = celery.commands(workers)
        self._commands: dict[str, tuple[str, ...]] = {name: (name,) for name in COMPONENTS} | self._workers
        settings = _settings(home, self.url) | (celery.settings() if workers else {})
        self._environment = os.environ | settings | environment
        self._outputs: dict[str, Path] = {}
        self._started: list[subprocess.Popen[bytes]] = []
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._api = httpx.Client(base_url=self.url, timeout=START, trust_env=False)

    def __enter__(self) -> Self:
        try:
            self._start("db", "db", "migrate").wait(START)
            for component in self._commands:
                self.start(component)
            self.wait_ready()
            self._api.headers["Authorization"] = f"Bearer {self._token()}"
        except BaseException as error:
            self._stop()
            error.add_note(self.output[-5000:])
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _token(self) -> str:
        """Of the user as whom the REST API is called: here everybody is the administrator."""
        return str(self.call("GET", "/auth/token")["access_token"])

    def start(self, component: str) -> None:
        """Start a component that was killed."""
        self._running[component] = self._start(component, *self._commands[component])

    def start_second_triggerer(self) -> None:
        """Beside the first: "triggerer-2"."""
        self._commands["triggerer-2"] = ("triggerer", "--skip-serve-logs")  # there is one port for logs
        self.start("triggerer-2")

    def freeze(self, component: str) -> None:
        """Stop a component, as a machine that stands still would."""
        self._signal(component, signal.SIGSTOP)

    def thaw(self, component: str) -> None:
        """Let it go on as if nothing had been."""
        self._signal(component, signal.SIGCONT)

    def _signal(self, component: str, how: signal.Signals) -> None:
        for pid in _of_sessions({self._running[component].pid}):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)

    def wait_ready(self) -> None:
        """Wait until the API server answers and each worker takes tasks."""
        until(self._is_ready, "the API server does not answer, or a worker takes no tasks", START)

    def kill(self, component: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a component, and with SIGKILL whatever it has started: as a machine does that goes down."""
        process = self._running.pop(component)
        self._started.remove(process)
        if how is signal.SIGKILL:
            _kill_sessions({process.pid})
        else:
            process.send_signal(how)
        process.wait(STEP)

    @property
    def environment(self) -> dict[str, str]:
        """What its components are started with."""
        return dict(self._environment)

    @property
    def output(self) -> str:
        """What the components printed."""
        return "".join(path.read_text("utf-8", "replace") for path in sorted(self.home.glob("*.out")))

    @property
    def logs(self) -> str:
        """What the tasks logged."""
        return self._text_of("logs/**/*.log")

    def logs_of(self, run: Run) -> str:
        """What the tasks of a run logged."""
        return self._text_of(f"logs/dag_id={run.dag_id}/run_id={run.run_id}/**/*.log*")

    def _text_of(self, files: str) -> str:
        return "".join(path.read_text("utf-8", "replace") for path in sorted(self.home.glob(files)))

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One call of the REST API, repeated where SQLite was locked: what was asked for is not done then."""
        answer = self._api.request(method, path, json=body)
        deadline = time.monotonic() + STEP
        while answer.status_code == 500 and "Database error" in answer.text and time.monotonic() < deadline:
            time.sleep(0.5)
            answer = self._api.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def ask(self, path: str) -> Any:
        """What the REST API has there, or None."""
        answer = self._api.get(path)
        return answer.json() if answer.is_success else None

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> Run:
        """Start a run of a DAG, which the DAG processor may still have to find."""
        until(lambda: self._api.get(f"/api/v2/dags/{dag_id}").is_success, f"DAG {dag_id} is not there", START)
        run = self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}})
        return Run(self, dag_id, run["dag_run_id"])

    def _is_ready(self) -> bool:
        for process in self._running.values():
            assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        with contextlib.suppress(httpx.TransportError):
            workers = [self._outputs[name] for name in self._running if name in self._workers]
            return self._api.get("/api/v2/version").is_success and all(map(celery.is_ready, workers))
        return False

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        self._outputs[name] = self.home / f"{len(list(self.home.glob('*.out'))):02}-{name}.out"
        with self._outputs[name].open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *arguments],
                # Airflow notes by which user a task is run: so it is known which worker had it.
                env=self._environment | {"LOGNAME": name},
                cwd=self.home,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def _stop(self) -> None:
        self._api.close()
        for process in reversed(self._started):
            process.terminate()
        deadline = time.monotonic() + STOP
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        _kill_sessions({process.pid for process in self._started})
        for process in self._started:
            process.wait()


@dataclass(frozen=True)
class Run:
    """A run of a DAG with one task that matters, ``ask``."""

    airflow: AirflowProcess
    dag_id: str
    run_id: str

    @property
    def _path(self) -> str:
        return f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}"

    @property
    def task(self) -> dict[str, Any]:
        """The task instance: ``state``, ``try_number``, ``pid``, ..."""
        found: dict[str, Any] = self.airflow.call("GET", f"{self._path}/taskInstances/ask")
        return found

    def wait_state(self, seconds: float = STEP) -> str:
        """The state of the run at its end."""

        def state() -> str:
            return str(self.airflow.call("GET", self._path)["state"])

        until(lambda: state() in ("success", "failed"), f"{self.dag_id} does not end", seconds)
        return state()

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """All task instances, of a mapped task each."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.airflow.call("GET", f"{self._path}/taskInstances?limit=100&offset={len(found)}")
            found += page["task_instances"]
            if len(found) >= page["total_entries"]:
                return found

    @property
    def workers(self) -> dict[int, str]:
        """Which worker runs each mapped task that was begun, or ran it last."""
        return {task["map_index"]: task["unixname"] for task in self.tasks}

    @property
    def tries(self) -> dict[int, int]:
        """How often each mapped task was begun."""
        return {task["map_index"]: task["try_number"] for task in self.tasks}

    @property
    def states(self) -> dict[str, str]:
        """The state of each task instance; of mapped ones by ``task[index]``."""

        def name(task: dict[str, Any]) -> str:
            return f"{task['task_id']}" + ("" if task["map_index"] < 0 else f"[{task['map_index']}]")

        return {name(task): task["state"] for task in self.tasks if task["state"] != "removed"}

    def clear(self, *task_ids: str) -> None:
        """What "Clear" in the UI does, for all of the run or for some tasks alone."""
        body: dict[str, Any] = {
            "dag_run_id": self.run_id,
            "dry_run": False,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        body |= {"task_ids": task_ids} if task_ids else {}
        self.airflow.call("POST", f"/api/v2/dags/{self.dag_id}/clearTaskInstances", body)

    def fail_task(self) -> None:
        """What "Mark as failed" in the UI does."""
        self.airflow.call("PATCH", f"{self._path}/taskInstances/ask", {"new_state": "failed"})

    def xcom(self, key: str) -> Any:
        """One XCom of the task; None where there is none."""
        answer = self.airflow.ask(f"{self._path}/taskInstances/ask/xcomEntries/{key}?deserialize=true")
        return answer and answer["value"]

    def xcoms(self) -> dict[str, Any]:
        """Every XCom of the task by its key, as the REST API has it."""
        entries = f"{self._path}/taskInstances/ask/xcomEntries"
        keys = [entry["key"] for entry in self.airflow.call("GET", entries)["xcom_entries"]]
        return {key: self.airflow.call("GET", f"{entries}/{key}")["value"] for key in keys}


def airflow_for(server: ChatServer, home: Path, dags: str, key: str, workers: int = 0) -> AirflowProcess:
    """One whose connection ``chat_default`` leads to ``server``."""
    connection = json.dumps({"conn_type": "chat", "host": server.url, "password": key})
    return AirflowProcess(home, dags, {"AIRFLOW_CONN_CHAT_DEFAULT": connection}, workers)


def posts(server: ChatServer, model: str) -> list[Received]:
    """The requests that asked for a model, in the order of their arrival."""
    return [request for request in server.requests if request.json["model"] == model]


def _settings(home: Path, url: str) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rpartition(":")[2],
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": _shared_database() or f"sqlite:///{home}/airflow.db",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        # Tasks fail that wait longer for Airflow. The 5 s that it has by itself are not much on a machine that is busy.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        # A triggerer that was killed is missed after seconds.
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # Airflow's components have a token for their own API, and warnings of their own.
        "PYTHONWARNINGS": "ignore",
    }


def _shared_database() -> str | None:
    """The one that `.ci/postgres` made; conftest.py has it in Airflow's own setting."""
    url = os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite:")
    return None if url.startswith("sqlite:") else url


def _kill_sessions(sessions: set[int]) -> None:
    """All at once: each is stopped first, so that none lives to tell of another's end, or to start one more."""
    for how in (signal.SIGSTOP, signal.SIGKILL):
        for pid in _of_sessions(sessions):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)


def _of_sessions(sessions: set[int]) -> Iterator[int]:
    """Whoever was started by the components, and by those again."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) in sessions:
                yield int(folder.name)
