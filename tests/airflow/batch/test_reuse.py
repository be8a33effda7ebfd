"""Answers of earlier batches, which are not bought again."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_chat_provider.testing import ChatServer, replies
from tests.support.batching import Batch, prompt_of


@pytest.fixture
def earlier(tmp_path: Path, chat: ChatServer) -> Batch:
    """A batch of three rows that has ended; its server echoes."""
    chat.default = lambda request: replies.ok(f"echo of {prompt_of(request)}")
    (tmp_path / "earlier").mkdir()
    made = Batch(tmp_path / "earlier", chat)
    made.write(*({"custom_id": f"old-{index}", "text": f"row {index}"} for index in range(3)))
    made.run()
    return made


def asked_since(batch: Batch, seen: int) -> list[str]:
    return sorted(map(prompt_of, batch.chat.requests[seen:]))


def test_only_what_changed_is_asked_for(batch: Batch, earlier: Batch) -> None:
    batch.write({"custom_id": "new-1", "text": "row 1"}, {"custom_id": "b", "text": "other"}, {"text": "row 0"})
    manifest = batch.run(reuse=str(earlier.output))
    assert asked_since(batch, 3) == ["other"]
    assert [(line["id"], line["row"]["text"], line["response"], line.get("reused")) for line in batch.results] == [
        ("new-1", "row 1", "echo of row 1", True),
        ("b", "other", "echo of other", None),
        ("row-2", "row 0", "echo of row 0", True),
    ]
    assert (manifest["succeeded"], manifest["reused"], manifest["deduplicated"]) == (3, 2, 0)
    assert (manifest["usage"]["requests"], manifest["usage"]["total_tokens"]) == (1, 11)
