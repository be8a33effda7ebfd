"""What a batch says that it took is what its server counted: of failed rows, of answers asked again, of all tries."""

import json
import threading

import pytest
from pydantic import BaseModel

from airflow_chat_provider.core.answer.usage import add, counted
from airflow_chat_provider.testing import replies
from tests.support.batching import prompt_of

NOTHING = {"requests": 0, "attempts": 0, "tool_calls": 0, "errors": {}, "rejected": []}


class Verdict(BaseModel):
    good: bool


class Meter:
    """Answers by a rule, and counts the tokens of all that it answered."""

    def __init__(self, rule):
        self.tokens = 0
        self.rule = rule
        self._lock = threading.Lock()

    def __call__(self, request):
        text = self.rule(request)
        with self._lock:
            used = 7 + len(str(request.json["messages"])) % 13
            self.tokens += used
        usage = {"prompt_tokens": used - 2, "completion_tokens": 2, "total_tokens": used}
        return replies.ok(text, usage=usage)


def number(request):
    return int(prompt_of(request).split()[1])


def test_usage_includes_answers_that_did_not_fit(batch):
    def rule(request):
        first = request.json["messages"][0]["content"]
        fits = len(request.json["messages"]) > 1 and first != "row 3"
        return '{"good": true}' if fits or first in ("row 0", "row 4") else '{"good": "yes"}'

    batch.texts(6)
    batch.chat.default = meter = Meter(rule)
    manifest = batch.run(response_schema=Verdict, result_format="json", output_retries=2, max_failures=None)
    assert (manifest["succeeded"], manifest["failed"]) == (5, {"InvalidOutput 200": 1})
    assert manifest["usage"]["total_tokens"] == meter.tokens
    lines = batch.results + batch.errors
    assert sum(line["usage"]["total_tokens"] for line in lines) == meter.tokens


def test_usage_includes_failed_rows_of_earlier_runs(batch):
    def good_in(tries):
        return lambda request: '{"a": 1}' if number(request) % 2 in tries else "not JSON"

    batch.texts(8)
    batch.chat.default = meter = Meter(good_in([]))
    for odd_or_even in ([], [0], [1]):
        meter.rule = good_in(odd_or_even)
        manifest = batch.run(result_format="json", max_failures=None)
        assert manifest["usage"]["total_tokens"] == meter.tokens
    assert manifest["succeeded"] == 8
    assert batch.errors == []
    assert sum(line["usage"]["total_tokens"] for line in batch.results) == meter.tokens
    assert batch.run(result_format="json")["usage"]["total_tokens"] == meter.tokens
    assert len(batch.chat.requests) == 20


def test_usage_includes_a_failed_row_whose_line_has_it_only_in_the_body(batch):
    batch.texts(1)
    batch.chat.script(replies.ok("not JSON"))
    batch.run(result_format="json", max_failures=None)
    (line,) = batch.errors
    del line["usage"]
    (batch.output / "errors.jsonl").write_text(json.dumps(line) + "\n")
    batch.chat.script(replies.ok("{}"))
    assert batch.run(result_format="json")["usage"]["total_tokens"] == 22


def test_usage_includes_failed_lines_of_the_batch_file_format(batch):
    body = {"model": "m", "messages": [{"role": "user", "content": "row 1"}]}
    batch.write({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body})
    batch.chat.default = meter = Meter(lambda request: "Hel")
    given = {"prompt": None, "response_key": "json", "result_format": "json", "max_failures": None}
    batch.run(**given)
    assert batch.errors[0]["usage"]["total_tokens"] == meter.tokens
    meter.rule = lambda request: "{}"
    manifest = batch.run(**given)
    (line,) = batch.results
    assert manifest["usage"]["total_tokens"] == line["usage"]["total_tokens"] == meter.tokens
    assert line["response"]["body"]["usage"]["total_tokens"] < meter.tokens


def test_usage_includes_attempts_that_were_repeated(batch):
    refused = replies.Reply(500, body=b'{"error": "oops", "usage": {"total_tokens": 5}}')
    batch.texts(1)
    batch.chat.script(refused, refused)
    assert batch.run(max_attempts=3)["usage"]["total_tokens"] == 10 + 11


def test_a_row_whose_batch_ends_between_its_answers_keeps_the_one_that_came(batch):
    batch.texts(2)
    batch.chat.default = lambda request: (
        replies.error(401, "who are you?") if len(request.json["messages"]) > 1 else replies.ok('{"good": "yes"}')
    )
    batch.error(response_schema=Verdict, result_format="json", max_concurrency=1)
    (line,) = batch.errors
    assert line["body"]["choices"][0]["message"]["content"] == '{"good": "yes"}'
    assert line["usage"]["total_tokens"] == 11
    assert batch.pushed["return_value"]["usage"]["total_tokens"] == 11
    batch.chat.default = replies.ok('{"good": true}')
    manifest = batch.run(response_schema=Verdict, result_format="json")
    assert (manifest["succeeded"], manifest["usage"]["total_tokens"]) == (2, 33)
    keys = [request.headers["idempotency-key"] for request in batch.chat.requests]
    assert len(set(keys)) == len(keys)


