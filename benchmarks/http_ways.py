"""What `http_libraries.py` measures, in a process of its own under one library: `python http_ways.py work|WHERE`.

`work` takes a sample for each line that comes; any other argument says over what our import is measured.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import logging
import os
import ssl
import statistics
import sys
import time
from collections import deque

AT_ONCE, CALLS, TRIGGERS = 500, 1000, 1000
_TRANSPORT = "airflow_chat_provider.transport.client"


def library():
    from airflow_chat_provider.transport.http_library import httpx

    return httpx


def core():
    from airflow_chat_provider.transport.http_library import httpcore

    return httpcore


def burst(call, make=lambda: (), times=10):
    """The median of a call's CPU and wall time, in ms; what is made for it is not counted."""
    call(*make())
    spent, walls = [], []
    for _ in range(times):
        given = make()
        began, used = time.perf_counter(), time.process_time()
        call(*given)
        spent.append(time.process_time() - used)
        walls.append(time.perf_counter() - began)
    return {"cpu": statistics.median(spent) * 1e3, "wall": statistics.median(walls) * 1e3}


@functools.cache
def operator_source():
    from contenders import OURS

    names = {"task_id": "task"}
    exec(OURS.imports, names)
    return compile(OURS.call, "task", "eval"), names


def execute():
    from fresh import context

    def make():
        code, names = operator_source()
        return eval(code, names), context()

    return burst(lambda operator, given: operator.execute(given), make)


@functools.cache
def client():
    from contenders import KEY

    return library().Client(headers={"Authorization": f"Bearer {KEY}"})


def post():
    from contenders import REQUEST
    from triggers import url

    return burst(lambda: client().post(f"{url()}/chat/completions", json=REQUEST).json())


def context_of_tls():
    return burst(lambda: library().create_ssl_context(verify=True), times=3)


def slow_url():
    return os.environ["BENCH_SLOW"]


def slow_request():
    from contenders import REQUEST

    return library().Request("POST", f"{slow_url()}/chat/completions", json=REQUEST)


class Pooled:
    """One transport for all: the library's own."""

    def __init__(self, sockets=None):
        limits = library().Limits(max_connections=None, max_keepalive_connections=None)
        self._transport = library().AsyncHTTPTransport(verify=authorities(), limits=limits)
        if sockets is not None:
            options = {"max_connections": None, "max_keepalive_connections": None, "keepalive_expiry": 5.0}
            self._transport._pool = core().AsyncConnectionPool(network_backend=sockets, **options)  # noqa: SLF001

    async def call(self):
        await read(self._transport, slow_request())

    async def aclose(self):
        await self._transport.aclose()


class Racked:
    """A transport for each call under way, with one connection, as ours."""

    def __init__(self, make):
        self._make, self._idle = make, deque()

    async def call(self):
        transport = self._idle.pop() if self._idle else self._make()
        await read(transport, slow_request())
        self._idle.append(transport)

    async def aclose(self):
        for transport in self._idle:
            await transport.aclose()


async def read(transport, request):
    response = await transport.handle_async_request(request)
    body = b"".join([piece async for piece in response.aiter_raw()])
    await response.aclose()
    assert response.status_code == 200
    assert body


@functools.cache
def authorities():
    return ssl.create_default_context()  # one for all: it takes longer to make than all else of a client


def single():
    limits = library().Limits(max_connections=1, max_keepalive_connections=1)
    return library().AsyncHTTPTransport(verify=authorities(), limits=limits)


class Plain:
    """An AsyncClient, as a user has it."""

    def __init__(self):
        limits = library().Limits(max_connections=None, max_keepalive_connections=None)
        self._client = library().AsyncClient(timeout=600.0, limits=limits, verify=authorities())

    async def call(self):
        from contenders import REQUEST

        answer = await self._client.post(f"{slow_url()}/chat/completions", json=REQUEST)
        assert answer.raise_for_status().json()["choices"]

    async def aclose(self):
        await self._client.aclose()


class Ours:
    """The whole of our asynchronous client, judging of the reply included."""

    def __init__(self):
        from contenders import KEY, REQUEST

        from airflow_chat_provider.core.connection.settings import Settings
        from airflow_chat_provider.transport.session import AsyncSession, call_for

        settings = Settings(base_url=slow_url(), api_key=KEY)
        self._client, self._call = AsyncSession(settings), call_for(REQUEST, settings)

    async def call(self):
        from airflow_chat_provider.core.call.exchange import exchange

        reply = await self._client.run(exchange(self._call), {})
        assert reply.error is None, reply.error

    async def aclose(self):
        await self._client.aclose()


def our_sockets():
    from airflow_chat_provider.transport.async_network import AsyncBackend

    return AsyncBackend()


def our_transport():
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.transport.pools import AsyncTransport

    return AsyncTransport(Settings(base_url=slow_url()))


WAYS = {
    "plain": Plain,
    "ours": Ours,
    "pool": Pooled,
    "pool, our sockets": lambda: Pooled(our_sockets()),
    "rack": lambda: Racked(single),
    "rack, our sockets": lambda: Racked(our_transport),
}


async def at_once(way):
    sender = WAYS[way]()
    await sender.call()
    numbers = iter(range(CALLS))

    async def work():
        for _ in numbers:
            await sender.call()

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    found = {"cpu": (time.process_time() - used) / CALLS * 1e3, "wall": (time.perf_counter() - began) * 1e3}
    await sender.aclose()
    return found


def triggers():
    from triggers import ours, sample

    found = asyncio.run(sample(ours(), TRIGGERS))
    return {"cpu": found["cpu_ms"], "wall": found["seconds"] * 1e3}


def work(printed):
    """Take a sample for each line that comes."""
    import airflow.sdk  # noqa: F401
    from fresh import act_as_task
    from senders import raise_limits

    act_as_task()
    raise_limits()
    logging.disable(logging.INFO)  # the libraries have a line for each call
    alone = {"execute": execute, "post": post, "TLS": context_of_tls, "triggers": triggers}
    for line in sys.stdin:
        name = line.strip()
        found = alone[name]() if name in alone else asyncio.run(at_once(name))
        print(json.dumps(found), file=printed, flush=True)


def imports(where, printed):
    """What our import costs: `alone`, `over airflow.sdk`, or over one that has `left httpx`, as later ones may."""
    if where == "left httpx":
        sys.modules.update({"httpx": None, "httpcore": None})  # Airflow's logging takes what it finds
    if where != "alone":
        importlib.import_module("airflow.sdk.execution_time.task_runner")
    for name in ("httpx", "httpcore"):
        if sys.modules.get(name, name) is None:
            del sys.modules[name]
    began = time.process_time()
    importlib.import_module(_TRANSPORT)
    print(json.dumps({"cpu": (time.process_time() - began) * 1e3}), file=printed, flush=True)


if __name__ == "__main__":
    printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123 - what operators log
    work(printed) if sys.argv[1] == "work" else imports(sys.argv[1], printed)
