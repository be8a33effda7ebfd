"""What a row becomes: a request by the template, or the one that it is; and the line that is written for it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from airflow_chat_provider.testing import faults, replies
from tests.batch.batching import Batch
from tests.calling import Log

LINE = {
    "custom_id": "request-1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "other", "messages": [{"role": "user", "content": "{{ as it is }}"}], "temperature": 0.5},
}

BARE = {
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


class TestTemplates:
    def test_each_row_fills_the_template_and_keeps_its_types(self, batch):
        batch.write({"text": "a", "t": 0.25}, {"text": "b", "t": "0.5"})
        batch.run(prompt="Say {{ row.text }}!", request={"temperature": "{{ row.t }}"})
        assert batch.asked == ["Say a!", "Say b!"]
        assert sorted(request.json["temperature"] for request in batch.chat.requests) == [0.25, 0.5]

    def test_values_of_a_row_are_never_rendered(self, batch):
        batch.write({"text": "{{ 1 + 1 }} {% raw %}"}, {"text": "{{ row.text }}"})
        batch.run()
        assert batch.asked == ["{{ 1 + 1 }} {% raw %}", "{{ row.text }}"]

    def test_what_does_not_look_at_the_row_is_rendered_once_with_the_context(self, batch):
        batch.texts(2)
        task = batch.task(system_prompt="Run {{ run_id }}", prompt="{{ run_id }}: {{ row.text }}")
        task.render_template_fields({"run_id": "r-1"})
        batch.execute(task)
        assert task.system_prompt == "Run r-1"
        assert batch.asked == ["r-1: row 0", "r-1: row 1"]
        assert {request.json["messages"][0]["content"] for request in batch.chat.requests} == {"Run r-1"}

    def test_a_column_named_like_a_method_of_dicts_is_the_column(self, batch):
        batch.write({"items": "three apples", "get": 1, "_id": 7})
        batch.run(prompt="{{ row.items }}{{ row.get }}{{ row._id }}{{ row.keys() | length }}")
        assert batch.asked == ["three apples173"]

    def test_a_request_as_text_is_json_before_or_after_it_is_rendered(self, batch, tmp_path):
        batch.write({"text": 'a "quoted" text', "n": 3})
        messages = '"messages": [{"role": "user", "content": "{{ row.text }}"}]'
        batch.run(prompt=None, request=f'{{{messages}, "n": 1}}')
        batch.run(
            prompt=None,
            request='{"n": {{ row.n }}, "messages": {{ [{"role": "user", "content": row.text}] | tojson }}}',
            output=str(tmp_path / "other"),
        )
        assert batch.asked == ['a "quoted" text'] * 2
        assert [request.json["n"] for request in batch.chat.requests] == [1, 3]

    def test_a_request_from_a_file_sees_the_row(self, batch, tmp_path):
        (tmp_path / "ask.json").write_text(json.dumps({"messages": [{"role": "user", "content": "{{ row.text }}"}]}))
        batch.texts(1)
        batch.run(prompt=None, request=str(tmp_path / "ask.json"))
        assert batch.asked == ["row 0"]

    def test_messages_of_a_row_are_continued_by_the_prompt(self, batch):
        batch.write(
            {"talk": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}], "text": "Go"}
        )
        batch.run(messages="{{ row.talk }}")
        assert [message["content"] for message in batch.chat.requests[0].json["messages"]] == ["Hi", "Yes?", "Go"]

    def test_a_csv_has_a_row_for_each_record_and_numbers_where_they_are_due(self, batch, tmp_path):
        file = tmp_path / "rows.csv"
        file.write_text('id,text,t\n1,"two\nlines, and a ""quote""",0.5\n2,plain,1\n', "utf-8")
        batch.run(input=str(file), request={"temperature": "{{ row.t }}"})
        assert batch.asked == ["plain", 'two\nlines, and a "quote"']
        assert batch.results[0]["row"] == {"id": "1", "text": 'two\nlines, and a "quote"', "t": "0.5"}

    def test_rows_may_be_a_list(self, batch):
        assert batch.run(input=[{"text": "a"}, {"text": "b"}])["succeeded"] == 2
        assert batch.asked == ["a", "b"]

    def test_a_streamed_row_is_answered_like_any_other(self, batch):
        batch.texts(1)
        batch.chat.script(replies.sse([replies.chunk("Hel"), replies.chunk("lo", finish_reason="stop")]))
        batch.run(request={"stream": True})
        assert batch.results[0]["response"] == "Hello"

    def test_a_row_of_an_upstream_task_may_hold_what_json_cannot_as_long_as_the_request_does_not(self, batch):
        day = datetime(2026, 11, 24, tzinfo=UTC)
        rows = [{"day": day, "t": float("inf"), 7: "x"}, {"day": day, ("a", "b"): 1}]
        batch.run(input=rows, prompt="{{ row.day.year }}")
        assert batch.asked == ["2026", "2026"]
        assert [line["row"]["day"] for line in batch.results] == [str(day)] * 2


