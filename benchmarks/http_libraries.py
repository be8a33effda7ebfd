"""httpx and httpx2 side by side: `python http_libraries.py` needs an environment that has both, and prints its tables.

Two processes, one for each library, take their samples by turns, and who is first changes from round to round. Times
are CPU times of the process, but where it says wall. An import is measured in fresh processes.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import certifi
from http_ways import AT_ONCE, TRIGGERS
from processes import environment, exit_cleanly, install, measured, server, slow_server

LIBRARIES = ("httpx", "httpx2")

TOLD = {
    "alone": "with nothing loaded",
    "over airflow.sdk": "in a task's process",
    "left httpx": "the same, once Airflow does not load httpx",
    "post": "`Client.post()`, reused: the floor",
    "execute": "`execute()` of a new operator",
    "TLS": "a TLS context, made once per process",
    "ours": "our client, a reply judged",
    "triggers": f"{TRIGGERS:,} triggers",
    "plain": "an `AsyncClient`, a reply parsed",
    "rack, our sockets": "bytes alone: our pool and our sockets",
    "rack": "bytes alone: our pool, its sockets",
    "pool, our sockets": "bytes alone: its pool, our sockets",
    "pool": "bytes alone: its pool and its sockets",
}


def by_turns(names, rounds, take):
    """``take(library, name)`` for all, who is first changing from round to round."""
    samples = {(name, lib): [] for name in names for lib in LIBRARIES}
    for number in range(rounds):
        for name in names:
            for lib in LIBRARIES[:: 1 if number % 2 else -1]:
                samples[name, lib].append(take(lib, name))
    return samples


def rows(title, samples, what="cpu"):
    yield f"| {title} | httpx | httpx2 | httpx2 / httpx |"
    yield "| --- | ---: | ---: | ---: |"
    for name in dict.fromkeys(name for name, _ in samples):
        one, two = ([sample[what] for sample in samples[name, lib]] for lib in LIBRARIES)
        ratios = statistics.median(b / a for a, b in zip(one, two, strict=True))
        yield f"| {TOLD[name]} | {statistics.median(one):.2f} | {statistics.median(two):.2f} | {ratios:.2f} |"
    yield ""


class Worker:
    def __init__(self, env):
        command = [sys.executable, "-W", "ignore", str(Path(env["PYTHONPATH"]) / "http_ways.py"), "work"]
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def take(self, name):
        print(name, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def stop(self):
        self._process.terminate()
        self._process.wait()


def run(folder):
    install(folder)
    shutil.copy(certifi.where(), folder / "authorities.pem")
    with server(folder) as fast, slow_server() as slow, contextlib.ExitStack() as stack:
        envs = {lib: environment(folder, fast) | {"CHAT_HTTP_LIBRARY": lib, "BENCH_SLOW": slow} for lib in LIBRARIES}
        for env in envs.values():
            for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):  # what the library trusts by itself
                env.pop(name, None)
        workers = {lib: Worker(env) for lib, env in envs.items()}
        for worker in workers.values():
            stack.callback(worker.stop)

        def take(lib, name):
            return workers[lib].take(name)

        def take_import(lib, where):
            return measured("http_ways.py", where, env=envs[lib])

        yield from rows("our import, CPU ms", by_turns(("alone", "over airflow.sdk", "left httpx"), 5, take_import))
        one = by_turns(("post", "execute"), 60, take) | by_turns(("TLS",), 12, take)
        yield from rows("one call, CPU ms", one)
        yield from rows("the same, wall ms", one, "wall")
        many = by_turns(("ours", "triggers"), 12, take)
        many |= by_turns(("rack, our sockets", "rack"), 7, take)
        many |= by_turns(("pool, our sockets", "pool", "plain"), 3, take)
        yield from rows(f"{AT_ONCE} at once, CPU ms a call", many)


if __name__ == "__main__":
    exit_cleanly()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        for row in run(Path(name)):
            print(row, flush=True)
