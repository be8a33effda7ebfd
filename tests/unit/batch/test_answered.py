"""Lines found by their digests: only what has the whole digest is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_chat_provider.batch.output.answered import Answered
from airflow_chat_provider.batch.output.local import LocalStore
from airflow_chat_provider.batch.output.store import RESULTS
from airflow_chat_provider.errors import ChatCompletionError


def line(index: int, digest: str) -> bytes:
    found = {"index": index, "id": f"row-{index}", "response": "Hé", "digest": digest}
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def folder(path: Path, *lines: bytes) -> LocalStore:
    path.mkdir()
    (path / "results.jsonl").write_bytes(b"".join(lines))
    return LocalStore(path, 0)


def digest(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture
def two(tmp_path: Path) -> list[LocalStore]:
    """Two folders that share a digest."""
    first = folder(tmp_path / "a", line(0, digest(1 << 100)), line(1, digest(2 << 100)))
    return [first, folder(tmp_path / "b", line(7, digest(2 << 100)), line(8, digest(3 << 100)))]


def test_lines_are_found_in_all_folders_and_of_two_the_first(two: list[LocalStore]) -> None:
    answered = Answered(two, RESULTS)
    found = [answered.find(digest(number << 100)) for number in (3, 2, 1)]
    assert [(one.store, one.line["index"]) for one in found if one is not None] == [(1, 8), (0, 1), (0, 0)]
    assert (answered.count, answered.damaged) == (3, 0)
    assert answered.find(digest(4 << 100)) is None
    answered.close()


def test_a_digest_that_only_begins_like_one_is_not_found(two: list[LocalStore]) -> None:
    answered = Answered(two, RESULTS)
    assert answered.find(digest((1 << 100) + 1)) is None
    answered.close()


def test_a_line_that_changes_after_it_was_seen_is_not_taken(two: list[LocalStore], tmp_path: Path) -> None:
    answered = Answered(two, RESULTS)
    file = tmp_path / "b" / "results.jsonl"
    file.write_bytes(b"\0" * file.stat().st_size)
    assert answered.find(digest(3 << 100)) is None
    assert answered.damaged == 1
    answered.close()


def test_a_folder_that_cannot_be_read_is_named(two: list[LocalStore], tmp_path: Path) -> None:
    file = tmp_path / "b" / "results.jsonl"
    file.unlink()
    file.mkdir()
    with pytest.raises(ChatCompletionError, match=str(file)):
        Answered(two, RESULTS)
