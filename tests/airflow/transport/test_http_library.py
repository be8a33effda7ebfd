"""The HTTP library is the one that Airflow's task SDK is on, and either will do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import requires
from importlib.util import find_spec
from typing import Any

import pytest

from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer
from tests.support.calling import free_port

HAS_HTTPX2 = find_spec("httpx2") is not None
with_httpx2 = pytest.mark.skipif(not HAS_HTTPX2, reason="httpx2 comes with Airflow 3.4")
NEEDED = requires("apache-airflow-task-sdk") or ()
airflow_needs_httpx2 = pytest.mark.skipif(
    not any(name.startswith("httpx2") for name in NEEDED), reason="Airflow needs httpx itself before 3.4"
)
as_airflow_has_it = pytest.mark.skipif("CHAT_HTTP_LIBRARY" in os.environ, reason="this run has chosen a library itself")

CHOICE = """
import sys
from types import ModuleType

if sys.argv[1]:
    client = sys.modules["airflow.sdk.api.client"] = ModuleType("airflow.sdk.api.client")
    for name in ("httpx", "httpcore", "httpx2", "httpcore2"):
        sys.modules[name] = ModuleType(name)
    setattr(client, sys.argv[1], sys.modules[sys.argv[1]])

from airflow_chat_provider.transport.http_library import httpcore, httpx

print(httpx.__name__, httpcore.__name__)
"""

CALLS = """
import asyncio, sys

absent = {"httpx": ("httpx2", "httpcore2"), "httpx2": ("httpx", "httpcore")}[sys.argv[1]]
sys.modules.update(dict.fromkeys(absent))

from airflow_chat_provider.core.call.exchange import exchange
from airflow_chat_provider.core.call.steps import Call
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.transport.session import AsyncSession, Session

async def ask():
    client = AsyncSession(settings)
    reply = await client.run(exchange(call), {})
    await client.aclose()
    return reply

settings = Settings(base_url=sys.argv[2])
call = Call(settings, contents=(b"{}",))
print(Session(settings).run(exchange(call), {}).text, asyncio.run(ask()).text)
"""

LEFT_HTTPX = """
import sys

sys.modules.update({"httpx": None, "httpcore": None})  # Airflow's logging looks for both, and takes what it finds
import airflow.sdk.execution_time.task_runner
del sys.modules["httpx"], sys.modules["httpcore"]

before = set(sys.modules)
import airflow_chat_provider.transport.client

print(*sorted(name for name in set(sys.modules) - before if name.startswith(("httpx", "httpcore"))))
"""


def printed(script: str, *arguments: str, chosen: str = "") -> list[str]:
    env = os.environ | {"CHAT_HTTP_LIBRARY": chosen}
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def library_of(client: Any) -> Any:
    return sys.modules[type(client).__module__]


@as_airflow_has_it
def test_get_conn_gives_a_client_of_the_kind_that_airflows_own_is(chat: ChatServer) -> None:
    from airflow.sdk.api.client import Client

    with ChatCompletionHook().get_conn() as client:
        assert issubclass(Client, type(client))
        assert client.get("models").status_code == 200


def test_what_get_conn_gives_raises_the_errors_of_its_library(connect: Callable[..., str]) -> None:
    connect(f"http://127.0.0.1:{free_port()}/v1")
    with ChatCompletionHook().get_conn() as client, pytest.raises(library_of(client).ConnectError):
        client.get("models")


@pytest.mark.parametrize("airflows", ["httpx", "httpx2"])
def test_where_both_are_loaded_it_is_the_one_that_airflow_uses(airflows: str) -> None:
    assert printed(CHOICE, airflows) == [airflows, airflows.replace("httpx", "httpcore")]


def test_the_library_is_the_same_before_anything_of_airflow_is_loaded() -> None:
    from airflow.sdk.api import client

    assert printed(CHOICE, "")[0] == ("httpx2" if hasattr(client, "httpx2") else "httpx")


@pytest.mark.parametrize("library", ["httpx", pytest.param("httpx2", marks=with_httpx2)])
def test_each_library_does_without_the_other(chat: ChatServer, library: str) -> None:
    assert printed(CALLS, library, chat.url, chosen=library) == ["Hello", "Hello"]


@airflow_needs_httpx2
def test_where_airflow_has_left_httpx_nothing_loads_it_again() -> None:
    assert printed(LEFT_HTTPX) == []
