"""The pytest plugin. Every run of pytest in the user's environment imports it, so it imports what it needs late."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_chat_provider.testing.server import ChatServer


@pytest.fixture
def chat_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A chat completion server whose replies the test scripts. The connection `chat_default` leads to it."""
    from airflow_chat_provider.testing.server import ChatServer

    # A proxy of the developer's cannot reach a server on this machine.
    monkeypatch.setenv("no_proxy" if "no_proxy" in os.environ else "NO_PROXY", "127.0.0.1", prepend=",")
    with ChatServer() as server:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT_DEFAULT", json.dumps(server.connection))
        yield server
