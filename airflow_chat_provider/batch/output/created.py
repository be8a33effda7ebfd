"""Files that are made for a batch: whoever may read them reads prompts and answers."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from airflow_chat_provider.batch.output.spill import write_all


def create(path: Path, flags: int, mode: int | None) -> int:
    """A descriptor of the file, made where it is not there. ``mode``: a new file's; None: as umask or ACL say.

    A file that is there keeps the mode that it has.
    """
    is_new = not path.exists()
    file = os.open(path, flags | os.O_CREAT, 0o666 if mode is None else mode)
    if is_new and mode is not None:
        with contextlib.suppress(OSError):  # of a file system without modes
            os.fchmod(file, mode)  # the umask is not asked
    return file


def replace(path: Path, pieces: Iterable[bytes], mode: int | None) -> None:
    """Write a file in one step: whenever this process is killed, the old or the new one is there, whole."""
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
    _sync(path.parent)


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
