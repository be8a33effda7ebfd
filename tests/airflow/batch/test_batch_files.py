"""Lines of vendors' batch files: sent as they are, and answered in the form that readers of OpenAI's take."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from airflow_chat_provider.testing import faults, replies
from tests.airflow.batch.test_rows import LINE
from tests.support.calling import Log

BARE: dict[str, Any] = {
    "custom_id": "bare-1",
    "body": {"model": "other", "messages": [{"role": "user", "content": "As it is."}], "temperature": 0.5},
}


class Response(BaseModel):
    status_code: int
    request_id: str
    body: dict[str, Any] | None


class Error(BaseModel):
    code: str | None
    message: str | None


class BatchRequestOutput(BaseModel):
    """A line of an output or error file, as OpenAI documents it; each of its keys is there."""

    id: str
    custom_id: str
    response: Response | None
    error: Error | None


class TestBatchFileFormat:
    def test_a_request_line_is_sent_as_it_is_and_answered_in_the_same_format(self, batch):
        batch.write(LINE)
        batch.chat.script(replies.ok("Yes", headers={"x-request-id": "req-9"}))
        manifest = batch.run(prompt=None)
        assert [request.json for request in batch.chat.requests] == [LINE["body"]]
        (line,) = batch.results
        assert line.pop("index") == 0
        assert line.pop("id").startswith("batch_req_")
        assert line["custom_id"] == "request-1"
        assert line["error"] is None
        assert line["response"]["status_code"] == 200
        assert line["response"]["request_id"] == "req-9"
        assert line["response"]["body"]["choices"][0]["message"]["content"] == "Yes"
        assert manifest["usage"]["total_tokens"] == 11

    def test_a_refused_line_has_its_response_and_a_failure(self, batch):
        batch.write(LINE)
        batch.chat.script(replies.error(400, "no"))
        batch.run(prompt=None, max_failures=None)
        (line,) = batch.errors
        assert line["response"]["status_code"] == 400
        assert line["response"]["body"]["error"]["message"] == "no"
        assert line["error"] is None, "OpenAI has here what no server has said"
        assert (line["failure"]["class"], line["failure"]["status"]) == ("StatusError", 400)

    def test_a_failure_without_an_error_of_the_server_has_one_of_ours(self, batch):
        batch.write(*({**LINE, "custom_id": name} for name in ("text", "other", "reset", "cut", "unsent")))
        with batch.input.open("a") as file:
            file.write(json.dumps({**LINE, "custom_id": "last", "body": {}}) + "\n")
        batch.chat.script(
            replies.text(400, "no"),
            replies.json_reply(422, {"detail": "no"}),
            faults.reset(),
            replies.text(200, "half an answ"),
            replies.ok("x", finish_reason="length"),
        )
        batch.run(prompt=None, max_failures=None, max_concurrency=1, on_incomplete="fail")
        told = [(line["response"] and line["response"]["status_code"], line["error"]["code"]) for line in batch.errors]
        assert told == [
            (400, "StatusError"),
            (422, "StatusError"),
            (None, "TransportError"),
            (200, "ProtocolError"),
            (200, "IncompleteReply"),
            (None, "InvalidRequest"),
        ]
        assert [line["error"]["message"] for line in batch.errors] == [
            line["failure"]["message"] for line in batch.errors
        ]
        assert [line.get("body") for line in batch.errors] == ["no", None, None, "half an answ", None, None]

    def test_every_line_is_one_that_a_strict_reader_of_the_format_takes(self, batch):
        batch.write(*({**LINE, "custom_id": str(number)} for number in range(6)))
        batch.chat.script(
            replies.ok("Yes"),
            replies.error(400, "no", code=None),
            replies.json_reply(400, {"error": {"message": "no", "code": 400}}),
            replies.json_reply(400, [{"error": {"message": "no", "code": 400}}]),
            faults.reset(),
            replies.text(404, "<html>"),
        )
        batch.run(prompt=None, max_failures=None)
        read = [BatchRequestOutput.model_validate(line, strict=True) for line in (*batch.results, *batch.errors)]
        assert sorted(one.custom_id for one in read) == [str(number) for number in range(6)]
        assert {one.response.request_id for one in read if one.response} == {""}

    def test_lines_that_an_earlier_version_left_are_read(self, batch):
        batch.write(*({**LINE, "custom_id": name} for name in ("a", "b")))
        batch.chat.script(replies.error(400, "no"), replies.error(400, "no"))
        batch.run(prompt=None, max_failures=None, max_concurrency=1)
        answer = {"status_code": 200, "request_id": None, "body": {"choices": [], "usage": {"total_tokens": 5}}}
        refusal = {"status_code": 400, "request_id": None, "body": {"error": {"message": "no"}}}
        error = {"class": "StatusError", "code": 400, "message": "no", "status": 400, "request_id": None}
        old = {"index": 0, "id": "batch_req_0", "custom_id": "a", "response": answer, "error": None}
        failed = {"index": 1, "id": "batch_req_1", "custom_id": "b", "response": refusal, "error": error, "asked": 1}
        (batch.output / "results.jsonl").write_text(json.dumps(old) + "\n")
        (batch.output / "errors.jsonl").write_text(json.dumps(failed) + "\n")
        batch.chat.requests.clear()
        manifest = batch.run(prompt=None, max_failures=None)
        assert (manifest["succeeded"], manifest["failed"]) == (2, {})
        assert len(batch.chat.requests) == 1
        assert manifest["usage"]["total_tokens"] == 16

    def test_a_refused_row_is_asked_for_again_by_the_next_try(self, batch):
        batch.write(LINE)
        batch.chat.script(replies.error(400, "no"))
        batch.run(prompt=None, max_failures=None)
        assert batch.run(prompt=None, max_failures=None)["succeeded"] == 1
        assert [request.headers["idempotency-key"][-2:] for request in batch.chat.requests] == ["-0", "-1"]
        assert batch.errors == []

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"url": "/v1/embeddings"}, "url must end in /chat/completions"),
            ({"method": "GET"}, "method must be POST"),
            ({"custom_id": ""}, "custom_id must be text"),
            ({"body": {"model": "m"}}, "$: 'messages' is missing"),
        ],
    )
    def test_a_wrong_one_is_not_sent(self, batch, change, told):
        batch.write(LINE | change)
        batch.run(prompt=None, max_failures=None)
        assert batch.chat.requests == []
        assert told in batch.errors[0]["error"]["message"]
        assert "rows.jsonl:1" in batch.errors[0]["error"]["message"]

    def test_the_template_is_not_used_for_request_lines(self, batch):
        batch.write(LINE, {"text": "plain"})
        batch.run()
        assert batch.asked == ["plain", "{{ as it is }}"]


class TestBareLines:
    """The batch files of Together and Mistral: a line has an id and a body."""

    def test_a_bare_line_is_sent_as_it_is_and_answered_in_the_batch_file_format(self, batch):
        batch.write(BARE)
        batch.run(prompt=None)
        assert [request.json for request in batch.chat.requests] == [BARE["body"]]
        (line,) = batch.results
        assert (line["id"], line["custom_id"], line["error"]) == ("batch_req_0", "bare-1", None)
        assert line["response"]["body"]["choices"][0]["message"]["content"] == "Hello"

    @pytest.mark.parametrize("more", [{"method": "POST"}, {"url": "/v1/chat/completions"}])
    def test_a_bare_line_may_have_a_method_or_a_url(self, batch, more):
        batch.write(BARE | more)
        assert batch.run(prompt=None)["succeeded"] == 1

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"url": "/v1/embeddings"}, "url must end in /chat/completions"),
            ({"method": "FILE"}, "method must be POST"),
            ({"custom_id": 5}, "custom_id must be text"),
            ({"body": {"model": "m", "messages": []}}, "$.messages"),
            ({"body": {"model": "m", "prompt": "x"}}, "the row must be a line of a batch file (custom_id and body"),
            ({"body": "{}"}, "the row must be a line of a batch file (custom_id and body"),
        ],
    )
    def test_a_wrong_one_is_not_sent(self, batch, change, told):
        batch.write(BARE | change)
        batch.run(prompt=None, max_failures=None)
        assert batch.chat.requests == []
        assert told in batch.errors[0]["error"]["message"]

    def test_lines_of_both_forms_and_rows_for_the_template_go_together(self, batch, capsys, caplog):
        batch.write(LINE, BARE, {"text": "plain"}, {**BARE, "custom_id": "bare-2"})
        batch.run()
        assert batch.asked == ["As it is.", "As it is.", "plain", "{{ as it is }}"]
        said = "are sent as they are; the task's request is for other rows"
        assert Log(capsys, caplog).text.count(said) == 1

    def test_a_row_of_data_with_columns_of_these_names_is_a_row_of_data(self, batch):
        batch.write(
            {"custom_id": "a", "body": {"title": "one"}},
            {"custom_id": "b", "body": {"title": "two", "messages": ["x"]}},
            {"custom_id": "c", "body": {**BARE["body"], "title": "three"}, "text": "x"},
        )
        batch.run(prompt="{{ row.body.title }}")
        assert batch.asked == ["one", "three", "two"]

    def test_a_line_without_a_model_is_sent_with_the_tasks(self, batch):
        lines = [LINE | {"custom_id": "a"}, BARE]
        batch.write(*({**line, "body": {**line["body"], "model": None}} for line in lines), BARE | {"custom_id": "x"})
        batch.run(prompt=None, model="mistral-small-latest")
        models = sorted(request.json["model"] for request in batch.chat.requests)
        assert models == sorted(["mistral-small-latest", "mistral-small-latest", BARE["body"]["model"]])

    def test_a_try_goes_on_with_the_lines_that_have_no_result(self, batch):
        batch.write(BARE, {**BARE, "custom_id": "bare-2"})
        batch.chat.script(replies.error(400, "no"))
        batch.run(prompt=None, max_failures=None, max_concurrency=1)
        assert [line["custom_id"] for line in batch.errors] == ["bare-1"]
        assert batch.run(prompt=None)["succeeded"] == 2
        assert len(batch.chat.requests) == 3
