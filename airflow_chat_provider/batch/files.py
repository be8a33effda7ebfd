"""Files on this machine or in an object store, through Airflow's own ObjectStoragePath."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class StoreError(ChatCompletionError):
    """The output takes no more. What was received before is there."""


def local_path(path: Any) -> Path | None:
    """The path on this machine that ``path`` names; None where it is in an object store."""
    text = str(path)
    if "://" not in text:
        return Path(text)
    return Path(text.removeprefix("file://")) if text.startswith("file://") else None


def stored(path: Any, argument: str) -> ObjectStoragePath:
    """``path`` in its object store; InvalidRequest where Airflow has no file system for it."""
    from airflow.sdk import ObjectStoragePath

    with readable(argument, path):
        found = path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(str(path))
        _ = found.fs  # made only now, and often the first to need a package or a connection
    return found


@contextmanager
def readable(argument: str, path: Any) -> Iterator[None]:
    """What goes wrong with a file, as an error that names the argument and the file."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and argument == "input":
            raise file_error(argument, path, "does not exist") from None
        if argument == "output" and error.errno in (*NO_ROOM, errno.EIO):  # no mistake of the task's: it may be retried
            raise StoreError(f"Mend the output and run the task again: {path} fails ({error.strerror})") from None
        raise file_error(
            argument, path, f"cannot be used ({error.strerror or str(error)[:200] or type(error).__name__})"
        ) from None
    except (EOFError, zlib.error):
        raise file_error(argument, path, "is cut off, or not compressed as its name says") from None
    except (ImportError, ValueError) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise file_error(
            argument, path, f"cannot be reached; is the provider of its scheme installed? ({str(error)[:200]})"
        ) from None


def file_error(argument: str, path: Any, why: str) -> InvalidRequest:
    """Nothing of the batch was sent."""
    return InvalidRequest(f"Correct {argument}: {str(path)!r} {why}", path=argument, keyword="file")
