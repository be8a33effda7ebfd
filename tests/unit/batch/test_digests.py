"""What makes two requests the same, and what tells them apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_chat_provider.batch.digests import digest_of, digest_of_row
from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
from airflow_chat_provider.core.answer.output_schema import load_output
from airflow_chat_provider.core.request.attachments import Attachments
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.transport.attachments import stamps

URL = "https://api.example.com/v1"
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Hé"}]}


def test_the_order_of_keys_does_not_matter() -> None:
    turned = {"messages": [{"content": "Hé", "role": "user"}], "model": "m"}
    assert digest_of(URL, turned) == digest_of(URL, REQUEST)
    assert len(digest_of(URL, REQUEST)) == 32
    assert int(digest_of(URL, REQUEST), 16)


@pytest.mark.parametrize(
    ("url", "request_", "files"),
    [
        ("https://other.example.com/v1", REQUEST, []),
        (URL, {**REQUEST, "temperature": 0}, []),
        (URL, {**REQUEST, "model": "n"}, []),
        (URL, {**REQUEST, "messages": [{"role": "user", "content": "He"}]}, []),
        (URL, REQUEST, [[3, 1]]),
    ],
    ids=["server", "parameter", "model", "prompt", "files"],
)
def test_another_server_request_or_file_has_another_digest(
    url: str, request_: dict[str, object], files: list[object]
) -> None:
    assert digest_of(url, request_, files) != digest_of(URL, REQUEST)


def test_half_a_surrogate_pair_has_a_digest_too() -> None:
    assert len(digest_of(URL, {"messages": "\ud800"})) == 32


def test_the_schema_counts_as_the_first_call_sends_it_whatever_the_server_is_known_to_refuse() -> None:
    wanted = Wanted(load_output({"type": "object", "properties": {"a": {"type": "string"}}}))
    sent = Dialogue(REQUEST, wanted).request
    assert digest_of_row(URL, REQUEST, wanted) == digest_of(URL, sent) != digest_of(URL, REQUEST)


def test_a_request_with_a_response_format_of_its_own_is_taken_as_it_is() -> None:
    wanted, own = Wanted(load_output({"type": "object"})), {**REQUEST, "response_format": {"type": "json_object"}}
    assert digest_of_row(URL, own, wanted) == digest_of(URL, own)


def test_a_file_that_changes_has_another_stamp(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    before = stamps(Attachments((str(file),)))
    assert stamps(Attachments((f"file://{file}",))) == before
    file.write_text("two")
    os.utime(file, ns=(1, before[0][1] + 1))
    assert stamps(Attachments((str(file),))) != before


def test_a_file_that_is_missing_has_no_stamp(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="does not exist"):
        stamps(Attachments((str(tmp_path / "a.txt"),)))
