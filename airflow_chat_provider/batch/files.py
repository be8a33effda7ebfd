"""Files on this machine, and in object stores through Airflow's own ObjectStoragePath."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class StoreError(ChatCompletionError):
    """The output takes no more lines. The lines that it took before are safe."""


def local_path(path: object) -> Path | None:
    """The path on this machine that ``path`` names; None where it is in an object store."""
    text = str(path)
    if "://" not in text:
        return Path(text)
    return Path(text.removeprefix("file://")) if text.startswith("file://") else None


def stored(path: object, argument: str) -> ObjectStoragePath:
    """``path`` in its object store. Raises InvalidRequest where Airflow has no file system for it."""
    from airflow.sdk import ObjectStoragePath

    with readable(argument, path):
        found = path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(str(path))
        _ = found.fs  # the file system is made here: a missing package or connection shows now
    return found


@contextlib.contextmanager
def readable(argument: str, path: object) -> Iterator[None]:
    """Raise what goes wrong with a file as InvalidRequest or StoreError, with the argument and the file in it."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and argument == "input":
            raise file_error(argument, path, "does not exist") from None
        if argument == "output" and error.errno in (*NO_ROOM, errno.EIO):
            # The task is not to blame, so Airflow may retry it.
            raise StoreError(
                f"Repair the output, then run the task again: it cannot be used ({error.strerror}): {path}"
            ) from None
        why = error.strerror or str(error)[:200] or type(error).__name__
        raise file_error(argument, path, f"cannot be used ({why})") from None
    except (EOFError, zlib.error):
        raise file_error(argument, path, "is cut off, or is not compressed as its name says") from None
    except (ImportError, ValueError) as error:
        if isinstance(error, InvalidRequest):
            raise
        why = f"cannot be reached; is the Airflow provider for its scheme installed? ({str(error)[:200]})"
        raise file_error(argument, path, why) from None


def file_error(argument: str, path: object, why: str) -> InvalidRequest:
    """The error of a file that the batch cannot work with; it is raised before the first request is sent."""
    return InvalidRequest(f"Correct {argument}: {str(path)!r} {why}", path=argument, keyword="file")


def reason(error: Exception) -> str:
    """What went wrong, without a path."""
    return (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"[:200]


def create(path: Path, flags: int, mode: int | None) -> int:
    """Open a file, and create it where it is missing; returns its descriptor.

    ``mode`` is for a new file only; with None the umask, or the folder's ACL, decides. An existing file keeps its mode.
    The files hold prompts and answers, so their mode decides who may read these.
    """
    is_new = not path.exists()
    file = os.open(path, flags | os.O_CREAT, 0o666 if mode is None else mode)
    if is_new and mode is not None:
        with contextlib.suppress(OSError):  # some file systems have no modes
            os.fchmod(file, mode)  # os.open() took the umask away from it
    return file


def replace(path: Path, pieces: Iterable[bytes], mode: int | None) -> None:
    """Write a file in one step: if this process is killed, the old file or the new one is there, and complete."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        file = create(new, os.O_WRONLY, mode)
        try:
            if path.exists():
                with contextlib.suppress(OSError):
                    os.fchmod(file, stat.S_IMODE(path.stat().st_mode))
            for piece in pieces:
                write_all(file, piece)
            os.fsync(file)
        finally:
            os.close(file)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)  # its entry for the file has to survive a crash, too
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_lines(file: int, lines: Sequence[bytes]) -> tuple[int, OSError | None]:
    """Append lines for as long as there is room: how many are on the disk, and why the others are not."""
    taken, failure = 0, None
    for line in lines:
        size = os.fstat(file).st_size
        try:
            write_all(file, line)
        except OSError as error:
            failure = error
            os.ftruncate(file, size)  # no half line may stay behind
            break
        taken += 1
    try:
        os.fsync(file)
    except OSError as error:
        return 0, error
    return taken, failure


def write_all(file: int, content: bytes) -> None:
    """Call ``os.write``, which may write less than it is given, until all of ``content`` is written."""
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
