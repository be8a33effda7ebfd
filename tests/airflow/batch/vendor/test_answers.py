"""What becomes of the answers that a vendor's batch API hands out: the same as of the answers to calls."""

import json

import pytest

from airflow_chat_provider.batch.requests import Requests
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.testing import BatchEnd, replies

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def text_of(body):
    return body["messages"][-1]["content"]


def test_a_row_that_is_refused_has_the_same_error_as_after_a_call(bulk):
    bulk.vendor.answer = lambda body: replies.error(400, "no such thing") if text_of(body) == "row 1" else replies.ok()
    bulk.texts(3)
    manifest = bulk.run(max_failures=1)
    assert manifest["failed"] == {"StatusError 400": 1}
    (line,) = bulk.errors
    assert (line["index"], line["error"]["class"], line["error"]["status"]) == (1, "StatusError", 400)
    assert "no such thing" in line["error"]["message"]
    assert line["batch"] == bulk.vendor.batches[0].id


def test_failed_rows_count_towards_max_failures(bulk):
    bulk.vendor.answer = lambda body: replies.error(400, "no")
    bulk.texts(3)
    error = bulk.error(max_failures=2)
    assert "3 of 3 rows failed (max_failures 2)" in error.message


def test_a_200_that_holds_an_error_is_an_error(bulk):
    bulk.vendor.answer = lambda body: (200, {"error": {"message": "overloaded", "code": 503}})
    bulk.texts(1)
    manifest = bulk.run(max_failures=None)
    assert manifest["succeeded"] == 0
    (line,) = bulk.errors
    assert line["error"]["class"] == "RateLimited"


def test_an_answer_that_does_not_fit_its_schema_is_paid_for_and_asked_again_by_the_next_try(bulk):
    bulk.vendor.answer = lambda body: replies.ok('{"n": "x"}')
    bulk.texts(2)
    given = {"response_schema": SCHEMA, "result_format": "json", "max_failures": None}
    manifest = bulk.run(**given)
    assert manifest["failed"] == {"InvalidOutput 200": 2}
    assert manifest["usage"]["total_tokens"] == bulk.vendor.tokens > 0
    (line, _) = (json.loads(line) for line in bulk.vendor.batches[0].input.lines)
    assert line["body"]["response_format"]["type"] == "json_schema"
    bulk.vendor.answer = lambda body: replies.ok('{"n": 1}')
    manifest = bulk.run(**given)
    assert [line["response"] for line in bulk.results] == [{"n": 1}] * 2
    assert manifest["usage"]["total_tokens"] == bulk.vendor.tokens


def test_batches_cost_half(bulk, connect):
    prices = {"test-model": {"input": "1000000", "output": "1000000"}}
    connection = bulk.vendor.connection
    connect(**{**connection, "extra": {**connection["extra"], "prices": prices}})
    bulk.texts(2)
    manifest = bulk.run()
    assert manifest["usage"]["cost"] == manifest["usage"]["total_tokens"] / 2
    assert [line["cost"] for line in bulk.results] == [line["usage"]["total_tokens"] / 2 for line in bulk.results]


def test_a_cost_that_the_server_states_is_taken_as_it_is(bulk):
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cost": 0.25}
    bulk.vendor.answer = lambda body: (200, replies.completion(usage=usage))
    bulk.texts(2)
    assert bulk.run()["usage"]["cost"] == 0.5


def test_rows_that_are_requests_keep_their_own_ids(bulk):
    body = {"model": "test-model", "messages": [{"role": "user", "content": "hi"}]}
    bulk.write(
        *({"custom_id": f"x/{n} ü", "method": "POST", "url": "/v1/chat/completions", "body": body} for n in (1, 2))
    )
    bulk.run(prompt=None)
    assert [line["custom_id"] for line in bulk.results] == ["x/1 ü", "x/2 ü"]
    assert bulk.sent == ["row-0", "row-1"]


def test_an_answer_is_known_by_the_request_that_was_sent_although_it_would_be_another_one_now(bulk):
    bulk.texts(2)
    bulk.run(prompt="{{ row.text }} at {{ range(99999) | random }}")
    sent = (json.loads(line)["custom_id"] for batch in bulk.vendor.batches for line in batch.input.lines)
    assert [line["digest"] for line in bulk.results] == [name.rpartition("-")[2] for name in sent]


def test_an_answer_is_kept_although_its_request_cannot_be_made_again(bulk, monkeypatch):
    bulk.texts(2)
    made = Requests.for_row

    def once(self, row):
        monkeypatch.setattr(Requests, "for_row", failing if row.index == 1 else once)
        return made(self, row)

    def failing(self, row):
        raise InvalidRequest("Correct the row: its file is gone", path=row.place)

    monkeypatch.setattr(Requests, "for_row", once)
    assert bulk.run()["succeeded"] == 2


def test_a_row_that_no_request_can_be_made_of_fails_at_once_and_the_others_are_sent(bulk):
    bulk.write({"text": "row 0"}, "not JSON", {"text": "row 2"})
    manifest = bulk.run(max_failures=1)
    assert manifest["failed"] == {"InvalidRequest": 1}
    assert bulk.sent == ["row-0", "row-2"]
    assert manifest["succeeded"] == 2


def test_a_request_that_streams_is_refused(bulk):
    bulk.texts(1)
    error = bulk.error(request={"stream": True}, max_failures=0)
    assert "the batch API does not stream" in error.message
    assert bulk.vendor.batches == []


def test_a_row_that_is_larger_than_a_file_may_be_fails_alone(bulk, monkeypatch):
    monkeypatch.setattr("airflow_chat_provider.batch.vendor.cutting.MOST_BYTES", 400)
    bulk.write({"text": "short"}, {"text": "long " * 100}, {"text": "short, too"})
    manifest = bulk.run(max_failures=1)
    assert (manifest["succeeded"], manifest["failed"]) == (2, {"InvalidRequest": 1})
    assert "the batch API takes" in bulk.errors[0]["error"]["message"]


def test_attachments_go_into_the_file(bulk, tmp_path):
    (tmp_path / "note.txt").write_text("the note's text", "utf-8")
    bulk.texts(1)
    bulk.run(attachments=[str(tmp_path / "note.txt")])
    (line,) = bulk.vendor.batches[0].input.lines
    assert b"the note's text" in line


def test_an_empty_input_starts_nothing(bulk):
    bulk.write()
    assert bulk.run()["total"] == 0
    assert bulk.vendor.batches == []


@pytest.mark.parametrize(
    "line",
    [b"{}\n", b"[1]\n", b"\n\n", b'{"custom_id": "row-0"}\n', b"\xff\xfe\n", b""],
    ids=["object", "list", "blank", "without a response", "not UTF-8", "nothing"],
)
def test_strange_files_cost_no_more_than_their_rows(bulk, line):
    bulk.vendor.script(BatchEnd(spoil=lambda _: [line]))
    bulk.texts(1)
    bulk.error(max_failures=0, max_attempts=1)
    assert bulk.run()["succeeded"] == 1


def test_nothing_of_prompts_answers_and_keys_is_logged(bulk, log):
    bulk.vendor.answer = lambda body: replies.error(400, f"cannot read {text_of(body)}")
    bulk.write({"text": "a very secret prompt of a customer"})
    error = bulk.error(max_failures=0)
    assert "very secret prompt" not in log.text + error.message
    assert "sk-test" not in log.text + (bulk.output / "batch.json").read_text("utf-8")
