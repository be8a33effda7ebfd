"""Files that go out with a request: what a server gets of them, and what Airflow keeps of them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath, task

from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBranchOperator, ChatCompletionOperator
from airflow_chat_provider.testing import replies
from tests.support.asking import ask, sent, setting, user

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 5
JPEG = b"\xff\xd8\xff\xe0" + b"jpeg" * 100
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 " + b"webp" * 10
GIF = b"GIF89a" + b"gif" * 10
PDF = b"%PDF-1.7\n" + b"pdf" * 100
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + b"\0wav" * 10
MP3 = b"ID3\x04\x00" + b"\0mp3" * 10
TEXT = 'name,"city"\nZoë,Köln\n'
IN_BASE64 = {"png": PNG, "jpg": JPEG, "webp": WEBP, "gif": GIF}


def coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def image(content: bytes, media: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:{media};base64,{coded(content)}"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def note(path: object) -> dict[str, Any]:
    return text(f"[attachment: {path}]")


PARTS = {
    "a.png": (PNG, image(PNG, "image/png")),
    "a.jpg": (JPEG, image(JPEG, "image/jpeg")),
    "a.webp": (WEBP, image(WEBP, "image/webp")),
    "a.gif": (GIF, image(GIF, "image/gif")),
    "a.pdf": (
        PDF,
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{coded(PDF)}"}},
    ),
    "a.wav": (WAV, {"type": "input_audio", "input_audio": {"data": coded(WAV), "format": "wav"}}),
    "a.mp3": (MP3, {"type": "input_audio", "input_audio": {"data": coded(MP3), "format": "mp3"}}),
    "a.csv": (TEXT.encode(), text(f"a.csv:\n\n{TEXT}")),
    "a.md": (b"# Title", text("a.md:\n\n# Title")),
    "a.json": (b'{"a": "b\\n"}', text('a.json:\n\n{"a": "b\\n"}')),
    "a.txt": ("﻿BOM".encode(), text("a.txt:\n\nBOM")),
    "b.txt": ("Zoë".encode("utf-16"), text("b.txt:\n\nZoë")),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, (content, _) in PARTS.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


class TestWhatIsSent:
    def test_each_kind_becomes_a_part_of_its_own_form_after_the_prompt(self, airflow, chat, folder):
        with airflow.dag():
            ask(prompt="Look", attachments=[str(folder / name) for name in PARTS])
        assert airflow.run().state == "success"
        assert sent(chat)["messages"] == [user([text("Look"), *(part for _, part in PARTS.values())])]

    def test_one_path_needs_no_list_and_templates_and_path_objects_are_taken(self, airflow, chat, folder):
        with airflow.dag(params={"folder": str(folder)}):
            ask(prompt="Look", attachments="{{ params.folder }}/a.png")
            ChatCompletionOperator(task_id="objects", prompt="Look", attachments=[folder / "a.png"])
        run = airflow.run()
        assert run.state == "success"
        assert [request.json["messages"][0]["content"][1] for request in chat.requests] == [PARTS["a.png"][1]] * 2

    def test_a_list_may_come_from_an_upstream_task(self, airflow, chat, folder):
        @task
        def files():
            return [str(folder / "a.png"), str(folder / "a.md")]

        with airflow.dag():
            found = files()
            ask(prompt="Look", attachments=found)
            again = ChatCompletionOperator(
                task_id="again", prompt="Look", attachments=["{{ ti.xcom_pull('files') }}", str(folder / "a.gif")]
            )
            found >> again
        assert airflow.run().state == "success"
        contents = sorted(len(request.json["messages"][0]["content"]) for request in chat.requests)
        assert contents == [3, 4]

    def test_the_last_user_message_gets_them_whatever_follows_it(self, airflow, chat, folder):
        messages = [
            user("One"),
            {"role": "assistant", "content": "1"},
            user([text("Two")]),
            {"role": "system", "content": "!"},
        ]
        with airflow.dag():
            ask(messages=messages, attachments=folder / "a.png")
        airflow.run()
        assert sent(chat)["messages"] == [*messages[:2], user([text("Two"), PARTS["a.png"][1]]), messages[3]]

    def test_mapped_paths_are_data(self, airflow, chat, folder):
        (folder / "{{ 1 }}.png").write_bytes(PNG)

        @task
        def files():
            return [[str(folder / "{{ 1 }}.png")], [str(folder / "a.gif")]]

        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask", prompt="Look").expand(attachments=files())
        assert airflow.run().state == "success"
        assert {sent(chat, index)["messages"][0]["content"][1]["image_url"]["url"][:14] for index in (0, 1)} == {
            "data:image/png",
            "data:image/gif",
        }

    def test_relative_paths_are_looked_for_as_other_files_are(self, airflow, chat, folder):
        with airflow.dag(template_searchpath=[str(folder)]):
            ask(prompt="Look", attachments=["a.png"])
        run = airflow.run()
        assert sent(chat)["messages"][0]["content"][1] == PARTS["a.png"][1]
        assert run.xcoms()["messages"][0]["content"] == [text("Look"), note("a.png")]

    def test_an_object_store_is_read(self, airflow, chat, store):
        (store / "bucket").mkdir(exist_ok=True)
        (store / "bucket" / "a.png").write_bytes(PNG)
        with airflow.dag():
            ask(prompt="Look", attachments="memory://bucket/a.png")
            ChatCompletionOperator(
                task_id="object", prompt="Look", attachments=[ObjectStoragePath("memory://bucket/a.png")]
            )
        run = airflow.run()
        assert run.state == "success"
        for request in chat.requests:
            assert request.json["messages"][0]["content"][1] == PARTS["a.png"][1]
        assert run.xcoms()["messages"][0]["content"][1] == note("memory://bucket/a.png")

    def test_a_question_asked_again_has_them_too(self, airflow, chat, folder):
        chat.script(replies.ok("none"), replies.ok("{}"))
        with airflow.dag():
            ask(prompt="Look", attachments=folder / "a.png", response_schema={"type": "object"}, result_format="json")
        assert airflow.run().state == "success"
        first, second = chat.requests
        assert second.json["messages"][0] == first.json["messages"][0]
        assert PARTS["a.png"][1] in second.json["messages"][0]["content"]

    def test_a_branch_takes_them(self, airflow, chat, folder):
        chat.script(replies.ok('{"branch": "a"}'), replies.ok('{"branch": "a"}'))
        with airflow.dag():
            picture = ChatCompletionBranchOperator(task_id="ask", prompt="Which?", attachments=folder / "a.png")
            for name in ("a", "b"):
                picture >> ChatCompletionOperator(task_id=name, prompt="Hi")
        airflow.run()
        content = chat.requests[0].json["messages"][-1]["content"]
        assert content == [text("Which?"), PARTS["a.png"][1]]

    def test_a_decorated_function_takes_them(self, airflow, chat, folder):
        with airflow.dag():

            @task.chat_completion(attachments=[str(folder / "a.png")])
            def ask():
                return "Look"

            ask()
        assert airflow.run().state == "success"
        assert sent(chat)["messages"] == [user([text("Look"), PARTS["a.png"][1]])]

    def test_an_attempt_that_is_made_again_has_them_without_a_second_reading(self, airflow, chat, folder):
        def gone(request):
            (folder / "a.png").unlink()
            return replies.error(500, "try again")

        chat.script(gone)
        with airflow.dag():
            ask(prompt="Look", attachments=folder / "a.png")
        assert airflow.run().state == "success"
        assert chat.requests[0].json == chat.requests[1].json


class TestWhatIsKept:
    def test_airflow_keeps_paths_and_no_contents(self, airflow, chat, folder):
        with airflow.dag():
            ask(prompt="Look", attachments=[folder / "a.png", folder / "a.csv"])
        run = airflow.run()
        kept = json.dumps([run.xcoms(), run.rendered()], default=str, ensure_ascii=False)
        assert run.xcoms()["messages"][0] == user([text("Look"), note(folder / "a.png"), note(folder / "a.csv")])
        assert str(folder / "a.png") in json.dumps(run.rendered()["attachments"], default=str)
        assert coded(PNG)[:40] not in kept
        assert "Zoë" not in kept

    def test_a_text_like_our_note_names_no_file(self, airflow, chat, folder):
        secret = folder / "a.txt"
        likeness = f"[attachment: {secret}]"
        earlier = [user([text("Look"), note(secret)]), {"role": "assistant", "content": likeness}]
        with airflow.dag():
            ask(messages=earlier, prompt=likeness)
            ChatCompletionOperator(task_id="beside", messages=[user([note(secret)])], attachments=[folder / "a.png"])
        airflow.run()
        first, second = sorted((request.json["messages"] for request in chat.requests), key=len, reverse=True)
        assert first == [*earlier, user(likeness)]
        assert second == [user([note(secret), PARTS["a.png"][1]])]

    def test_a_conversation_goes_on_without_them(self, airflow, chat, folder):
        with airflow.dag():
            first = ask(prompt="Look", attachments=folder / "a.png")
            ChatCompletionOperator(task_id="on", messages=first.output["messages"], prompt="And?")
        airflow.run()
        assert sent(chat)["messages"][0] == user([text("Look"), note(folder / "a.png")])


def told(airflow, chat, **arguments: Any) -> Any:
    """The error of a task with these attachments, which sends nothing."""
    with airflow.dag():
        ask(prompt="Look", **arguments)
    assert airflow.run().state == "failed"
    assert not chat.requests
    return airflow.error()


class TestWhatCannotBeAttached:
    def test_a_missing_file_fails_the_task_before_anything_is_sent(self, airflow, chat, tmp_path):
        error = told(airflow, chat, attachments=str(tmp_path / "none.png"))
        assert isinstance(error, InvalidRequest)
        assert error.message == f"Correct the path: the attachment {str(tmp_path / 'none.png')!r} does not exist"
        assert (error.path, error.final) == ("attachments", True)

    def test_a_file_that_is_too_large_fails_it_likewise(self, airflow, chat, folder):
        error = told(airflow, chat, attachments=folder / "a.png", max_attachment_bytes=100)
        assert error.message.endswith(f"has {len(PNG):,} bytes, and 100 are allowed")

    @pytest.mark.parametrize("path", ["a" * 300 + ".png", "a.png/" * 1000])
    def test_a_relative_path_that_no_file_can_have_is_told_as_others_are(self, airflow, chat, path):
        error = told(airflow, chat, attachments=path)
        assert isinstance(error, InvalidRequest)
        assert error.message.startswith("Make it readable where the task runs: the attachment ")
        assert error.message.endswith("cannot be read (File name too long)")

    def test_what_an_upstream_task_left_has_to_be_paths(self, airflow, chat):
        @task
        def files(found):
            return found

        for found, words in (
            (None, "attachments"),
            ([None], "attachments[0] must be a path, or a list of paths, not None"),
            ([1], "attachments[0] must be a path"),
            ([["a.png", ""]], "attachments[0][1]"),
            ({"a": 1}, "attachments must be a path, or a list of paths, not a dict"),
        ):
            with airflow.dag():
                ask(prompt="Look", attachments=files(found))
            assert airflow.run().state == "failed"
            assert words in airflow.error().message
        assert not chat.requests

    def test_a_server_that_quotes_a_file_is_not_quoted(self, airflow, chat, folder):
        quoted = TEXT.replace("\n", "\\n")
        chat.script(replies.error(400, f"cannot read {quoted}"), replies.error(400, f"what is {coded(PNG)[:80]}?"))
        for name in ("a.csv", "a.png"):
            with airflow.dag():
                ask(prompt="Look", attachments=folder / name)
            airflow.run()
            assert "***" in airflow.error().message
            assert "Köln" not in airflow.error().message
            assert coded(PNG)[20:60] not in airflow.error().message


class TestWhenTheDagIsParsed:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (
                {"prompt": "Look", "attachments": "a.docx"},
                "Save it as PDF or text: the attachment 'a.docx' ends in .docx",
            ),
            ({"prompt": "Look", "attachments": ["a.png", "b.heic"]}, "Save it as PNG: the attachment 'b.heic'"),
            ({"prompt": "Look", "attachments": ["a.png", 3]}, "attachments[1] must be a path, or a list of paths"),
            ({"prompt": "Look", "attachments": [None]}, "attachments[0] must be a path, or a list of paths, not None"),
            ({"prompt": "Look", "attachments": b"a.png"}, "attachments must be a path"),
            ({"prompt": "Look", "attachments": {"a": 1}}, "attachments must be a path"),
            ({"prompt": "Look", "attachments": ""}, "Give attachments a path: it is empty"),
            ({"prompt": "Look", "max_attachment_bytes": 0}, "max_attachment_bytes must be a number of bytes"),
            ({"prompt": "Look", "max_attachment_bytes": "1"}, "max_attachment_bytes must be a number of bytes"),
            (
                {"messages": [{"role": "system", "content": "x"}], "attachments": "a.png"},
                "Give a prompt: attachments go",
            ),
            ({"system_prompt": "x", "attachments": "{{ params.a }}"}, "Give a prompt: attachments go"),
            ({"prompt": "Look", "attachments": "{{ params.a"}, "attachments"),
        ],
    )
    def test_what_is_surely_wrong_breaks_the_import(self, arguments, words):
        with pytest.raises(InvalidRequest, match="Task 'ask'") as caught:
            ask(**arguments)
        assert words in caught.value.message

    @pytest.mark.parametrize(
        "arguments",
        [
            {"prompt": "Look", "attachments": []},
            {"system_prompt": "x", "messages": "{{ params.m }}", "attachments": "a.png"},
            {"messages": [{"role": "{{ params.r }}", "content": "x"}], "attachments": "a.png"},
            {"prompt": "Look", "attachments": ["{{ params.a }}.docx", Path("not there yet.png"), "s3://b/no-suffix"]},
        ],
    )
    def test_what_only_a_run_can_tell_waits_for_it(self, arguments):
        ask(**arguments)

    def test_a_run_without_a_user_message_fails_before_anything_is_read(self, airflow, chat):
        with airflow.dag(params={"m": [{"role": "system", "content": "x"}]}):
            ask(messages="{{ params.m }}", attachments="/not/there.png")
        airflow.run()
        assert airflow.error().message.startswith("Give a prompt: attachments go into the last user message")

    def test_a_schema_that_knows_no_such_part_refuses_it_before_it_is_read(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Look", attachments="/not/there.pdf", request_schema="2023-12")
        airflow.run()
        assert airflow.error().path == "$.messages[0].content[1].type"


def test_dry_run_names_the_files_and_their_sizes_and_prints_no_contents(airflow, chat, folder, capsys):
    with airflow.dag():
        ask(prompt="Look", attachments=[folder / "a.png", folder / "a.csv"], dry_run=True)
    assert airflow.run().state == "success"
    shown = capsys.readouterr().out
    assert f"{folder / 'a.png'}: image/png, {len(PNG):,} bytes" in shown
    assert f"[attachment: {folder / 'a.csv'}]" in shown
    assert coded(PNG)[:40] not in shown
    assert not chat.requests


def test_messages_that_are_json_text_and_go_unchecked_take_attachments(airflow, chat, folder):
    with airflow.dag():
        ask(messages=json.dumps([user("Look")]), attachments=folder / "a.png", request_schema=None)
    assert airflow.run().state == "success"
    assert sent(chat)["messages"] == [user([text("Look"), PARTS["a.png"][1]])]


def test_what_pre_execute_sets_is_attached(airflow, chat, folder):
    with airflow.dag():
        ask(prompt="Look", pre_execute=setting(attachments=[str(folder / "a.png")]))
    assert airflow.run().state == "success"
    assert sent(chat)["messages"] == [user([text("Look"), PARTS["a.png"][1]])]
