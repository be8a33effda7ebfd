"""A bulk of requests, so many at once: `python senders.py CONTENDER FOLDER` prints one sample as JSON.

The rivals build each request, send it, and look for choices in the reply. Ours does the whole job, from a file of rows
to a folder of results. Everything is imported, the clients are made, and one call is through, before the clock starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import re
import resource
import ssl
import sys
import time
from pathlib import Path

from contenders import KEY
from fresh import act_as_task, resident_mb
from triggers import cpu, url

ROWS, AT_ONCE = 2000, 500
_SMALL_CLIENTS = 64
_AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}


def text(number):
    """Row number so and so: about as long as a short review of a product."""
    return f"Order {number} came two days late, the box was damp, but the lamp itself is as bright as I had hoped."


def request(number):
    return {"model": "m", "messages": [{"role": "user", "content": f"Classify: {text(number)}"}], "temperature": 0}


@contextlib.asynccontextmanager
async def openai(**options):
    from openai import AsyncOpenAI

    # No second tries: a rival that loses calls is not to hide it.
    async with AsyncOpenAI(base_url=url(), api_key=KEY, max_retries=0, **options) as client:

        async def call(number, _):
            return (await client.chat.completions.create(**request(number))).choices

        yield call


def openai_aiohttp():
    from openai import DefaultAioHttpClient

    return openai(http_client=DefaultAioHttpClient())


@contextlib.asynccontextmanager
async def httpx(clients=1, transport=None):
    from httpx import AsyncClient, Limits

    limits = Limits(max_connections=None, max_keepalive_connections=None)
    authorities = ssl.create_default_context()  # one for all: it takes longer to make than all else of a client
    async with contextlib.AsyncExitStack() as stack:
        several = [
            await stack.enter_async_context(
                AsyncClient(
                    headers=_AUTHORIZATION, timeout=600.0, limits=limits, verify=authorities, transport=transport
                )
            )
            for _ in range(clients)
        ]

        async def call(number, worker):
            answer = await several[worker % clients].post(f"{url()}/chat/completions", json=request(number))
            return answer.raise_for_status().json()["choices"]

        yield call


def httpx_small():
    return httpx(_SMALL_CLIENTS)


def httpx_aiohttp():
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    # Told to have no limit, this transport would keep aiohttp's own, which is 100.
    return httpx(transport=AiohttpTransport(client=lambda: aiohttp.ClientSession(connector=unlimited())))


def unlimited():
    import aiohttp

    return aiohttp.TCPConnector(limit=0)


@contextlib.asynccontextmanager
async def aiohttp():
    from aiohttp import ClientSession

    async with ClientSession(connector=unlimited(), headers=_AUTHORIZATION) as session:

        async def call(number, _):
            async with session.post(f"{url()}/chat/completions", json=request(number)) as answer:
                answer.raise_for_status()
                return (await answer.json())["choices"]

        yield call


RIVALS = {
    "openai": openai,
    "openai-aiohttp": openai_aiohttp,
    "httpx": httpx,
    "httpx-small": httpx_small,
    "httpx-aiohttp": httpx_aiohttp,
    "aiohttp": aiohttp,
}
OURS = "ours"


async def sample_rival(rival):
    logging.disable(logging.INFO)  # httpx has a line for each call
    async with rival() as call:

        async def work(worker):
            for number in numbers:
                assert await call(number, worker)

        assert await call(0, 0)
        numbers = iter(range(ROWS))
        found = measuring(ROWS)
        await asyncio.gather(*(work(worker) for worker in range(AT_ONCE)))
        return found()


def sample_ours(folder):
    act_as_task()
    write_rows(folder / "rows.jsonl", ROWS)
    warm_up(folder)
    operator = batch(folder / "rows.jsonl", folder / "out")
    found = measuring(ROWS)
    manifest = operator.execute({})
    told = found()
    assert manifest["succeeded"] == manifest["total"] == ROWS, manifest
    return told


def warm_up(folder):
    write_rows(folder / "one.jsonl", 1)
    manifest = batch(folder / "one.jsonl", folder / "warm").execute({})
    assert manifest["succeeded"] == 1, manifest


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
        max_concurrency=AT_ONCE,
    )


def write_rows(path, count):
    with path.open("w") as file:
        file.writelines(json.dumps({"text": text(number)}) + "\n" for number in range(count))


def measuring(calls):
    """Starts the clock. What it gives tells what happened until it is called first."""
    gc.collect()
    gc.freeze()  # nobody pays for the heap of his imports
    before = fresh_peak()
    spent, began = cpu(), time.perf_counter()

    def found():
        seconds, used = time.perf_counter() - began, cpu() - spent
        return {"seconds": seconds, "cpu_s": used, "cpu_ms": used / calls * 1e3, "mb": peak_mb() - before}

    return found


def fresh_peak():
    """Let the kernel's note of the largest resident set begin anew; gives the present one."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident_mb()


def peak_mb():
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def raise_limits():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main():
    name, folder = sys.argv[1], Path(sys.argv[2])
    raise_limits()
    printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123 - what an operator logs
    found = sample_ours(folder) if name == OURS else asyncio.run(sample_rival(RIVALS[name]))
    print(json.dumps(found), file=printed, flush=True)


if __name__ == "__main__":
    main()
