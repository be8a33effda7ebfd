"""What a picture of 10 MB costs over the same call without it: `.venv/bin/python benchmarks/attachments.py`

Each sample is a fresh process that has made one call already. `execute()` sends by itself; as a trigger sends, on an
event loop, the file is read in a thread. The server, in a process of its own on this machine, reads it all before it
answers. Prints milliseconds, those of them that the process itself had a core, and the megabytes by which its resident
set grew at its largest: medians.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZE, ROUNDS = 10_000_000, 5
HERE = Path(__file__).resolve()
WAYS = ("execute()", "on an event loop")


def execute(path):
    from fresh import context

    from airflow_chat_provider.operators import ChatCompletionOperator

    task = ChatCompletionOperator(task_id="ask", prompt="What is this?", attachments=path)
    task.execute(context())


def on_a_loop(path):
    from airflow_chat_provider.core.request.attachments import Attachments
    from airflow_chat_provider.hooks import ChatCompletionHook
    from airflow_chat_provider.transport.session import AsyncSession

    asked = {"model": "m", "messages": [{"role": "user", "content": "What is this?"}]}
    request, files = asked, Attachments((path,) if path else ())
    request, files = files.noted(files.with_stand_ins(request))

    async def call():
        session = AsyncSession(ChatCompletionHook().settings)
        reply = await session.send(request, attachments=files)
        await session.aclose()
        assert reply.error is None, reply.error

    asyncio.run(call())


def sample(way, path):
    from fresh import act_as_task, resident_mb

    act_as_task()
    call = execute if way == WAYS[0] else on_a_loop
    call(None)
    call(str(HERE.with_suffix(".py")))  # what attachments import is not counted: a small file is one, too
    before = resident_mb()
    Path("/proc/self/clear_refs").write_text("5")  # begins the largest size anew
    began, worked = time.perf_counter(), time.process_time()
    call(path or None)
    took, worked = (time.perf_counter() - began) * 1e3, (time.process_time() - worked) * 1e3
    largest = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"ms": took, "cpu": worked, "mb": int(largest.split()[1]) / 1024 - before}))


def measured(url, way, path):
    connection = {"conn_type": "chat", "host": url, "extra": {"model": "m"}}
    env = {**os.environ, "AIRFLOW_CONN_CHAT_DEFAULT": json.dumps(connection), "PYTHONPATH": str(HERE.parent.parent)}
    command = [sys.executable, HERE, "sample", way, path]
    return json.loads(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])


def main():
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        os.environ["AIRFLOW_HOME"] = folder
        picture = Path(folder) / "picture.png"
        picture.write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(SIZE - 8))
        server = subprocess.Popen([sys.executable, HERE.with_name("server.py")], stdout=subprocess.PIPE, text=True)
        try:
            url = server.stdout.readline().strip()
            found = {(way, path): [] for way in WAYS for path in ("", str(picture))}
            for _ in range(ROUNDS):
                for (way, path), samples in found.items():
                    samples.append(measured(url, way, path))
        finally:
            server.terminate()
            server.wait()
    middle = {
        key: {n: statistics.median(s[n] for s in samples) for n in ("ms", "cpu", "mb")}
        for key, samples in found.items()
    }
    print("| ms / ms of CPU / MB | without | with 10 MB | over it |\n| --- | ---: | ---: | ---: |")
    for way in WAYS:
        without, given = middle[way, ""], middle[way, str(picture)]
        cells = (without, given, {name: given[name] - without[name] for name in given})
        print(
            f"| {way} | "
            + " | ".join(f"{cell['ms']:.1f} / {cell['cpu']:.1f} / {cell['mb']:.1f}" for cell in cells)
            + " |"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["sample"]:
        sample(*sys.argv[2:])
    else:
        main()
