"""A batch of a million rows that is taken up again: `python resume.py FOLDER DONE first|end` prints one sample as JSON.

So many rows have their result already when the clock starts. `first` stops it once a request has reached the server,
`end` waits for all the others.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from urllib.request import urlopen

from fresh import act_as_task
from senders import batch, measuring, raise_limits, text, warm_up, write_rows
from triggers import url

ROWS = 1_000_000
_LOOK = 0.1  # seconds between two looks at whether a request has come


def prepare(folder, done):
    """The input; and an output folder that a run of this batch has begun, with so many results."""
    if not (folder / "rows.jsonl").exists():
        write_rows(folder / "rows.jsonl", ROWS)
    if done:
        fill(folder / "out" / "results.jsonl", done, (folder / "warm" / "results.jsonl").read_text())


def fill(results, done, line):
    """Results as the operator writes them, from one of its own. What makes the folder this batch's is there already."""
    result = json.loads(line)
    with results.open("w") as file:
        for number in range(done):
            result |= {"index": number, "id": f"row-{number}", "row": {"text": text(number)}}
            file.write(json.dumps(result, separators=(",", ":")) + "\n")


def first():
    """When the first request came since this was asked last; None if none did."""
    with urlopen(f"{url()}/first", timeout=10) as answer:
        return json.load(answer)


def watch(report):
    """End this process as a lost worker ends, soon after its first request."""
    while (came := first()) is None:
        time.sleep(_LOOK)
    report(came)
    os._exit(0)


def sample(folder, done, report, *, to_the_end):
    warm_up(folder)
    prepare(folder, done)
    first()
    operator = batch(folder / "rows.jsonl", folder / "out")
    found, began = measuring(ROWS - done), time.monotonic()

    def tell(came):
        report(found() | {"first": came - began})

    if not to_the_end:
        threading.Thread(target=watch, args=[tell], daemon=True).start()
    manifest = operator.execute({})
    assert manifest["succeeded"] == manifest["total"] == ROWS, manifest
    tell(first())


def main():
    folder, done, until = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    act_as_task()
    raise_limits()
    printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123 - what an operator logs

    def report(found):
        print(json.dumps(found), file=printed, flush=True)

    sample(folder, done, report, to_the_end=until == "end")


if __name__ == "__main__":
    main()
