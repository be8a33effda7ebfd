"""Many triggers at once on one event loop: `python triggers.py CONTENDER COUNT` prints one sample as JSON.

The journal is excluded: it is Airflow's database. Everything is imported, and one call made, before the clock starts.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time

from contenders import KEY, REQUEST
from fresh import resident_mb

COUNTS = {"ours": (1000, 3000, 10_000), "http": (1000,), "openai": (100,), "aiohttp": (1000,)}


def url():
    return json.loads(os.environ["AIRFLOW_CONN_CHAT_DEFAULT"])["host"]


def ours():
    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.durable.entry import VERSION, Deferred, Entry
    from airflow_chat_provider.triggers import ChatCompletionTrigger

    limits = {"timeout": 600.0, "deadline": 1800.0, "max_attempts": 3}
    where = {"chat_conn_id": "chat_default", "base_url": url()}
    ledger = {"idempotency_key": "a key"}
    # The worst case: a worker ends the task, so that the trigger has no event with the answer, but judges it.
    entry = Entry.from_deferred(Deferred(limits, REQUEST, None, 0, Wanted().to_dict(), None, where, ledger), "a key")

    class Memory:
        """In place of XCom. Each trigger reads an entry of its own, as it is not given one that is parsed already."""

        def __init__(self, value):
            self.value = value

        async def aget(self):
            return dict(self.value)

        async def aput(self, value):
            self.value = value

    async def one():
        trigger = ChatCompletionTrigger(dag_id="d", run_id="r", task_id="t")
        trigger.journal.slot = Memory(entry.to_dict())
        event = await anext(trigger.run())
        assert event.payload == {"version": VERSION, "state": "done"}, event
        assert trigger.journal.entry.received()[-1].error is None

    return one


def http():
    from airflow.providers.http.triggers.http import HttpTrigger

    async def one():
        trigger = HttpTrigger(
            http_conn_id="http",
            endpoint="chat/completions",
            method="POST",
            data=json.dumps(REQUEST),
            headers={"Content-Type": "application/json"},
        )
        event = await anext(trigger.run())
        assert event.payload["status"] == "success", event

    return one


def openai():
    from openai import AsyncOpenAI

    async def one():
        async with AsyncOpenAI(base_url=url(), api_key=KEY) as client:
            assert (await client.chat.completions.create(**REQUEST)).choices

    return one


def aiohttp():
    import aiohttp

    async def one():
        session = sessions.get("session") or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        sessions["session"] = session
        async with session.post(f"{url()}/chat/completions", json=REQUEST) as answer:
            assert (await answer.json())["choices"]

    sessions = {}
    one.sessions = sessions
    return one


async def sample(one, count):
    await one()
    gc.collect()
    gc.freeze()  # nobody pays for the heap of his imports
    before, spent, began = resident_mb(), cpu(), time.perf_counter()
    tasks = [asyncio.create_task(one()) for _ in range(count)]
    most = await peak(tasks)
    await asyncio.gather(*tasks)
    seconds, spent = time.perf_counter() - began, cpu() - spent
    for session in getattr(one, "sessions", {}).values():
        await session.close()
    return {"seconds": seconds, "cpu_ms": spent / count * 1e3, "kb": (most - before) * 1024 / count}


async def peak(tasks):
    """The resident set at its largest, while all are under way."""
    most = 0.0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0.05)
        most = max(most, resident_mb())
    return most


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main():
    kind, count = {"ours": ours, "http": http, "openai": openai, "aiohttp": aiohttp}[sys.argv[1]], int(sys.argv[2])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123 - what triggers log
    print(json.dumps(asyncio.run(sample(kind(), count))), file=printed, flush=True)


if __name__ == "__main__":
    main()
