"""Files in object stores, through Airflow's own ObjectStoragePath."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import IO, Any


@contextlib.contextmanager
def open_object(url: str) -> Iterator[tuple[IO[bytes], int | None]]:
    """A file in an object store to read, and its size if the store knows that. Raises whatever the store raises."""
    from airflow.sdk import ObjectStoragePath

    path = ObjectStoragePath(url)
    info = path.fs.info(path.path)
    if info.get("type") == "directory":
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    size = info.get("size")
    with path.fs.open(path.path, "rb") as stream:
        yield stream, size if isinstance(size, int) else None


def info_of(url: str) -> dict[str, Any]:
    """What a store says of a file: its size, and what tells its versions apart. Raises whatever the store raises."""
    from airflow.sdk import ObjectStoragePath

    path = ObjectStoragePath(url)
    return dict(path.fs.info(path.path))
