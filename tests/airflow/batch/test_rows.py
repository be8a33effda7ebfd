"""What a row becomes: a request by the template, or the one that it is; and the line that is written for it."""

import json
from datetime import UTC, datetime

import pytest

from airflow_chat_provider.batch.digests import digest_of
from airflow_chat_provider.testing import replies
from tests.support.batching import Batch

LINE = {
    "custom_id": "request-1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "other", "messages": [{"role": "user", "content": "{{ as it is }}"}], "temperature": 0.5},
}


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
    def test_a_result_has_index_id_row_answer_usage_and_the_digest_of_its_request(self, batch):
        batch.write({"custom_id": "x-7", "text": "a"})
        batch.run(response_key="label")
        (request,) = batch.chat.requests
        assert batch.results == [
            {
                "index": 0,
                "id": "x-7",
                "row": {"custom_id": "x-7", "text": "a"},
                "label": "Hello",
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
                "digest": digest_of(batch.chat.url, request.json),
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
    assert "the row has no column 'text'; it has 'no'" in messages[2]
