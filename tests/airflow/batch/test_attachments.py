"""Files for each row of a batch: a template gives their paths, and the sender reads them when it sends the row."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.testing import replies
from tests.support.batching import Batch

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 5


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with five pictures, each of its own content."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(PNG + bytes([number]))
    return folder


def url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def sent(batch: Batch) -> dict[str, list[str]]:
    """The prompt of each request, and what it came with."""
    contents: list[Any] = [request.json["messages"][-1]["content"] for request in batch.chat.requests]
    found: dict[str, list[str]] = {}
    for content in contents:
        parts: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text, *others = parts
        found[text["text"]] = [part["image_url"]["url"] if "image_url" in part else part["text"] for part in others]
    return found


def test_each_row_is_sent_with_its_own_file(batch: Batch, images: Path) -> None:
    batch.write(*({"text": str(number), "image": f"{images}/{number}.png"} for number in range(5)))
    assert batch.run(attachments=["{{ row.image }}"])["succeeded"] == 5
    assert sent(batch) == {str(number): [url(PNG + bytes([number]))] for number in range(5)}


def test_a_column_may_hold_a_list_and_a_part_of_a_path(batch: Batch, images: Path) -> None:
    batch.write({"text": "a", "images": [f"{images}/0.png", f"{images}/1.png"], "name": "2"})
    batch.run(attachments=["{{ row.images }}", f"{images}/{{{{ row.name }}}}.png", f"{images}/3.png"])
    assert sent(batch) == {"a": [url(PNG + bytes([number])) for number in range(4)]}


def test_one_template_needs_no_list(batch: Batch, images: Path) -> None:
    batch.write({"text": "a", "images": [f"{images}/0.png", f"{images}/1.png"]}, {"text": "b", "images": []})
    batch.run(attachments="{{ row.images }}")
    assert sent(batch) == {"a": [url(PNG + b"\0"), url(PNG + b"\1")], "b": []}


def test_an_empty_column_names_no_file(batch: Batch, images: Path) -> None:
    batch.write(
        {"text": "a", "image": None},
        {"text": "b", "image": ""},
        {"text": "c", "image": [None, "", f"{images}/0.png"]},
    )
    assert batch.run(attachments=["{{ row.image }}"])["succeeded"] == 3
    assert sent(batch) == {"a": [], "b": [], "c": [url(PNG + b"\0")]}


def test_a_table_names_files_too(batch: Batch, images: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,image\na,0.png\nb,\n")
    batch.run(input=str(tmp_path / "rows.csv"), attachments=[f"{images}/{{{{ row.image }}}}"])
    assert sent(batch) == {"a": [url(PNG + b"\0")], "b": []}


def test_files_in_an_object_store_are_read(batch: Batch, store: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=store))
    (folder / "a.png").write_bytes(PNG)
    batch.write({"text": "a", "image": "a.png"})
    batch.run(attachments=[f"memory://{folder.name}/{{{{ row.image }}}}"])
    assert sent(batch) == {"a": [url(PNG)]}


def test_a_file_that_cannot_be_attached_fails_its_row_alone(batch: Batch, images: Path, tmp_path: Path) -> None:
    (images / "large.png").write_bytes(PNG * 10)
    (images / "unknown").write_bytes(b"\x07" * 100)
    (images / "false.png").write_bytes(b"not a picture")
    names = ["missing.png", "large.png", "unknown", "false.png", ".", "sheet.xlsx", "0.png"]
    batch.write(*({"text": name, "image": f"{images}/{name}"} for name in names))
    manifest = batch.run(attachments=["{{ row.image }}"], max_attachment_bytes=2000, max_failures=6)
    assert (manifest["succeeded"], manifest["failed"]) == (1, {"InvalidRequest": 6})
    assert list(sent(batch)) == ["0.png"]
    messages = {line["row"]["text"]: line["error"]["message"] for line in batch.errors}
    assert messages["missing.png"] == (
        f"rows.jsonl:1: Correct the path: the attachment '{images}/missing.png' does not exist"
    )
    assert "rows.jsonl:2: Attach a smaller file, or raise max_attachment_bytes" in messages["large.png"]
    assert "is of a kind that cannot be told" in messages["unknown"]
    assert "is named as a PNG picture, and holds something else" in messages["false.png"]
    assert "is a folder" in messages["."]
    assert "does not exist" in messages["sheet.xlsx"]


def test_what_is_no_path_fails_its_row_alone(batch: Batch) -> None:
    batch.write({"text": "a", "image": 7}, {"text": "b", "image": {"path": "x.png"}}, {"text": "c"}, {"text": "d"})
    error = batch.error(attachments=["{{ row.image }}"], max_failures=3)
    assert "attachments must be a path, or a list of paths, not an int" in error.message
    assert "must be a path, or a list of paths, not a dict" in batch.errors[1]["error"]["message"]
    assert "the row has no column 'image'; it has 'text'" in batch.errors[2]["error"]["message"]
    assert batch.chat.requests == []


@pytest.mark.parametrize("name", ["../secret.txt", "a/../../secret.txt", "..", "%2e%2e/secret.txt", "..\\secret.txt"])
def test_a_row_cannot_climb_out_of_the_folder_that_the_template_names(batch: Batch, images: Path, name: str) -> None:
    (images.parent / "secret.txt").write_text("secret")
    (images / "a").mkdir()
    batch.write({"text": "a", "name": name})
    for template in (f"{images}/{{{{ row.name }}}}", f"{images}/{{{{ row.name }}}}/x", "{{ row.name }}"):
        error = batch.error(attachments=[template], output=f"{batch.output}{abs(hash(template))}")
        assert error.message.startswith("Leave '..' out of the path: attachments: a path that comes from a row")
    assert batch.chat.requests == []


def test_an_absolute_path_in_a_row_stays_below_the_folder_that_the_template_names(batch: Batch, images: Path) -> None:
    (images.parent / "secret.txt").write_text("secret")
    batch.write({"text": "a", "name": f"{images.parent}/secret.txt"})
    assert "does not exist" in batch.error(attachments=[f"{images}/{{{{ row.name }}}}"]).message


def test_the_author_may_write_a_path_that_leads_upwards(batch: Batch, images: Path) -> None:
    batch.write({"text": "a", "name": "0"})
    batch.run(attachments=[f"{images}/../images/{{{{ row.name }}}}.png", f"{images}/../images/1.png"])
    assert sent(batch) == {"a": [url(PNG + b"\0"), url(PNG + b"\1")]}


def test_no_content_of_a_message_is_taken_for_a_path(batch: Batch, images: Path) -> None:
    note = f"[attachment: {images}/0.png]"
    batch.write({"text": note, "image": f"{images}/1.png"}, {"text": f"{images}/0.png", "image": None})
    batch.run(attachments=["{{ row.image }}"])
    assert sent(batch) == {note: [url(PNG + b"\1")], f"{images}/0.png": []}


def test_a_line_of_a_batch_file_is_sent_as_it_is(batch: Batch, images: Path) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    batch.write({**line, "image": f"{images}/0.png"})
    batch.run(attachments=["{{ row.image }}"], result_format="raw")
    assert batch.chat.requests[0].json == body


def test_the_output_holds_the_path_and_never_the_content(batch: Batch, images: Path) -> None:
    (images / "a.txt").write_text("a canary in a file")
    batch.write(
        {"text": "a", "image": f"{images}/0.png"},
        {"text": "b", "image": f"{images}/a.txt"},
        {"text": "refused", "image": f"{images}/a.txt"},
    )

    def answer(request: Any) -> Any:
        is_refused = request.json["messages"][0]["content"][0]["text"] == "refused"
        return replies.error(400, "no: a canary in a file") if is_refused else replies.ok()

    batch.chat.default = answer
    batch.run(attachments=["{{ row.image }}"], max_failures=None)
    stored = b"".join(path.read_bytes() for path in batch.output.iterdir())
    assert f"{images}/0.png".encode() in stored
    assert base64.b64encode(PNG)[:40] not in stored
    assert stored.count(b"canary") == 1, "the server's own words are kept, in the body"
    assert "canary" not in batch.errors[0]["error"]["message"]


def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_file(batch: Batch, images: Path) -> None:
    batch.write({"text": "a", "image": f"{images}/0.png"})
    batch.chat.script(replies.ok("no"), replies.ok('{"n": 1}'))
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    batch.run(attachments=["{{ row.image }}"], response_schema=schema, result_format="json")
    assert batch.results[0]["response"] == {"n": 1}
    first, second = (json.dumps(request.json).count(url(PNG + b"\0")) for request in batch.chat.requests)
    assert (first, second) == (1, 1)


def test_another_try_sends_only_what_is_missing(batch: Batch, images: Path) -> None:
    batch.write(*({"text": str(number), "image": f"{images}/{number}.png"} for number in range(3)))
    batch.chat.script(replies.ok(), replies.error(500, "no"), replies.ok())
    batch.run(attachments=["{{ row.image }}"], max_failures=None, max_concurrency=1)
    batch.run(attachments=["{{ row.image }}"], max_failures=None, max_concurrency=1)
    assert len(batch.chat.requests) == 4
    assert len(batch.results) == 3


def test_other_attachments_are_another_request(batch: Batch, images: Path) -> None:
    batch.write({"text": "a", "image": f"{images}/0.png"})
    batch.run(attachments=["{{ row.image }}"])
    told = batch.error(attachments=[f"{images}/1.png"]).message
    assert "made with a different request" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"attachments": [7]}, r"attachments\[0\] must be a path, or a list of paths, not an int"),
        ({"attachments": ["a.docx"]}, "Save it as PDF or text"),
        ({"attachments": ["{{ row. }}"]}, "Correct the template"),
        ({"attachments": ["a.png"], "prompt": None}, "Give a prompt: attachments go into the last user message"),
        ({"max_attachment_bytes": 0}, "max_attachment_bytes must be a number of bytes"),
    ],
)
def test_a_wrong_argument_breaks_the_import(batch: Batch, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        batch.task(**arguments)


def test_a_relative_path_is_looked_for_next_to_the_dags_file(run_dag: Any, batch: Batch, images: Path) -> None:
    batch.write({"text": "a", "image": "images/0.png"})
    with DAG("relative", schedule=None, template_searchpath=str(images.parent), params={"column": "image"}) as dag:
        ChatCompletionBatchOperator(
            task_id="bulk",
            input=str(batch.input),
            output=str(batch.output),
            prompt="{{ row.text }}",
            attachments=["{{ row[params.column] }}"],
        )
    assert run_dag(dag).state == "success"
    assert sent(batch) == {"a": [url(PNG + b"\0")]}


def test_a_relative_path_that_no_file_can_have_names_itself(batch: Batch) -> None:
    batch.write({"text": "a", "image": "a" * 300 + ".png"}, {"text": "b", "image": ""})
    assert batch.run(attachments=["{{ row.image }}"], max_failures=1)["succeeded"] == 1
    (line,) = batch.errors
    assert "cannot be read (File name too long)" in line["error"]["message"]


def test_files_that_are_set_before_execution_are_data(batch: Batch, images: Path) -> None:
    batch.write({"text": "a"})
    task = batch.task(attachments=["{{ row.nothing }}"])
    task.render_template_fields({})
    task.attachments = [f"{images}/0.png"]
    batch.execute(task)
    assert sent(batch) == {"a": [url(PNG + b"\0")]}
