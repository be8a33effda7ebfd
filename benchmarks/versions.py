"""This checkout beside an earlier one, by turns, in one run: `python benchmarks/versions.py OTHER_CHECKOUT...`.

Every sample is a fresh process that sees one checkout alone, so whatever else the machine does meets all of them. The
server that answers is this checkout's. Prints a table of medians and the ratio of each to the first that was named;
`git worktree add /tmp/before COMMIT` makes a checkout to compare with.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(tempfile.gettempdir()) / "chat-versions"
BULK = 2_000
REQUEST = {"model": "test-model", "messages": [{"role": "user", "content": "Say hello."}]}
WORDS = " ".join(["word"] * 5_000)


def burst(function, times):
    """The median of so many runs, in ms, after one that nobody counts."""
    function()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


def sample_first(_folder):
    """As a task does: Airflow is there already, everything of ours is imported, made and called for the first time."""
    from fresh import act_as_task, context

    act_as_task()
    given, began = context(), time.perf_counter()
    from airflow_chat_provider.operators import ChatCompletionOperator

    imported = time.perf_counter()
    operator = ChatCompletionOperator(task_id="task", request=REQUEST)
    made = time.perf_counter()
    operator.execute(given)
    done = time.perf_counter()
    return {"import": (imported - began) * 1e3, "made": (made - imported) * 1e3, "first reply": (done - began) * 1e3}


def sample_warm(_folder):
    import httpx
    from fresh import act_as_task, context

    from airflow_chat_provider.operators import ChatCompletionOperator
    from airflow_chat_provider.schema import validate_request

    act_as_task()
    url = json.loads(os.environ["AIRFLOW_CONN_CHAT_DEFAULT"])["host"]
    client = httpx.Client(headers={"Authorization": "Bearer sk-benchmark-key"})
    many = {**REQUEST, "messages": [{"role": "user", "content": f"message {n}, plain text"} for n in range(1_000)]}

    def execute(request):
        def run():
            operator = ChatCompletionOperator(task_id="task", request=request)
            began = time.perf_counter()
            operator.execute(context())
            spent.append((time.perf_counter() - began) * 1e3)

        spent: list[float] = []
        for _ in range(40):
            run()
        return statistics.median(spent[5:])

    def render():
        operator = ChatCompletionOperator(task_id="task", request=copy.deepcopy(many))
        operator.render_template_fields(context())

    reused = burst(lambda: client.post(f"{url}/chat/completions", json=REQUEST).json(), 40)
    plain = execute(REQUEST)
    return {
        "httpx reused": reused,
        "execute": plain,
        "execute / httpx reused": plain / reused,
        "execute, streamed": execute({**REQUEST, "stream": True}),
        "execute, 1,000 messages": execute(many),
        "validate 1,000 messages": burst(lambda: validate_request(many), 10),
        "make and render 1,000 messages": burst(render, 5),
    }


def sample_bulk(folder):
    from fresh import act_as_task, context

    from airflow_chat_provider.operators import ChatCompletionBatchOperator

    act_as_task()
    rows = Path(folder) / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(BULK)), "utf-8")
    operator = ChatCompletionBatchOperator(
        task_id="bulk",
        input=str(rows),
        prompt="Say {{ row.text }}",
        model="test-model",
        output=str(Path(folder) / "out"),
        max_concurrency=100,
    )
    operator.render_template_fields(context())
    began, cpu = time.perf_counter(), time.process_time()
    operator.execute(context())
    return {
        "bulk, ms a row": (time.perf_counter() - began) * 1e3 / BULK,
        "bulk, CPU ms a row": (time.process_time() - cpu) * 1e3 / BULK,
    }


SAMPLES = {"first": sample_first, "warm": sample_warm, "bulk": sample_bulk}


def taken(kind, checkout, url):
    connection = {"conn_type": "chat", "host": url, "password": "sk-benchmark-key"}
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(checkout), str(HERE))),
        "AIRFLOW_CONN_CHAT_DEFAULT": json.dumps(connection),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        # Compiled once and kept, as an installed package is.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(CACHE / checkout.name),
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "versions.py"), "--sample", kind, "--folder", folder]
        done = subprocess.run(command, env={**env, "AIRFLOW_HOME": folder}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("others", nargs="*", type=Path, metavar="OTHER_CHECKOUT")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sample", choices=SAMPLES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sample:
        printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123 - what operators print
        found = SAMPLES[options.sample](options.folder)
        print(json.dumps(found), file=printed, flush=True)
        return
    compare([*(path.resolve() for path in options.others), HERE.parent], options.rounds)


def compare(checkouts, rounds):
    from airflow_chat_provider.testing import ChatServer, replies

    found = {checkout: {} for checkout in checkouts}

    def answer(request):
        return replies.stream(WORDS) if request.json.get("stream") else replies.ok("Hello.")

    with ChatServer(default=answer) as server:
        for checkout in checkouts:
            for kind in SAMPLES:
                taken(kind, checkout, server.url)  # compiles it
        for number in range(rounds):
            shift = number % len(checkouts)
            for kind in SAMPLES:
                for checkout in checkouts[shift:] + checkouts[:shift]:
                    for name, value in taken(kind, checkout, server.url).items():
                        found[checkout].setdefault(name, []).append(value)
    print("| medians, ms | " + " | ".join(checkout.name for checkout in checkouts) + " | last / first |")
    print("| --- |" + " ---: |" * (len(checkouts) + 1))
    for name in found[checkouts[0]]:
        medians = [statistics.median(found[checkout][name]) for checkout in checkouts]
        cells = [f"{value:.2f}" for value in (*medians, medians[-1] / medians[0])]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
