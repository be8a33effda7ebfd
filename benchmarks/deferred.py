"""Deferred calls: many triggers on one loop, and one real triggerer with its database.

`python deferred.py` measures them alone and prints their tables.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import certifi
import report
from processes import environment, exit_cleanly, install, measured, middle, slow_server
from triggers import COUNTS

_SCRIPT = "../tests/support/triggerer.py"
_PATIENCE = 170.0  # longer than the script's own, which knows what to stop
_SIZES = {"100 B": 100, "100 KB": 100_000, "1 MB": 1_000_000}


class Case(NamedTuple):
    """What is measured of a triggerer: many tasks over few, so that what the start costs is not in it."""

    name: str
    size: str
    few: int = 20
    many: int = 300


_CASES = (
    Case("http", "100 B"),
    Case("ours", "100 B"),
    Case("http", "100 KB"),
    Case("ours", "100 KB"),
    Case("ours", "1 MB", 2, 20),
)


def measure(folder: Path, rounds: int) -> dict:
    """Each kind by turns, in a fresh process a sample."""
    with slow_server() as url:
        return {"triggers": _triggers(folder, url, rounds), "triggerer": _triggerer(folder, url, min(rounds, 2))}


def _triggers(folder: Path, url: str, rounds: int) -> dict:
    env = environment(folder, url)
    samples = {(name, count): [] for name, counts in COUNTS.items() for count in counts}
    for _ in range(rounds):
        for (name, count), found in samples.items():
            found.append(measured("triggers.py", name, str(count), env=env))
    return {key: middle(found) for key, found in samples.items()}


def _triggerer(folder: Path, url: str, rounds: int) -> dict:
    samples = {case: [] for case in _CASES}
    for _ in range(rounds):
        for case, found in samples.items():
            few, many = (_one(folder, url, case, count) for count in (case.few, case.many))
            found.append({what: (many[what] - few[what]) / (case.many - case.few) * 1e3 for what in few})
    return {(case.name, case.size): middle(found) for case, found in samples.items()}


def _one(folder: Path, url: str, case: Case, count: int) -> dict:
    """CPU and wall clock of a triggerer, from its start to the last event, in seconds."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        env = environment(folder, url) | {"AIRFLOW_HOME": name, "AIRFLOW__CORE__DAGS_FOLDER": f"{name}/dags"}
        found = measured(_SCRIPT, case.name, str(count), str(_SIZES[case.size]), env=env, patience=_PATIENCE)
    return {"cpu_ms": found["cpu"], "ms": found["start"] + found["seconds"]}


def main() -> None:
    exit_cleanly()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        install(folder)
        shutil.copy(certifi.where(), folder / "authorities.pem")
        print(report.deferred(measure(folder, 3)))


if __name__ == "__main__":
    main()
