"""Compare this provider with its rivals, side by side in one run: `make bench`, or this file in that environment."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import bulk
import deferred
import report
from contenders import AIRFLOW_EMPTY, ALL
from processes import environment, exit_cleanly, fresh_medians, install, measured, server, trust
from scheduler import scheduler_medians

_TLS = ("http", "sketch", "ours")


def main() -> None:
    options = arguments()
    exit_cleanly()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        results = measure(Path(name), options)
    results["seconds"] = time.monotonic() - began
    text = report.markdown(results)
    print(text)
    if options.write:
        report.write(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes and scheduler runs of each (5)")
    parser.add_argument(
        "--scheduler", action=argparse.BooleanOptionalAction, default=True, help="tasks in a real Airflow, 2-3 minutes"
    )
    parser.add_argument(
        "--triggers", action=argparse.BooleanOptionalAction, default=True, help="deferred calls, 6 minutes"
    )
    parser.add_argument(
        "--bulk", action=argparse.BooleanOptionalAction, default=True, help="thousands of requests, 4 minutes"
    )
    parser.add_argument("--write", action="store_true", help="put the results into README.md")
    return parser.parse_args()


def measure(folder: Path, options: argparse.Namespace) -> dict:
    rounds = options.rounds
    install(folder)
    names = [contender.name for contender in ALL]
    results = {}
    with server(folder) as url, server(folder, tls=True) as tls_url:
        trust(folder)
        env = environment(folder, url)
        say("warm processes")
        results |= measured("steady.py", url, env=env)
        for what in ("parse", "reply"):
            say(f"fresh processes: {what}")
            more = [AIRFLOW_EMPTY.name] if what == "parse" else []
            results[f"fresh {what}"] = fresh_medians(what, names + more, env, rounds)
        say("fresh processes: reply over TLS")
        results["fresh tls"] = fresh_medians("reply", _TLS, environment(folder, tls_url), rounds)
        if options.scheduler:
            say("tasks in a real Airflow")
            results["scheduler"] = scheduler_medians(folder, env, rounds)
    if options.triggers:
        say("deferred calls")
        results |= deferred.measure(folder, min(rounds, 3))
    if options.bulk:
        say("bulk")
        results |= bulk.measure(folder, rounds)
    return results


def say(what: str) -> None:
    print(f"… {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
