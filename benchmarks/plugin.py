"""What the plugin of Airflow's UI adds to the processes that load it: `python benchmarks/plugin.py [ROUNDS]`.

Each sample is a fresh process. In turn, one finds the plugin by its entry point, and one does not. Times are CPU time,
which a machine that is busy otherwise changes little; those of imports that Airflow does anyway are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = metadata.EntryPoint("airflow_chat", "airflow_chat_provider.plugin:ChatPlugin", "airflow.plugins")
DAG = """
from airflow.sdk import DAG
from airflow_chat_provider.operators import ChatCompletionOperator

with DAG("many", schedule=None):
    for number in range(100):
        ChatCompletionOperator(task_id=f"ask_{number}", prompt="Hi", model="m")
"""


class Distribution:
    """An installed distribution, of which the plugin is one of the entry points or is not."""

    def __init__(self, found: metadata.Distribution, *, plugin: bool) -> None:
        self._found = found
        others = [entry for entry in found.entry_points if entry.value != PLUGIN.value]
        ours = plugin and (found.metadata["Name"] or "") == "airflow-chat-provider"
        self.entry_points = [*others, PLUGIN] if ours else others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)


def hide(*, plugin: bool) -> None:
    """Have Airflow find the plugin, or not, however the package is installed here."""
    with contextlib.suppress(ImportError):
        import importlib_metadata  # noqa: F401 - Airflow takes it before Python 3.12
    every = metadata.distributions

    def distributions() -> Iterator[Any]:
        return (Distribution(found, plugin=plugin) for found in every())

    for module in (metadata, sys.modules.get("importlib_metadata", metadata)):
        module.distributions = distributions


def load_plugins() -> None:
    """As the process of a task does, and each process of a DAG processor."""
    try:
        from airflow.sdk import plugins_manager
    except ImportError:  # before Airflow 3.2
        from airflow import plugins_manager as old

        old.ensure_plugins_loaded()
    else:
        plugins_manager._get_plugins()  # noqa: SLF001 - all else there needs more


def api_server() -> Callable[[], object]:
    from airflow.api_fastapi.app import create_app

    return create_app


def plugins_of_api_server() -> Callable[[], object]:
    """The part of the same that loads all plugins and mounts their apps: the rest varies by more than ours takes."""
    from airflow.api_fastapi import app
    from fastapi import FastAPI

    return lambda: app.init_plugins(FastAPI())


def task() -> Callable[[], object]:
    import airflow.sdk.execution_time.task_runner  # noqa: F401 - what a worker has loaded by then

    return load_plugins


def dag_file() -> Callable[[], object]:
    import airflow.sdk.execution_time.task_runner  # noqa: F401

    import airflow_chat_provider.operators

    _ = airflow_chat_provider.operators.ChatCompletionOperator
    code = compile(DAG, "many.py", "exec")

    def parse() -> None:
        load_plugins()
        exec(code, {"__name__": "many"})

    return parse


PROCESSES = {
    "API server, create_app()": api_server,
    "API server, init_plugins()": plugins_of_api_server,
    "task, its plugins": task,
    "DAG file of 100 tasks": dag_file,
}


def sample(name: str, *, plugin: bool) -> None:
    """In this process: print how many milliseconds it took."""
    hide(plugin=plugin)
    begin = PROCESSES[name]()
    began = time.process_time()
    begin()
    took = (time.process_time() - began) * 1e3
    loaded = "airflow_chat_provider.plugin" in sys.modules
    assert loaded is plugin, f"{name}: the plugin is {'' if loaded else 'not '}loaded"
    print(f"\n{json.dumps(took)}")


def measured(name: str, *, plugin: bool, home: str) -> float:
    command = [sys.executable, "-W", "ignore", __file__, name, "with" if plugin else "without"]
    ours = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    environment = ours | {
        "AIRFLOW_HOME": home,
        "AIRFLOW__API_AUTH__JWT_SECRET": "only for measurements " * 3,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return float(json.loads(done.stdout.splitlines()[-1]))


def main(rounds: int) -> None:
    print(f"{'':26} {'without':>10} {'with':>10} {'added':>10}   (median ms of CPU, {rounds} rounds)")
    with tempfile.TemporaryDirectory() as home:
        subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env={**os.environ, "AIRFLOW_HOME": home},
            capture_output=True,
            check=True,
        )
        for name in PROCESSES:
            taken: dict[bool, list[float]] = {False: [], True: []}
            for number in range(rounds):
                for plugin in (False, True) if number % 2 else (True, False):
                    taken[plugin].append(measured(name, plugin=plugin, home=home))
            without, having = statistics.median(taken[False]), statistics.median(taken[True])
            print(f"{name:26} {without:10.1f} {having:10.1f} {having - without:+10.1f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sample(sys.argv[1], plugin=sys.argv[2] == "with")
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 15)
