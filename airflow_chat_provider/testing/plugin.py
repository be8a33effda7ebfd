"""The pytest plugin. Every run of pytest in the user's environment imports it, so it imports what it needs late."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from airflow_chat_provider.testing.batch_server import BatchServer
    from airflow_chat_provider.testing.server import ChatServer

_Server = TypeVar("_Server", bound="ChatServer")


@pytest.fixture
def chat_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A chat completion server whose replies the test scripts. The connection `chat_default` leads to it."""
    from airflow_chat_provider.testing.server import ChatServer

    yield from _serve(ChatServer(), monkeypatch)


@pytest.fixture
def batch_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    """A server that speaks the batch API, and answers all requests with their own text until the test says otherwise.

    The connection `chat_default` leads to it.
    """
    from airflow_chat_provider.testing.batch_server import BatchServer

    yield from _serve(BatchServer(), monkeypatch)


def _serve(server: _Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    # A proxy of the developer's cannot reach a server on this machine.
    monkeypatch.setenv("no_proxy" if "no_proxy" in os.environ else "NO_PROXY", "127.0.0.1", prepend=",")
    with server:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT_DEFAULT", json.dumps(server.connection))
        yield server
