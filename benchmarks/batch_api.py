"""Rows through a batch API: `python batch_api.py [ROWS]` prints what they took.

From a file of rows to a folder of results: each row is filled in, checked and uploaded, and its answer fetched, judged
and written. The server is in a process of its own, and looked at every now and then. The goal for 100,000 rows: at most
60 s of CPU, and no more memory than for a tenth of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fresh import act_as_task
from processes import batch_server, environment, exit_cleanly, install
from senders import measuring, text, write_rows

ROWS = 100_000
_PATIENCE = 900.0


def batch(rows, out):
    from airflow_chat_provider.operators import ChatCompletionBatchOperator

    return ChatCompletionBatchOperator(
        task_id="bulk",
        input=str(rows),
        output=str(out),
        prompt="Classify: {{ row.text }}",
        request={"model": "m", "temperature": 0},
        result_format="text",
        response_key="label",
        via="batch_api",
        deferrable=False,
    )


def sample(folder, rows):
    """In a fresh process: how much one batch takes, once all is imported and one row is through."""
    act_as_task()
    for name, count in (("warm", 1), ("rows", rows)):
        write_rows(folder / f"{name}.jsonl", count)
    batch(folder / "warm.jsonl", folder / "warm").execute({})
    operator = batch(folder / "rows.jsonl", folder / "out")
    found = measuring(rows)
    manifest = operator.execute({})
    told = found()
    assert manifest["succeeded"] == manifest["total"] == rows, manifest
    with (folder / "out" / "results.jsonl").open() as file:
        for line in map(json.loads, file):
            assert line["label"] == f"Classify: {text(line['index'])}"
    return told


def measured(folder, rows, env):
    command = [sys.executable, str(Path(env["PYTHONPATH"]) / "batch_api.py"), str(rows), str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def compare(rows):
    """A tenth of the rows, then all of them."""
    print("| rows | seconds in all | CPU, s | CPU each, ms | memory, MB |\n| ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        install(folder)
        for count in (rows // 10, rows):
            (folder / str(count)).mkdir()
            with batch_server() as url:
                found = measured(folder / str(count), count, environment(folder, url))
            print(f"| {count:,} | {found['seconds']:.1f} | {found['cpu_s']:.1f} | ", end="")
            print(f"{found['cpu_ms']:.2f} | {found['mb']:.0f} |", flush=True)


def main():
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    if len(sys.argv) < 3:
        exit_cleanly()
        compare(rows)
        return
    printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123 - what an operator logs
    print(json.dumps(sample(Path(sys.argv[2]), rows)), file=printed, flush=True)


if __name__ == "__main__":
    main()
