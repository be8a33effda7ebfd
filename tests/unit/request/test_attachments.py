"""Where files stand in a request, and how their contents get into its bytes."""

from __future__ import annotations

import json
import time
from pathlib import PurePosixPath
from typing import Any

import pytest

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.attachments import (
    NO_ATTACHMENTS,
    Attachments,
    Content,
    encoded,
    file_name,
    kind_of,
    paths_of,
    quotable,
    shown,
)
from airflow_chat_provider.core.server.scrub import Scrubber

PNG = kind_of("a.png", b"\x89PNG\r\n\x1a\n")
TEXT = kind_of("a.txt", b"words")


def request(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages)}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def noted(given: dict[str, Any], *paths: str) -> tuple[dict[str, Any], Attachments]:
    files = Attachments(paths)
    return files.noted(files.with_stand_ins(given))


@pytest.mark.parametrize(
    ("content", "own"),
    [("Look", [text("Look")]), ("", []), (None, []), ([text("Look")], [text("Look")]), ((), [])],
)
def test_notes_follow_what_the_message_has(content: Any, own: list[Any]) -> None:
    given = request({"role": "system", "content": "s"}, user(content))
    found, files = noted(given, "a.png", "b.pdf")
    assert found["messages"][1]["content"] == [*own, text("[attachment: a.png]"), text("[attachment: b.pdf]")]
    assert given["messages"][1] == user(content)
    assert files.turn == 1


def test_without_files_the_request_is_the_same_object() -> None:
    given = request(user("Look"))
    assert NO_ATTACHMENTS.with_stand_ins(given) is given
    assert NO_ATTACHMENTS.noted(given) == (given, NO_ATTACHMENTS)
    assert NO_ATTACHMENTS.identity(given) is given
    assert not NO_ATTACHMENTS


def test_the_turn_is_found_again_among_messages_that_were_added_around_it() -> None:
    found, files = noted(request(user("One"), {"role": "assistant", "content": "1"}, user("Two")), "a.png")
    around = [
        {"role": "system", "content": "s"},
        *found["messages"],
        {"role": "assistant", "content": "?"},
        user("No."),
    ]
    body = json.loads(encoded(request(*around), files, [Content(PNG, "a.png", 3, (b"QUJD",))]))
    assert body["messages"][3]["content"] == [text("Two"), PNG.part("a.png", "QUJD")]
    assert [*body["messages"][:3], *body["messages"][4:]] == [*around[:3], *around[4:]]


def test_text_that_looks_like_a_note_or_like_our_mark_is_sent_as_it_is() -> None:
    likeness = ["[attachment: b.txt]", "(attachment)", "(attachment)" * 5, "(attachment", "attachment)"]
    found, files = noted(request(user([text(one) for one in likeness])), "(attachment).txt")
    body = json.loads(encoded(found, files, [Content(TEXT, "(attachment).txt", 12, (b"(attachment)",))]))
    content = body["messages"][0]["content"]
    assert content == [*map(text, likeness), text("(attachment).txt:\n\n(attachment)")]


def test_a_prompt_full_of_marks_takes_no_long_time() -> None:
    found, files = noted(request(user("(attachment)" * 300_000)), "a.png")
    began = time.monotonic()
    body = encoded(found, files, [Content(PNG, "a.png", 3, (b"QUJD",))])
    assert body.count(b"QUJD") == 1
    assert time.monotonic() - began < 5


def test_pieces_are_joined_in_their_order() -> None:
    found, files = noted(request(user("x")), "a.png", "a.txt")
    contents = [Content(PNG, "a.png", 6, (b"QUJD", b"REVG")), Content(TEXT, "a.txt", 3, (b'\\"', b"\xc3\xa9"))]
    parts = json.loads(encoded(found, files, contents))["messages"][0]["content"][1:]
    assert parts == [PNG.part("a.png", "QUJDREVG"), text('a.txt:\n\n"é')]


def test_files_tell_requests_apart_though_they_are_shown_alike() -> None:
    given = request(user("x"))
    (first, one), (second, two) = noted(given, "s3://b/a.png?v=1"), noted(given, "s3://b/a.png?v=2")
    assert first == second
    assert one.identity(first) != two.identity(second)


def test_files_survive_json() -> None:
    files = Attachments(("a.png", "s3://b/c"), 10, 2)
    assert Attachments.from_dict(json.loads(json.dumps(files.to_dict()))) == files
    assert NO_ATTACHMENTS.to_dict() is None
    assert Attachments.from_dict(None) == NO_ATTACHMENTS


@pytest.mark.parametrize("messages", [[], [{"role": "system", "content": "s"}], "[]", None, [3]])
def test_without_a_user_message_there_is_no_place_for_files(messages: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^Give a prompt"):
        Attachments(("a.png",)).with_stand_ins({"messages": messages})


def test_content_that_is_neither_text_nor_parts_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"\$\.messages\[0\]\.content is an int"):
        Attachments(("a.png",)).with_stand_ins(request(user(5)))


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ("a.png", ["a.png"]),
        (PurePosixPath("x/a.png"), ["x/a.png"]),
        ([], []),
        (("a.png", ["b.png", ["c.png"]]), ["a.png", "b.png", "c.png"]),
    ],
)
def test_a_path_or_lists_of_paths_are_taken(given: Any, paths: list[str]) -> None:
    assert paths_of(given) == paths


@pytest.mark.parametrize("given", [None, 3, b"a.png", {"a": 1}, [None], [" "], ["a\0b.png"], PurePosixPath, {"a.png"}])
def test_what_is_no_path_is_named_with_its_place(given: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        paths_of(given)
    assert caught.value.path in ("attachments", "attachments[0]")


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("/a/b?c.png", "/a/b?c.png"),
        ("s3://bucket/a.png", "s3://bucket/a.png"),
        ("s3://aws_default@bucket/a.png", "s3://aws_default@bucket/a.png"),
        ("s3://key:secret@bucket/a.png", "s3://***@bucket/a.png"),
        ("https://u:p@h/a.png?sig=secret#x", "https://***@h/a.png"),
        ("abfs://c@account/a@b.png", "abfs://c@account/a@b.png"),
        ("s3://key:se/cr#e?t@bucket/a.png", "s3://***@bucket/a.png"),
        ("s3://key:se#cret@bucket/a.png", "s3://***@bucket/a.png"),
        ("https://host:8443/a@b.png", "https://host:8443/a@b.png"),
        ("https://[::1]/a@b.png", "https://[::1]/a@b.png"),
    ],
)
def test_a_path_is_shown_without_its_secrets(path: str, safe: str) -> None:
    assert shown(path) == safe
    assert file_name(path) == safe.rpartition("/")[2]
    assert path in Attachments((path,)).paths
    assert "secret" not in repr(Attachments((path,)))


def test_a_server_cannot_quote_a_file() -> None:
    found, files = noted(request(user("x")), "a.csv", "a.png")
    contents = [
        Content(TEXT, "a.csv", 3, (b'Zo\xc3\xab,\\"K\xc3\xb6ln\\"\\nMax,Bonn',)),
        Content(PNG, "a.png", 3, (b"iVBORw0KGgoAAAANSUhEUgAA" * 3,)),
    ]
    scrub = Scrubber(quotable(found, files, contents))
    assert "Köln" not in scrub('cannot read Zoë,"Köln" Max,Bonn')
    assert "NSUhEUg" not in scrub("bad base64: iVBORw0KGgoAAAANSUhEUgAA")
