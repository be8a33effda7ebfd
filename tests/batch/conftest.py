import socket
from pathlib import Path

import pytest

from airflow_chat_provider.testing import ChatServer
from tests.batch.batching import Batch


@pytest.fixture
def batch(tmp_path: Path, chat: ChatServer) -> Batch:
    """A batch whose server answers "Hello" to each row, unless it is told otherwise."""
    return Batch(tmp_path, chat)


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
