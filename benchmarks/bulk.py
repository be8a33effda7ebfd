"""A bulk of requests, hundreds of them under way at once; and a batch of a million rows that is taken up again.

`python bulk.py` measures it alone and prints its tables.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import certifi
import report
import resume
from processes import environment, exit_cleanly, install, measured, middle, slow_server
from senders import OURS, RIVALS

NAMES = (*RIVALS, OURS)
_ONCE = ("httpx",)  # some forty seconds
# How many rows have their result, and how long the run goes on. The first makes the folder, the others go on in it.
_RESUMED = ((0, "first"), (resume.ROWS // 2, "first"), (resume.ROWS - 2000, "end"))


def measure(folder: Path, rounds: int) -> dict:
    with slow_server() as url:
        env = environment(folder, url)
        return {"bulk": _bulk(folder, env, rounds), "resumed": _resumed(folder, env)}


def _bulk(folder: Path, env: dict[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """By turns, each sample in a fresh process."""
    samples = {name: [] for name in NAMES}
    for number in range(rounds):
        shift = number % len(NAMES)
        for name in NAMES[shift:] + NAMES[:shift]:
            if not number or name not in _ONCE:
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    samples[name].append(measured("senders.py", name, own, env=env))
    return {name: middle(found) for name, found in samples.items()}


def _resumed(folder: Path, env: dict[str, str]) -> dict[int, dict[str, float]]:
    with tempfile.TemporaryDirectory(dir=folder) as own:
        return {done: measured("resume.py", own, str(done), until, env=env) for done, until in _RESUMED}


def main() -> None:
    exit_cleanly()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        install(folder)
        shutil.copy(certifi.where(), folder / "authorities.pem")
        print(report.bulk(measure(folder, 5)))


if __name__ == "__main__":
    main()
