"""Attachments of a deferred call: the journal has their paths, and the trigger reads them."""

from __future__ import annotations

import base64
import json

import pytest
from pydantic import BaseModel

from airflow_chat_provider.durable.entry import Deferred
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import replies
from tests.airflow.durable.test_deferral import Between, journal
from tests.support.asking import sent
from tests.support.running import Airflow

PNG = b"\x89PNG\r\n\x1a\n" + bytes(200_000)


class Verdict(BaseModel):
    good: bool


@pytest.fixture
def airflow(run_dag):
    return Airflow(run_dag, deferrable=True)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    return path


def images(request):
    parts = [part for message in request.json["messages"] for part in message["content"] if isinstance(part, dict)]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def test_the_journal_has_the_absolute_path_and_nothing_of_the_file(airflow, chat, picture):
    found = []
    with airflow.dag(template_searchpath=[str(picture.parent)]):
        Between(
            task_id="ask",
            prompt="Look",
            attachments="a.png",
            max_attachment_bytes=300_000,
            meanwhile=lambda trigger: found.append(journal(trigger).call),
        )
    run = airflow.run()
    assert run.state == "success"
    assert len(found[0]) < 2000
    deferred = Deferred(**json.loads(found[0]))
    assert deferred.attachments == {"paths": [str(picture)], "max_bytes": 300_000, "turn": 1}
    assert images(chat.requests[0]) == [f"data:image/png;base64,{base64.b64encode(PNG).decode()}"]
    assert len(json.dumps(run.xcoms())) < 5000


def test_a_file_that_went_away_meanwhile_fails_the_task_and_nothing_is_sent(airflow, chat, picture):
    with airflow.dag():
        Between(task_id="ask", prompt="Look", attachments=picture, meanwhile=lambda _: picture.unlink())
    run = airflow.run()
    assert run.state == "failed"
    assert isinstance(airflow.error(), InvalidRequest)
    assert airflow.error().message == f"Correct the path: the attachment {str(picture)!r} does not exist"
    assert not chat.requests
    assert not run.xcoms()


def test_each_call_of_a_dialogue_has_the_file_whoever_examines_the_answers(airflow, chat, picture):
    chat.script(replies.ok("so so"), replies.ok('{"good": true}'))
    with airflow.dag():
        ChatCompletionOperator(
            task_id="ask", prompt="Look", attachments=picture, response_schema=Verdict, result_format="json"
        )
    assert airflow.run().xcoms()["return_value"] == {"good": True}
    assert images(chat.requests[0]) == images(chat.requests[1])
    assert len(images(chat.requests[1])) == 1
    assert len(sent(chat)["messages"]) == 3


def test_a_journal_without_attachments_is_as_it_was(airflow, chat):
    found = []
    with airflow.dag():
        Between(task_id="ask", prompt="Hi", meanwhile=lambda trigger: found.append(journal(trigger).deferred))
    airflow.run()
    assert found[0].attachments is None
