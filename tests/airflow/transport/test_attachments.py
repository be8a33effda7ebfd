"""Attachments are read once it is sure that they may be, and no more of them than that."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path

import pytest

from airflow_chat_provider.airflow_api import object_store
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.core.request.attachments import Attachments
from airflow_chat_provider.errors import ChatCompletionError, InvalidRequest, TransportError
from airflow_chat_provider.testing import ChatServer
from airflow_chat_provider.transport import attachments
from airflow_chat_provider.transport.attachments import look, read
from airflow_chat_provider.transport.session import AsyncSession, Session, acall_for, call_for

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xe0"
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Look"}]}


def refused(path: object, limit: int = 2000) -> ChatCompletionError:
    files = Attachments((str(path),), limit)
    with pytest.raises(ChatCompletionError) as caught:
        read(files)
    return caught.value


def placed(*paths: object, limit: int = 1 << 30):
    files = Attachments(tuple(map(str, paths)), limit)
    return files.noted(files.with_stand_ins(REQUEST))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.png", None, "Correct the path: the attachment {path!r} does not exist"),
        ("none/a.png", None, "Correct the path: the attachment {path!r} does not exist"),
        ("empty.png", b"", "Attach a file with content: the attachment {path!r} is empty"),
        ("a.png", JPEG, "Correct the file or its name: the attachment {path!r} is named as a PNG picture, and holds a"),
        ("a.pdf", b"just text", "is named as a PDF document, and holds something else"),
        ("a.txt", PNG, "is named as text, and holds a PNG picture"),
        ("a.txt", b"\xff\xfe\xfd\xfc\xfb", "Save it as UTF-8"),
        ("a.txt", b"\xc3", "Save it as UTF-8"),
        ("a.csv", b"a,b\0c", "holds NUL bytes"),
        ("a.bin", b"\1\2\3", "Attach PNG, JPEG, WebP, GIF, PDF, WAV, MP3, or text"),
        ("a.docx", b"PK\3\4", "Save it as PDF or text"),
        (
            "a.png",
            PNG + bytes(2000),
            "max_attachment_bytes: the attachment {path!r} has 2,008 bytes, and 2,000 are",
        ),
    ],
    ids=str,
)
def test_a_file_that_is_not_what_it_should_be_is_named_with_what_to_do(tmp_path: Path, name, content, words) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    error = refused(path)
    assert isinstance(error, InvalidRequest)
    assert words.format(path=str(path)) in error.message
    assert repr(str(path)) in error.message
    assert error.path == "attachments"


def test_a_folder_a_pipe_and_a_device_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "is a folder" in refused(tmp_path).message
    assert "neither a file nor a link" in refused(tmp_path / "pipe.png").message
    assert "neither a file nor a link" in refused("/dev/zero").message


def test_no_more_of_a_file_is_read_than_it_may_have(tmp_path: Path, monkeypatch) -> None:
    vast = tmp_path / "vast.png"
    with vast.open("wb") as file:
        file.write(PNG)
        file.truncate(10 << 30)  # takes no room
    assert "10,737,418,240 bytes" in refused(vast).message
    opened = attachments._opened

    def of_unknown_size(path):  # as of a file that grows, or in a store that does not say
        return _Sizeless(opened(path))

    monkeypatch.setattr(attachments, "_opened", of_unknown_size)
    assert "has more bytes, and 5,000,000 are allowed" in refused(vast, 5_000_000).message
    assert "has more bytes" in refused(vast, 10).message


class _Sizeless:
    def __init__(self, inner):
        self._inner = inner

    def __enter__(self):
        return self._inner.__enter__()[0], None

    def __exit__(self, *error):
        return self._inner.__exit__(*error)


def test_without_a_suffix_the_content_alone_decides(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(PNG)
    (tmp_path / "scan.2024").write_bytes(b"%PDF-1.7")
    kinds = [one.kind.media for one in look(Attachments((str(tmp_path / "picture"), str(tmp_path / "scan.2024"))))]
    assert kinds == ["image/png", "application/pdf"]


def test_an_mp3_needs_no_tags_and_a_pdf_may_begin_late(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"\xff\xfb\x90\x00" + bytes(10))
    (tmp_path / "a.pdf").write_bytes(b"\n\n%PDF-1.4")
    kinds = [one.kind.media for one in look(Attachments((str(tmp_path / "a.mp3"), str(tmp_path / "a.pdf"))))]
    assert kinds == ["audio/mpeg", "application/pdf"]


@pytest.mark.parametrize("size", [1, 2, 3, 1023, (3 << 18) - 8, 3 << 18, (3 << 18) + 1, (6 << 18) + 5])
def test_base64_is_whole_whatever_the_size(tmp_path: Path, size: int) -> None:
    content = PNG + os.urandom(size)
    (tmp_path / "a.png").write_bytes(content)
    request, files = placed(tmp_path / "a.png")
    (body,) = call_for(request, Settings(), files).contents
    url = json.loads(body)["messages"][0]["content"][1]["image_url"]["url"]
    assert base64.b64decode(url.partition(",")[2], validate=True) == content


def test_text_is_whole_where_a_piece_ends_within_a_letter(tmp_path: Path) -> None:
    text = 'é"\n\\' * (1 << 18)
    (tmp_path / "a.txt").write_text("x" + text, "utf-8")
    request, files = placed(tmp_path / "a.txt")
    (body,) = call_for(request, Settings(), files).contents
    assert json.loads(body)["messages"][0]["content"][1]["text"] == f"a.txt:\n\nx{text}"


def test_a_store_that_fails_may_be_tried_again_and_its_words_are_not_shown(monkeypatch) -> None:
    def failing(url):
        raise RuntimeError("AWSAccessKeyId=AKIA123")

    monkeypatch.setattr(object_store, "open_object", failing)
    error = refused("s3://key:secret@bucket/a.png?token=secret")
    assert isinstance(error, TransportError)
    assert (error.sent, error.final) == (False, False)
    assert "'s3://***@bucket/a.png' could not be read (RuntimeError)" in error.message
    assert "AKIA123" not in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError("bucket/a.png"), "does not exist"),
        (IsADirectoryError("bucket"), "is a folder"),
        (PermissionError("AKIA"), "cannot be read (Permission denied)"),
        (ImportError("s3fs"), "Install the Airflow provider for its scheme"),
    ],
)
def test_what_a_store_says_for_good_is_final(monkeypatch, error, words) -> None:
    def failing(url):
        raise error

    monkeypatch.setattr(object_store, "open_object", failing)
    found = refused("s3://bucket/a.png")
    assert isinstance(found, InvalidRequest)
    assert words in found.message


def test_an_unknown_scheme_says_what_to_install() -> None:
    assert refused("nowhere://bucket/a.png").message.startswith("Install the Airflow provider for its scheme")


def test_of_a_file_that_is_only_looked_at_the_size_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG + bytes(92))
    (seen,) = look(Attachments((str(tmp_path / "a.png"),)))
    assert (seen.size, seen.pieces) == (100, ())


def test_a_call_that_is_made_again_sends_the_same_bytes_without_reading_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    request, files = placed(tmp_path / "a.png")
    call = call_for({**request, "stream": True}, Settings(base_url="http://h/v1"), files)
    assert len(call.contents) == 2
    assert all(base64.b64encode(PNG) in body for body in call.contents)


async def sent_async(settings: Settings, request, files):
    session = AsyncSession(settings)
    try:
        return await session.send(request, attachments=files)
    finally:
        await session.aclose()


def test_both_sessions_send_a_large_file_alike(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG + os.urandom(5_000_000))
    request, files = placed(tmp_path / "a.png")
    with ChatServer() as server:
        settings = Settings(base_url=server.url)
        session = Session(settings)
        assert session.send(request, attachments=files).error is None
        session.client.close()
        assert asyncio.run(sent_async(settings, request, files)).error is None
        first, second = (request.body for request in server.requests)
    assert first == second == asyncio.run(acall_for(request, settings, files)).contents[0]


def test_a_file_that_cannot_be_read_is_the_error_of_the_reply(tmp_path: Path) -> None:
    request, files = placed(tmp_path / "none.png")
    settings = Settings(base_url="http://127.0.0.1:9/v1")
    for reply in (
        Session(settings).send(request, attachments=files),
        asyncio.run(sent_async(settings, request, files)),
    ):
        assert isinstance(reply.error, InvalidRequest)
        assert (reply.status, reply.body) == (None, None)
