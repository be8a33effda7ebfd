"""Answers of a batch that have to fit: each row is asked again by itself, and counted whole."""

import json

import pytest
from pydantic import BaseModel

from airflow_chat_provider import asking
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.testing import replies
from tests.batch.batching import prompt_of


class Verdict(BaseModel):
    good: bool


@pytest.fixture(autouse=True)
def forget():
    """What the process has learnt of servers."""
    asking._RUNGS.clear()
    yield
    asking._RUNGS.clear()


def test_each_row_has_the_value_and_one_that_does_not_fit_is_asked_for_again(batch):
    batch.texts(3)

    def answer(request):
        again = len(request.json["messages"]) > 1
        return replies.ok('{"good": true}' if again or prompt_of(request) != "row 1" else '{"good": "yes"}')

    batch.chat.default = answer
    manifest = batch.run(response_schema=Verdict, result_format="json", response_key="verdict")
    assert [line["verdict"] for line in batch.results] == [{"good": True}] * 3
    assert len(batch.chat.requests) == 4
    assert batch.results[1]["usage"]["total_tokens"] == 22
    assert manifest["usage"]["total_tokens"] == 44
    assert len({request.headers["idempotency-key"] for request in batch.chat.requests}) == 4


def test_one_that_never_fits_fails_alone_and_keeps_what_came(batch):
    batch.texts(2)
    batch.chat.default = lambda request: replies.ok(
        '{"good": 1}' if request.json["messages"][0]["content"] == "row 1" else '{"good": true}'
    )
    manifest = batch.run(response_schema=Verdict, result_format="json", max_failures=1)
    assert manifest["failed"] == {"InvalidOutput 200": 1}
    (line,) = batch.errors
    assert "$.good" in line["error"]["message"]
    assert line["body"]["choices"][0]["message"]["content"] == '{"good": 1}'


def test_what_a_server_refuses_is_learnt_for_the_other_rows(batch):
    batch.texts(5)

    def answer(request):
        kind = request.json.get("response_format", {}).get("type")
        return replies.error(400, "no json_schema") if kind == "json_schema" else replies.ok('{"good": true}')

    batch.chat.default = answer
    assert batch.run(response_schema=Verdict, result_format="json", max_concurrency=1)["succeeded"] == 5
    assert len(batch.chat.requests) == 6


def test_another_schema_is_another_request(batch):
    batch.texts(1)
    batch.chat.default = replies.ok('{"good": true}')
    batch.run(response_schema=Verdict, result_format="json")
    assert "another request" in batch.error(response_schema={"type": "object"}, result_format="json").message


def test_tool_calls_are_kept_as_data(batch):
    batch.texts(1)
    call = {"id": "c", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    batch.chat.script(replies.ok(None, finish_reason="tool_calls", tool_calls=[call]))
    tools = [{"type": "function", "function": {"name": "time"}}]
    batch.run(request={"tools": tools}, result_format="tool_calls", response_key="calls")
    assert json.loads(json.dumps(batch.results[0]["calls"])) == [{"id": "c", "name": "time", "arguments": {}}]


def test_what_is_no_schema_breaks_the_import(batch):
    with pytest.raises(InvalidRequest, match="response_schema"):
        batch.task(response_schema={"type": "objekt"})
