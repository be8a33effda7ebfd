"""The load of the soak: `python soak_load.py FOLDER SECONDS SEED` writes what callers got, and how it was meanwhile.

``clients.jsonl`` has a line for each task and for each row of a batch; ``samples.jsonl`` one for every other second,
the first before the load and the last after it.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fresh import act_as_task, resident_mb
from senders import raise_limits
from soak_airflow import Died, Task, XComs
from soak_batches import Batches
from soak_clients import STYLES, Clients, counted

from airflow_chat_provider.retry_policy import ChatCompletionRetryPolicy

TRIES = 3
OPERATORS, TRIGGERS = 4, 24
_EACH = 2.0  # seconds
_LIBC = ctypes.CDLL(None)


def arguments_of(subject: str, draw: random.Random) -> dict[str, Any]:
    style = draw.choice(STYLES)
    form = "as JSON " if style.get("result_format") == "json" else ""
    return {"prompt": f"Answer {form}subject {subject} end", **style}


def said(errors: list[BaseException]) -> str:
    """What a reader of the log sees of them: no body."""
    return " ".join(f"{error} {getattr(error, 'request_id', None)}" for error in errors)


def again(error: BaseException, try_number: int) -> bool:
    """Would Airflow try once more?"""
    if try_number >= TRIES:
        return False
    decision = ChatCompletionRetryPolicy().evaluate(error, try_number, TRIES - 1)
    return decision.action.name != "FAIL"


class Tasks:
    """One operator's tasks, once they do all by themselves and once they defer."""

    def __init__(self, clients: Clients, xcoms: XComs) -> None:
        self._clients = clients
        self._xcoms = xcoms

    def operate(self, worker: int) -> None:
        number = 0
        while not self._clients.over:
            number += 1
            subject = f"op{worker}-{number}"
            draw = self._clients.draw(subject)
            task = Task(self._xcoms, subject, draw, **arguments_of(subject, draw), deferrable=False)
            self._end(task, self._tries(task, draw))

    def _killed_now_and_then(self, task: Task, number: int, draw: random.Random) -> None:
        timer = None
        if task.may_die(0.05):
            timer = threading.Timer(draw.random() * 0.3, lambda: self._kill(task))
            timer.start()
        try:
            task.begin(number, TRIES - 1)
        finally:
            if timer is not None:
                timer.cancel()

    @staticmethod
    def _kill(task: Task) -> None:
        if task.operator is not None:
            task.deaths += 1
            task.operator.on_kill()

    def _tries(self, task: Task, draw: random.Random) -> str:
        for number in range(1, TRIES + 1):
            try:
                self._killed_now_and_then(task, number, draw)
            except Died:
                continue
            except Exception as error:  # noqa: BLE001 - the task's failure
                if not again(error, number):
                    return type(error).__name__
            else:
                return "success"
        return "died"

    async def defer(self, worker: int) -> None:
        number = 0
        while not self._clients.over:
            number += 1
            subject = f"tr{worker}-{number}"
            draw = self._clients.draw(subject)
            uncertain = draw.choice(("fail", "fail", "fail", "resend"))
            given = {**arguments_of(subject, draw), "deferrable": True, "on_uncertain": uncertain}
            task = Task(self._xcoms, subject, draw, **given)
            ended = await self._deferred_tries(task)
            await asyncio.to_thread(self._end, task, ended, resend=uncertain == "resend")

    async def _deferred_tries(self, task: Task) -> str:
        for number in range(1, TRIES + 1):
            try:
                deferred = await asyncio.to_thread(task.begin, number, TRIES - 1)
                while deferred is not None:
                    event = await task.trigger(deferred)
                    deferred = await asyncio.to_thread(task.resume, deferred, event)
            except Died:
                continue
            except Exception as error:  # noqa: BLE001 - the task's failure
                if not again(error, number):
                    return type(error).__name__
            else:
                return "success"
        return "died"

    def _end(self, task: Task, ended: str, **more: Any) -> None:
        values = {key: value for key, value in self._xcoms.of(task.task_id).items() if value is not None}
        left = sorted(key for key in values if key.startswith("chat_journal"))
        held = json.dumps({key: value for key, value in values.items() if key not in left}, ensure_ascii=False)
        texts = [f"{type(error).__name__}: {str(error)[:300]}" for error in task.errors]
        bodies = [values.get("body"), *(getattr(error, "body", None) for error in task.errors)]
        ends = [(json.dumps(body), counted(body)) for body in bodies]
        more |= {"ended": ended, "deaths": task.deaths, "left": left, "troubled": task.is_troubled, "errors": texts}
        self._clients.note(task.task_id, held, said(task.errors), ends, **more)
        task.end()


class Samples:
    """What this process holds."""

    def __init__(self, folder: Path, clients: Clients) -> None:
        self._file = (folder / "samples.jsonl").open("w", buffering=1)
        self._clients = clients

    def take(self, name: str) -> None:
        gc.collect()  # what is garbage, or only kept by the C library for the next who asks, has not grown
        _LIBC.malloc_trim(0)
        links = []
        for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a Path opens one more
            try:
                links.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - no file behind it
            except OSError:
                continue
        sample = {
            "name": name,
            "mb": resident_mb(),
            "sockets": sum(link.startswith("socket:") for link in links),
            "files": len(links),
            "threads": threading.active_count(),
            "tasks": len(asyncio.all_tasks()),
            "calls": self._clients.calls,
        }
        self._file.write(json.dumps(sample) + "\n")

    async def keep(self) -> None:
        """As long as the load is the same."""
        while not self._clients.over:
            await asyncio.sleep(_EACH)
            self.take("load")


async def load(folder: Path, seconds: float, seed: str) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(TRIGGERS))
    clients = Clients(folder, seed, time.monotonic() + seconds)
    xcoms = XComs(clients.draw("xcoms"))
    xcoms.install()
    tasks, samples = Tasks(clients, xcoms), Samples(folder, clients)
    samples.take("before")
    with ThreadPoolExecutor(OPERATORS + 1) as pool:
        sampling = asyncio.create_task(samples.keep())
        await asyncio.gather(
            *(loop.run_in_executor(pool, tasks.operate, worker) for worker in range(OPERATORS)),
            loop.run_in_executor(pool, Batches(clients).run),
            *(tasks.defer(worker) for worker in range(TRIGGERS)),
        )
        await sampling
    await loop.shutdown_default_executor()
    await asyncio.sleep(1.0)
    samples.take("after")


def main() -> None:
    raise_limits()
    act_as_task()
    asyncio.run(load(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))


if __name__ == "__main__":
    main()