class TestLines:
    def test_a_result_has_index_id_row_answer_and_usage(self, batch):
        batch.write({"custom_id": "x-7", "text": "a"})
        batch.run(response_key="label")
        assert batch.results == [
            {
                "index": 0,
                "id": "x-7",
                "row": {"custom_id": "x-7", "text": "a"},
                "label": "Hello",
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
            }
        ]

    @pytest.mark.parametrize(
        ("result_format", "expected"),
        [
            ("message", {"role": "assistant", "content": '{"a": [1]}', "refusal": None}),
            ("text", '{"a": [1]}'),
            ("json", {"a": [1]}),
        ],
    )
    def test_result_format_decides_what_is_kept_of_an_answer(self, batch, result_format, expected):
        batch.texts(1)
        batch.chat.script(replies.ok('{"a": [1]}'))
        batch.run(result_format=result_format, keep_row=False)
        (line,) = batch.results
        assert line["response"] == expected
        assert "row" not in line

    def test_raw_keeps_body_and_status(self, batch):
        batch.texts(1)
        batch.run(result_format="raw")
        assert batch.results[0]["response"] == {"body": replies.completion(), "status": 200}

    def test_an_id_may_be_in_a_column_of_another_name(self, batch):
        batch.write({"key": 12, "text": "a"}, {"text": "b"})
        batch.run(id_key="key")
        assert [line["id"] for line in batch.results] == ["12", "row-1"]

    def test_a_line_is_strict_json_in_utf_8_whatever_the_server_sent(self, batch):
        batch.texts(3)
        batch.chat.script(
            replies.ok("\ud83d half of a pair"),
            replies.ok("nul \x00, \u2028 and \n"),
            replies.ok("x", logprobs=float("nan")),
        )
        batch.run(result_format="message", max_concurrency=1)
        texts = [line["response"]["content"] for line in batch.results]
        assert texts == ["\ufffd half of a pair", "nul \x00, \u2028 and \n", "x"]
        raw = (batch.output / "results.jsonl").read_bytes()
        assert raw.count(b"\n") == 3
        assert b"NaN" not in raw.replace(b'"NaN"', b"").replace(b'"nan"', b"")

    def test_a_row_that_failed_has_class_status_code_message_and_what_was_received(self, batch):
        batch.texts(1)
        batch.chat.script(replies.error(400, "no such model", "model_not_found"))
        batch.run(max_failures=None)
        (line,) = batch.errors
        assert line["error"]["class"] == "StatusError"
        assert (line["error"]["status"], line["error"]["code"]) == (400, "model_not_found")
        assert "no such model" in line["error"]["message"]
        assert line["body"]["error"]["message"] == "no such model"
        assert line["row"] == {"text": "row 0"}


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

    def test_a_refused_one_has_its_response_and_an_error(self, batch):
        batch.write(LINE)
        batch.chat.script(replies.error(400, "no"))
        batch.run(prompt=None, max_failures=None)
        (line,) = batch.errors
        assert line["response"]["status_code"] == 400
        assert line["response"]["body"]["error"]["message"] == "no"
        assert line["error"] is None, "OpenAI has here what no server has said"
        assert (line["failure"]["class"], line["failure"]["status"]) == ("StatusError", 400)

    def test_a_failure_that_the_server_tells_in_no_error_of_its_own_is_told_as_ours(self, batch):
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

    def test_a_template_is_for_the_other_rows(self, batch):
        batch.write(LINE, {"text": "plain"})
        batch.run()
        assert batch.asked == ["plain", "{{ as it is }}"]


class TestBareLines:
    """The batch files of Together and Mistral: a line has an id and a body."""

    def test_one_is_sent_as_it_is_and_answered_in_the_batch_file_format(self, batch):
        batch.write(BARE)
        batch.run(prompt=None)
        assert [request.json for request in batch.chat.requests] == [BARE["body"]]
        (line,) = batch.results
        assert (line["id"], line["custom_id"], line["error"]) == ("batch_req_0", "bare-1", None)
        assert line["response"]["body"]["choices"][0]["message"]["content"] == "Hello"

    @pytest.mark.parametrize("more", [{"method": "POST"}, {"url": "/v1/chat/completions"}])
    def test_one_may_have_a_method_or_a_url(self, batch, more):
        batch.write(BARE | more)
        assert batch.run(prompt=None)["succeeded"] == 1

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"url": "/v1/embeddings"}, "url must end in /chat/completions"),
            ({"method": "FILE"}, "method must be POST"),
            ({"custom_id": 5}, "custom_id must be text"),
            ({"body": {"model": "m", "messages": []}}, "$.messages"),
            ({"body": {"model": "m", "prompt": "x"}}, "it is not a line of a batch file (custom_id and body"),
            ({"body": "{}"}, "it is not a line of a batch file (custom_id and body"),
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
        said = "are sent as they are; what the task asks is for the others"
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


def test_a_file_with_lines_of_all_kinds_is_one_batch(batch: Batch) -> None:
    batch.write(LINE, "", "   ", {"text": "a"}, "{", "[1]", {"no": "text"})
    manifest = batch.run(max_failures=None)
    assert manifest["succeeded"] == 2
    assert manifest["failed"] == {"InvalidRequest": 3}
    messages = [line["error"]["message"] for line in batch.errors]
    assert "rows.jsonl:5" in messages[0]
    assert "not JSON" in messages[0]
    assert "rows.jsonl:6" in messages[1]
    assert "must be an object" in messages[1]
    assert "rows.jsonl:7" in messages[2]
    assert "the template fails" in messages[2]
