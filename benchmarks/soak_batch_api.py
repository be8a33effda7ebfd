"""Batches through a batch API, killed at any time: `python soak_batch_api.py [--seconds 120] [--seed 1]`.

Each batch is a folder, a server that goes wrong now and then, and some tries, each in a process of its own. Most of
them are killed by SIGKILL, and the last ones come to their end. Then every row has to have its own answer, once; and no
row whose answer the server had may have been sent to it again. The exit code is 1 where that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fresh import act_as_task

from airflow_chat_provider.testing import BatchServer, batch_faults

ROWS, KILLED, WHOLE = 200, 4, 4
_LATEST = 2.5  # seconds after which a try is killed
_PATIENCE = 120.0
_WRONG = (
    lambda draw: batch_faults.expired(draw.randrange(ROWS)),
    lambda draw: batch_faults.cancelled(draw.randrange(ROWS)),
    lambda draw: batch_faults.rows_missing(draw.randrange(1, 5)),
    lambda _: batch_faults.shuffled(),
    lambda _: batch_faults.same_id_twice(),
    lambda _: batch_faults.strange_id(),
    lambda _: batch_faults.not_json(),
    lambda _: batch_faults.output_short(),
    lambda _: batch_faults.token_limit(),
    lambda draw: batch_faults.output_cut(draw.choice((1, 2))),
    lambda draw: batch_faults.start_lost(draw.choice((1, 2))),
    lambda _: batch_faults.upload_lost(),
    lambda _: batch_faults.busy(),
    lambda _: batch_faults.out_of_order(),
)


def one_try(out):
    """In a process of its own; begins once a line can be read."""
    from airflow_chat_provider.operators import ChatCompletionBatchOperator

    act_as_task()
    task = ChatCompletionBatchOperator(
        task_id="bulk",
        input=[{"text": f"Row {number}"} for number in range(ROWS)],
        output=out,
        prompt="{{ row.text }}",
        result_format="text",
        max_failures=None,
        via="batch_api",
        deferrable=False,
    )
    sys.stderr.write("ready\n")
    sys.stdin.readline()
    task.execute({})


def begun(out):
    """A try that has made its operator, and begins to work."""
    command = [sys.executable, __file__, "--out", str(out)]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=pipe, stdout=nothing, stderr=pipe, text=True)
    while process.stderr.readline() not in ("ready\n", ""):
        pass
    process.stdin.write("\n")
    process.stdin.flush()
    return process


def tries(out, server, draw):
    """Some that are killed; then so many as it takes, but not more than may be needed."""
    for number in range(KILLED + WHOLE):
        if number < KILLED:
            server.script(*(draw.choice(_WRONG)(draw) for _ in range(draw.choice((0, 1, 1, 2)))))
        with begun(out) as process:
            if number < KILLED and draw.random() < 0.75:
                time.sleep(draw.random() * _LATEST)
                process.kill()
            else:
                process.communicate(timeout=_PATIENCE)
        if process.returncode == 0 and len(lines(out)) == ROWS:
            return


def lines(out):
    file = out / "results.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def readable(batch):
    """The ids of the rows whose answers are in a batch's output."""
    for line in batch.output.lines if batch.output else ():
        try:
            yield json.loads(line)["custom_id"]
        except ValueError:
            continue


def faults_of(out, server):
    """What must not be."""
    answers = Counter(name for batch in server.batches for name in set(readable(batch)) if name != "nobody")
    held = Counter(line["index"] for line in lines(out))
    found = {
        "paid twice": sum(count > 1 for count in answers.values()),
        "two lines": sum(count > 1 for count in held.values()),
        "no line": ROWS - len(held),
        "another's answer": sum(line["response"] != line["row"]["text"] for line in lines(out)),
    }
    return {name: count for name, count in found.items() if count}


def soak(seconds, seed):
    until, number, wrong = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        number += 1
        draw = random.Random(f"{seed} {number}")
        with BatchServer(polls=draw.choice((0, 1, 3))) as server, tempfile.TemporaryDirectory() as out:
            os.environ["AIRFLOW_CONN_CHAT_DEFAULT"] = json.dumps(server.connection)
            tries(Path(out), server, draw)
            found = faults_of(Path(out), server)
            wrong += bool(found)
            print(f"batch {number}: {len(server.batches)} at the server, {found or 'all is well'}", flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--out", help="run one try into this folder")
    given = parser.parse_args()
    if given.out:
        one_try(given.out)
        return
    sys.exit(soak(given.seconds, given.seed) > 0)


if __name__ == "__main__":
    main()
