"""The processes that a run needs: a place to run in, the server, and fresh interpreters. All are gone afterwards."""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import certifi
from contenders import connections

HERE = Path(__file__).resolve().parent
PACKAGE = "airflow_chat_provider"
_PATIENCE = 120.0
_LATENCY = "0.2"


def environment(folder: Path, url: str) -> dict[str, str]:
    """For everything that is measured: an Airflow of its own, and the connections to the server at ``url``."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "PYTHON")) and not name.lower().endswith("_proxy")
    }
    return ours | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        # The others read the server's authority from here, as well as the public ones.
        "REQUESTS_CA_BUNDLE": str(folder / "authorities.pem"),
        "SSL_CERT_FILE": str(folder / "authorities.pem"),
        "PYTHONPATH": str(folder / "site"),
        **connections(url),
    }


def install(folder: Path) -> None:
    """Put the package and these scripts where they are found, compiled as an installation is."""
    site = folder / "site"
    shutil.copytree(HERE.parent / PACKAGE, site / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for script in HERE.glob("*.py"):
        shutil.copy(script, site)
    compileall.compile_dir(site, quiet=1)
    (folder / "dags").mkdir()


def exit_cleanly() -> None:
    """Let SIGTERM, as of `timeout`, end what was started here too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


@contextlib.contextmanager
def server(folder: Path, *, tls: bool = False) -> Iterator[str]:
    """The server in a process of its own; gives its URL."""
    arguments = ["--tls", str(folder)] if tls else []
    command = [sys.executable, str(HERE / "server.py"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
    if process.returncode:
        raise RuntimeError(f"the server ended with {process.returncode}")


@contextlib.contextmanager
def slow_server() -> Iterator[str]:
    """The server that takes as long as a model, likewise."""
    command = [sys.executable, str(HERE / "slow_server.py"), _LATENCY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextlib.contextmanager
def batch_server() -> Iterator[str]:
    """The server that has a batch API, likewise."""
    command = [sys.executable, str(HERE / "batch_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def trust(folder: Path) -> None:
    """The public authorities and the server's own, as large as what a user's connection has to read."""
    text = Path(certifi.where()).read_text("utf-8") + (folder / "ca.pem").read_text("utf-8")
    (folder / "authorities.pem").write_text(text, "utf-8")


def measured(script: str, *arguments: str, env: dict[str, str], patience: float = _PATIENCE) -> dict:
    """What a script prints as JSON, run by a fresh interpreter."""
    command = [sys.executable, str(Path(env["PYTHONPATH"]) / script), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=patience, check=False)
    if done.returncode:
        raise RuntimeError(f"{script} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def fresh_medians(what: str, names: Iterable[str], env: dict[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """The medians of what ``fresh.py`` measures, each sample in a process of its own, by turns."""
    names = list(names)
    samples = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            samples[name].append(measured("fresh.py", what, name, env=env))
    return {name: middle(found) for name, found in samples.items()}


def middle(samples: list[dict]) -> dict:
    """The median of each number; of anything else the first sample's."""
    return {
        key: statistics.median(sample[key] for sample in samples) if isinstance(value, float) else value
        for key, value in samples[0].items()
    }
