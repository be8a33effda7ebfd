"""Attachments read from this machine or an object store, never more of a file than it may have."""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import stat
from binascii import b2a_base64
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest, TransportError
from airflow_chat_provider.core.request.attachments import HEAD, Attachments, Content, kind_of, shown, wrong_file

_PIECE = 3 << 18  # bytes; of a multiple of three, base64 has no padding
# Where file systems say in which version a file is: its checksum, or when it was written.
_CHANGES = (
    *("ETag", "etag", "md5Hash", "md5", "content_md5", "checksum", "crc32c", "generation", "version_id"),
    *("LastModified", "last_modified", "mtime", "updated", "modified", "created"),
)
_BOMS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_WRONG = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}


def read(files: Attachments) -> list[Content]:
    """The files, as they go into a request.

    Raises InvalidRequest for a file that cannot be attached, and TransportError if another try may be able to read it.
    """
    return [_read(path, files.max_bytes) for path in files.paths]


def look(files: Attachments) -> list[Content]:
    """The kinds and sizes of the files, without their contents. Raises as ``read`` does."""
    return [_read(path, files.max_bytes, only_look=True) for path in files.paths]


def stamps(files: Attachments) -> list[list[Any]]:
    """What tells the files from others without reading them: of each its size, and when it was changed last.

    An object store has more to say of that: its checksum is taken, too. Raises as ``read`` does.
    """
    found = []
    for path in files.paths:
        with _explained(path):
            found.append(_stamp(path))
    return found


def _stamp(path: str) -> list[Any]:
    local = path.removeprefix("file://")
    if "://" not in local:
        info = Path(local).stat()
        return [info.st_size, info.st_mtime_ns]
    from airflow_chat_provider.airflow_api.object_store import info_of

    there = info_of(path)
    return [there.get("size"), *(str(there[name]) for name in _CHANGES if there.get(name) is not None)]


def _read(path: str, limit: int, *, only_look: bool = False) -> Content:
    with _explained(path), _opened(path) as (stream, size):
        if size is not None and size > limit:
            raise _too_large(path, f"has {size:,} bytes", limit)
        head = stream.read(HEAD)
        kind = kind_of(path, head)
        if only_look:
            return Content(kind, path, size or 0)
        counted = _Counted(path, stream, head, limit)
        pieces = tuple(_text(path, counted) if kind.form == "text" else _base64(counted))
        return Content(kind, path, counted.size, pieces)


class _Counted:
    """The pieces of a file, none of them empty and all but the last of one size. Raises if there are too many bytes."""

    def __init__(self, path: str, stream: IO[bytes], head: bytes, limit: int) -> None:
        self._path, self._stream, self._head, self._limit = path, stream, head, limit
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        rest = self._head
        while data := self._stream.read(_PIECE - len(rest)):  # an object store may give less than it is asked for
            rest += data
            if self.size + len(rest) > self._limit:
                raise _too_large(self._path, "has more bytes", self._limit)
            if len(rest) == _PIECE:
                self.size += _PIECE
                yield rest
                rest = b""
        if len(rest) > self._limit:
            raise _too_large(self._path, "has more bytes", self._limit)
        self.size += len(rest)
        if rest:
            yield rest


def _base64(pieces: _Counted) -> Iterator[bytes]:
    return (b2a_base64(piece, newline=False) for piece in pieces)


def _text(path: str, pieces: _Counted) -> Iterator[bytes]:
    decoder: codecs.IncrementalDecoder | None = None
    try:
        for piece in pieces:
            decoder = decoder or codecs.getincrementaldecoder(_BOMS.get(piece[:2], "utf-8-sig"))()
            yield _escaped(path, decoder.decode(piece))
        if decoder is not None:
            yield _escaped(path, decoder.decode(b"", final=True))
    except UnicodeDecodeError:
        raise wrong_file("Save it as UTF-8", path, "is named as text, and is neither UTF-8 nor UTF-16") from None


def _escaped(path: str, text: str) -> bytes:
    if "\0" in text:
        raise wrong_file("Correct the file or its name", path, "is named as text, and holds NUL bytes")
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()


def _too_large(path: str, has: str, limit: int) -> InvalidRequest:
    return wrong_file("Attach a smaller file, or raise max_attachment_bytes", path, f"{has}, and {limit:,} are allowed")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[IO[bytes], int | None]]:
    """A file to read, and its size if that is known."""
    local = path.removeprefix("file://")
    if "://" in local:
        from airflow_chat_provider.airflow_api.object_store import open_object

        with open_object(path) as opened:
            yield opened
        return
    # Of a pipe, opening would wait for a writer, and reading a device has no end.
    descriptor = os.open(local, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        if not stat.S_ISREG(found.st_mode):
            raise wrong_file("Attach a file", path, "is neither a file nor a link to one")
        yield stream, found.st_size


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Raise what goes wrong with a file as one of our errors, without a store's own words, which may hold keys."""
    try:
        yield
    except ChatCompletionError:
        raise
    except Exception as error:  # noqa: BLE001 - each object store has errors of its own
        raise _error(path, error) from None


def _error(path: str, error: Exception) -> ChatCompletionError:
    number: Any = getattr(error, "errno", None)
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        is_folder = isinstance(error, IsADirectoryError)
        what = "is a folder" if is_folder else "does not exist"
        return wrong_file("Attach a file" if is_folder else "Correct the path", path, what)
    if isinstance(error, PermissionError) or number in _WRONG:
        why = os.strerror(number) if isinstance(number, int) else "Permission denied"
        return wrong_file("Make it readable where the task runs", path, f"cannot be read ({why})")
    if isinstance(error, ImportError | ValueError):
        todo = "Install the Airflow provider for its scheme where the task runs, or correct the path"
        return wrong_file(todo, path, "cannot be reached")
    why = os.strerror(number) if isinstance(error, OSError) and isinstance(number, int) else type(error).__name__
    message = f"Try again: nothing was sent, because the attachment {shown(path)!r} could not be read ({why})"
    return TransportError(message, sent=False)
