"""A batch most of whose requests an earlier one has answered: `python reuse.py [--rows N] [--changed N] [--at-end]`.

It makes the earlier batch's folder, and runs the batch in a fresh process against a server that takes 200 ms: seconds
until the server sees the first request, rows per second, CPU time per row, and what the resident set grew by and came
to. The rows that changed are spread evenly, or stand at the end of the input.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import certifi
from fresh import act_as_task
from processes import environment, exit_cleanly, install, measured, slow_server
from resume import first
from senders import batch, measuring, peak_mb, raise_limits, request, text, warm_up, write_rows
from triggers import url

_PATIENCE = 1800.0
_LOOK = 0.1  # seconds between two looks at whether a request has come


def prepare(folder, rows, changed, *, at_end):
    """The input, and the folder of a batch that answered all of its rows but those that changed."""
    from airflow_chat_provider.batch.digests import digest_of

    write_rows(folder / "rows.jsonl", rows)
    line = json.loads((folder / "warm" / "results.jsonl").read_text())
    assert line["digest"] == digest_of(url(), request(0)), "this script makes another request than the batch"
    with (folder / "warm" / "results.jsonl").open("w") as file:
        for number in range(rows):
            if not _is_changed(number, rows, changed, at_end=at_end):
                digest = digest_of(url(), request(number))
                line |= {"index": number, "id": f"row-{number}", "row": {"text": text(number)}, "digest": digest}
                file.write(json.dumps(line, separators=(",", ":")) + "\n")


def _is_changed(number, rows, changed, *, at_end):
    return number >= rows - changed if at_end else number * changed // rows != (number + 1) * changed // rows


def watch(report):
    """End this process soon after its first request."""
    while (came := first()) is None:
        time.sleep(_LOOK)
    report(came)
    os._exit(0)


def sample(folder, rows, changed, report, *, at_end, until_first):
    act_as_task()
    raise_limits()
    warm_up(folder)
    prepare(folder, rows, changed, at_end=at_end)
    first()
    operator = batch(folder / "rows.jsonl", folder / "out")
    operator.reuse = str(folder / "warm")
    found, began = measuring(rows), time.monotonic()

    def tell(came):
        report(found() | {"first": came - began, "peak_mb": peak_mb()})

    if until_first:
        threading.Thread(target=watch, args=[tell], daemon=True).start()
    manifest = operator.execute({})
    assert (manifest["succeeded"], manifest["reused"]) == (rows, rows - changed), manifest
    tell(first())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--changed", type=int, help="a hundredth of the rows by default")
    parser.add_argument("--at-end", action="store_true")
    parser.add_argument("--until-first", action="store_true")
    parser.add_argument("--sample", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    changed = given.rows // 100 if given.changed is None else given.changed
    if given.sample:
        printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123 - what an operator logs

        def report(found):
            print(json.dumps(found), file=printed, flush=True)

        sample(given.sample, given.rows, changed, report, at_end=given.at_end, until_first=given.until_first)
        return
    exit_cleanly()
    options = ["--rows", str(given.rows), "--changed", str(changed)]
    options += [f"--{name}" for name in ("at-end", "until-first") if getattr(given, name.replace("-", "_"))]
    with tempfile.TemporaryDirectory(prefix="bench-") as name, slow_server() as server:
        folder = Path(name)
        install(folder)
        (folder / "authorities.pem").write_bytes(Path(certifi.where()).read_bytes())
        own = folder / "own"
        own.mkdir()
        found = measured(
            "reuse.py", "--sample", str(own), *options, env=environment(folder, server), patience=_PATIENCE
        )
    print(f"{given.rows:,} rows, {changed:,} of them changed{' at the end' if given.at_end else ''}")
    print(f"first request after {found['first']:.1f} s")
    if not given.until_first:
        print(f"all done after {found['seconds']:.1f} s: {given.rows / found['seconds']:,.0f} rows/s")
        print(f"{found['cpu_ms'] * 1e3:,.0f} us of CPU per row")
    print(f"resident set: grew by {found['mb']:.0f} MB, {found['peak_mb']:.0f} MB at its largest")


if __name__ == "__main__":
    main()
