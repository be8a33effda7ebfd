"""The files of a batch server: uploads are kept in a folder as they come, and never as a whole in memory."""

from __future__ import annotations

import json
import mmap
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_chat_provider.testing.replies import Reply, Step

_PIECE = 1_048_576
_BOUNDARY = re.compile(r'multipart/form-data;.*boundary="?([^";,]+)"?', re.IGNORECASE)
_FIELD = re.compile(rb'[; ]name="([^"]*)"')
_FILENAME = re.compile(rb'[; ]filename="([^"]*)"')


@dataclass
class StoredFile:
    """One file of the server: an upload, or the answers of a batch. Its content is gone once the server is left."""

    id: str
    filename: str
    purpose: str
    path: Path = field(repr=False)
    start: int = field(repr=False)
    end: int = field(repr=False)
    created_at: int = field(default_factory=lambda: int(time.time()), repr=False)

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces())

    @property
    def lines(self) -> Iterator[bytes]:
        """The lines, each with its newline."""
        left = self.size
        with self.path.open("rb") as file:
            file.seek(self.start)
            while left > 0:
                line = file.readline(left)
                left -= len(line)
                yield line

    @property
    def json(self) -> list[Any]:
        """What the lines say, each parsed."""
        return [json.loads(line) for line in self.lines]

    def pieces(self) -> Iterator[bytes]:
        left = self.size
        with self.path.open("rb") as file:
            file.seek(self.start)
            while left > 0:
                piece = file.read(min(left, _PIECE))
                left -= len(piece)
                yield piece

    def described(self) -> dict[str, Any]:
        """The object that the API has for it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": self.created_at,
            "expires_at": None,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }

    def reply(self) -> Reply:
        """A 200 with the content, of which one piece at a time is in memory."""

        def steps(reply: Reply) -> Iterator[Step]:
            yield reply.head(self.size)
            yield from self.pieces()

        return Reply(200, {"Content-Type": "application/octet-stream"}, steps=steps)


class MalformedForm(Exception):
    """A body that is not multipart/form-data, or not all of it."""


@dataclass(frozen=True)
class Form:
    """A multipart/form-data body that lies in a file: its short fields, and where the content of its file is."""

    fields: dict[str, str]
    filename: str
    start: int
    end: int


def read_form(path: Path, content_type: str) -> Form:
    """Find the parts of a body; raise MalformedForm where there is none named "file", or one does not end."""
    boundary = _BOUNDARY.search(content_type)
    if boundary is None or not path.stat().st_size:
        raise MalformedForm("The body must be multipart/form-data, and Content-Type must name its boundary.")
    fields: dict[str, str] = {}
    found: tuple[str, int, int] | None = None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        for head, start, end in _parts(body, b"--" + boundary[1].encode("latin-1")):
            name = _FIELD.search(head)
            filename = _FILENAME.search(head)
            if name is None:
                raise MalformedForm("A part of the form has no name.")
            if name[1] == b"file":
                found = (filename[1].decode() if filename else "", start, end)
            else:
                fields[name[1].decode()] = body[start:end].decode()
    if found is None:
        raise MalformedForm("The form has no part with the name 'file'.")
    return Form(fields, *found)


def _parts(body: mmap.mmap, mark: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The head of each part, and where its content begins and ends."""
    at = body.find(mark)
    while at >= 0 and body[at + len(mark) : at + len(mark) + 2] != b"--":
        head_end = body.find(b"\r\n\r\n", at)
        end = body.find(b"\r\n" + mark, head_end + 2)
        if head_end < 0 or end < 0:
            raise MalformedForm("A part of the form does not end.")
        yield body[at + len(mark) : head_end], head_end + 4, max(end, head_end + 4)
        at = end + 2
    if at < 0:
        raise MalformedForm("The form does not begin with its boundary.")
