"""The pytest plugin. Every pytest where this package is installed imports it: what it needs is imported late."""

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
    """A chat completion server that answers as the test tells it; the connection `chat_default` leads to it."""
    from airflow_chat_provider.testing.server import ChatServer

    # The developer's proxy knows nothing of this machine's own addresses.
    monkeypatch.setenv("no_proxy" if "no_proxy" in os.environ else "NO_PROXY", "127.0.0.1", prepend=",")
    with ChatServer() as server:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT_DEFAULT", json.dumps(server.connection))
        yield server
