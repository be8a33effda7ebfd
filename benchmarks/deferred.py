"""Deferred calls: many triggers on one loop, and one real triggerer with its database."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from processes import HERE, environment, measured
from triggers import COUNTS

_LATENCY = "0.2"
_FEW, _MANY = 20, 300
SIZES = {"100 B": 100, "100 KB": 100_000}


@contextlib.contextmanager
def slow_server() -> Iterator[str]:
    command = [sys.executable, str(HERE / "slow_server.py"), _LATENCY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def measure(folder: Path, rounds: int) -> dict:
    """Each kind by turns, in a fresh process a sample."""
    with slow_server() as url:
        env = environment(folder, url)
        samples = {(name, count): [] for name, counts in COUNTS.items() for count in counts}
        for _ in range(rounds):
            for (name, count), found in samples.items():
                found.append(measured("triggers.py", name, str(count), env=env))
        return {
            "triggers": {key: _middle(found) for key, found in samples.items()},
            "triggerer": _triggerer(folder, url),
        }


def _middle(samples: list[dict]) -> dict:
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def _triggerer(folder: Path, url: str) -> dict:
    """Of many tasks over that of few, so that what the start costs is not in it."""
    found = {}
    for name, size in (("http", "100 B"), *(("ours", size) for size in SIZES)):
        few, many = (_one(folder, url, name, count, size) for count in (_FEW, _MANY))
        tasks = _MANY - _FEW
        seconds = many["start"] + many["seconds"] - few["start"] - few["seconds"]
        found[name, size] = {"cpu_ms": (many["cpu"] - few["cpu"]) / tasks * 1e3, "rate": tasks / seconds}
    return found


def _one(folder: Path, url: str, name: str, count: int, size: str) -> dict:
    home = folder / f"triggerer-{name}-{count}-{SIZES[size]}"
    env = environment(folder, url) | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags")}
    return measured("triggerer.py", name, str(count), str(SIZES[size]), env=env)
