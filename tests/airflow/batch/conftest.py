import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_chat_provider.testing import ChatServer
from tests.support.batching import Batch


@pytest.fixture
def batch(tmp_path: Path, chat: ChatServer) -> Batch:
    """A batch whose server answers "Hello" to each row, unless it is told otherwise."""
    return Batch(tmp_path, chat)


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts what it is told on a new folder; only root may."""
    folders: list[Path] = []

    def mounted(*arguments: str) -> Path:
        folder = tmp_path / f"disk-{len(folders)}"
        folder.mkdir()
        command = ["mount", *arguments, str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("a small file system can be mounted by root alone")
        folders.append(folder)
        return folder

    yield mounted
    for folder in reversed(folders):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(mount: Callable[..., Path]) -> Path:
    """A file system of 256 KB."""
    return mount("-t", "tmpfs", "-o", "size=256k", "tmpfs")


@pytest.fixture
def full_disk(mount: Callable[..., Path]) -> Path:
    """A file system without any room."""
    folder = mount("-t", "tmpfs", "-o", "size=64k", "tmpfs")
    fill(folder)
    return folder


def fill(folder: Path) -> None:
    """Leave no room on its file system."""
    with contextlib.suppress(OSError), (folder / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.fixture
def broken_disk(mount: Callable[..., Path]) -> Path:
    """A file system on a device that takes 8 MB, and then answers each write with EIO."""
    device = mount("-t", "tmpfs", "-o", "size=8m", "tmpfs") / "device"
    with device.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(device)], check=True)
    return mount("-o", "loop", str(device))