def test_nested_counts_and_fractions_are_summed(batch):
    usage = {"total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0}, "cost": 0.25}
    batch.texts(4)
    batch.chat.default = replies.ok(usage=usage)
    found = batch.run()["usage"]
    assert (found["total_tokens"], found["cache_read_tokens"], found["cost"]) == (44, 12, 1.0)


@pytest.mark.parametrize(
    "usage",
    [
        {"total_tokens": -5},
        {"total_tokens": True},
        {"total_tokens": "11"},
        {"total_tokens": None},
        {"total_tokens": 10**400},
        {"total_tokens": float("inf")},
        {"total_tokens": [1]},
        {"__classname__": 1, "a\x00": 1, "": 1, "x" * 65: 1, "\ud800": 1},
        {"a": {"b": {"c": 1}}},
        [],
        "11",
        11,
        None,
    ],
)
def test_a_usage_that_is_not_a_count_is_left_out(batch, usage):
    batch.texts(2)
    batch.chat.default = replies.ok(usage=usage)
    for _ in range(2):
        manifest = batch.run(tokens_per_minute=600_000)
        said = manifest["usage"]
        assert said.pop("model") == "test-model"
        assert said.pop("seconds") > 0
        found = {name: value for name, value in said.items() if value is not None}
        assert (manifest["succeeded"], found) == (2, NOTHING | {"requests": 2, "attempts": 2})
    assert len(batch.chat.requests) == 2


def test_a_server_with_new_names_in_each_answer_fills_no_memory():
    total: dict[str, object] = {}
    for answer in range(50):
        add(total, counted({f"name {answer} {n}": {f"{answer} {m}": 1 for m in range(100)} for n in range(100)}))
    assert len(total) == 32
    assert all(isinstance(inner, dict) and len(inner) <= 32 for inner in total.values())


def test_a_sum_stays_within_what_xcom_takes():
    total = {"total_tokens": 2**63 - 5}
    add(total, {"total_tokens": 2**53})
    assert total == {"total_tokens": 2**63 - 1}


def test_a_name_that_is_a_number_and_then_an_object_stays_a_number():
    total = {"a": 1, "b": {"c": 1}}
    add(total, {"a": {"c": 1}, "b": 1})
    assert total == {"a": 1, "b": {"c": 1}}


def test_calls_attempts_and_tool_calls_are_counted_over_all_runs(batch):
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    batch.texts(3)
    batch.chat.script(
        replies.error(404, "no"),
        replies.ok("not JSON"),
        replies.ok('{"a": 1}'),
        replies.status(500),
        replies.ok("not JSON"),
        replies.ok("not JSON"),
    )
    schema = {"type": "object", "required": ["a"]}
    given = {"response_schema": schema, "max_failures": None, "max_concurrency": 1, "max_attempts": 2}
    first = batch.run(**given)["usage"]
    assert (first["requests"], first["attempts"], first["total_tokens"]) == (4, 6, 44)
    assert [line.get("took") for line in batch.errors] == [None, {"requests": 2, "attempts": 3, "tool_calls": 0}]
    assert batch.results[0]["took"] == {"requests": 2, "attempts": 2, "tool_calls": 0}
    batch.chat.script(replies.ok('{"a": 1}', tool_calls=[call, call]), replies.ok('{"a": 1}'))
    second = batch.run(**given)["usage"]
    assert (second["requests"], second["attempts"], second["tool_calls"], second["total_tokens"]) == (6, 8, 2, 66)
    calls = [line.get("took") for line in batch.results]
    assert calls[0] == {"requests": 1, "attempts": 2, "tool_calls": 2}
    assert calls[2] == {"requests": 3, "attempts": 4, "tool_calls": 0}
    third = batch.run(**given)["usage"]
    assert third == second | {"seconds": third["seconds"]}


@pytest.mark.parametrize("wrong", [None, [], {}, {"requests": -1}, {"requests": True, "attempts": 1, "tool_calls": 0}])
def test_counts_that_somebody_has_changed_are_those_of_one_call(batch, wrong):
    batch.texts(1)
    batch.run()
    (line,) = batch.results
    (batch.output / "results.jsonl").write_text(json.dumps({**line, "took": wrong}) + "\n")
    usage = batch.run()["usage"]
    assert (usage["requests"], usage["attempts"], usage["tool_calls"]) == (1, 1, 0)


def test_a_line_that_needs_no_counts_has_none(batch):
    batch.texts(2)
    batch.run()
    assert not any("took" in line for line in batch.results)


def test_the_model_is_the_one_that_answered_all_rows_of_the_run(batch):
    batch.texts(2)
    batch.chat.default = lambda request: replies.ok(model=f"model-{number(request)}")
    assert batch.run()["usage"]["model"] is None
    batch.texts(3)
    manifest = batch.run(on_changed="restart", max_concurrency=1, shard="2:3")
    assert manifest["usage"]["model"] == "model-2"


def test_usage_is_an_xcom_of_its_own_even_if_the_batch_fails(batch):
    batch.texts(2)
    batch.chat.script(replies.error(400, "no"))
    batch.error(max_failures=0, max_concurrency=1)
    assert batch.pushed["usage"] == batch.pushed["return_value"]["usage"]
    assert batch.pushed["usage"]["attempts"] >= 1
    batch.pushed.clear()
    manifest = batch.run()
    assert set(batch.pushed) == {"usage", "progress"}
    assert batch.pushed["usage"] == manifest["usage"]
