"""Values of every kind that templates and XCom bring, in the request that is sent; and fields that were left empty."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task

from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator
from tests.support.asking import ask, sent
from tests.support.running import Airflow

pytestmark = pytest.mark.templates

WHEN = datetime(2026, 11, 1, 12, tzinfo=UTC)
ISO = "2026-11-01T12:00:00+00:00"
FORM = {"none": None, "empty": "", "blank": " "}
MACROS = {
    "decimal": Decimal,
    "day": WHEN.date(),
    "path": Path("/data/x"),
}


class TestTypes:
    def test_a_lone_template_of_a_moment_is_iso_8601_wherever_text_is_due(self, airflow, chat):
        with airflow.dag(user_defined_macros=MACROS):
            ask(
                system_prompt="{{ data_interval_end }}",
                prompt="{{ data_interval_end }}",
                request={
                    "messages": [
                        {"role": "user", "content": [{"type": "text", "text": "{{ data_interval_end }}"}]},
                        {"role": "user", "content": "{{ day }}", "name": "{{ ds_nodash }}"},
                    ],
                    "metadata": {"until": "{{ data_interval_end }}", "day": "{{ day }}"},
                    "stop": ["{{ data_interval_end }}", "{{ path }}"],
                    "user": "{{ data_interval_end }}",
                },
            )
        run = airflow.run(logical_date=WHEN)
        assert run.state == "success"
        assert sent(chat) == {
            "model": "test-model",
            "messages": [
                {"role": "system", "content": ISO},
                {"role": "user", "content": [{"type": "text", "text": ISO}]},
                {"role": "user", "content": "2026-11-01", "name": "20261101"},
                {"role": "user", "content": ISO},
            ],
            "metadata": {"until": ISO, "day": "2026-11-01"},
            "stop": [ISO, "/data/x"],
            "user": ISO,
        }

    def test_a_decimal_is_its_digits_where_text_is_due_and_a_number_where_a_number_is(self, airflow, chat):
        with airflow.dag(user_defined_macros=MACROS):

            @task
            def price() -> Decimal:
                return Decimal("19.90")  # of which Airflow's XCom makes 19.9

            ask(
                prompt=price(),
                request={
                    "temperature": "{{ decimal('0.70') }}",
                    "max_tokens": "{{ decimal('100.0') }}",
                    "seed": "{{ decimal('7') }}",
                    "stop": "{{ decimal('1E+2') }}",
                    "metadata": {"price": "{{ ti.xcom_pull('price') }}", "exact": "{{ decimal('19.90') }}"},
                    "logit_bias": {"50256": "{{ decimal('-100') }}"},
                    "tools": [
                        {
                            "type": "function",
                            "function": {
                                "name": "f",
                                "parameters": {
                                    "type": "object",
                                    "properties": {"p": {"maximum": "{{ decimal('2.5') }}"}},
                                },
                            },
                        }
                    ],
                },
            )
        assert airflow.run().state == "success"
        found = sent(chat)
        assert found["messages"] == [{"role": "user", "content": "19.9"}]
        assert found["metadata"] == {"price": "19.9", "exact": "19.90"}
        assert (found["temperature"], found["stop"], found["logit_bias"]) == (0.7, "100", {"50256": -100})
        assert [repr(found[name]) for name in ("max_tokens", "seed")] == ["100", "7"]
        assert found["tools"][0]["function"]["parameters"]["properties"]["p"]["maximum"] == 2.5

    def test_without_a_schema_a_decimal_is_a_number_and_a_moment_is_text(self, airflow, chat):
        with airflow.dag(user_defined_macros=MACROS):
            ask(
                request_schema=None,
                prompt="{{ data_interval_end }}",
                request={"temperature": "{{ decimal('0.70') }}", "max_tokens": "{{ decimal('5') }}"},
            )
        assert airflow.run(logical_date=WHEN).state == "success"
        assert (sent(chat)["temperature"], sent(chat)["max_tokens"]) == (0.7, 5)
        assert sent(chat)["messages"][0]["content"] == ISO

    def test_what_a_function_and_an_upstream_task_return_is_converted(self, airflow, chat):
        with airflow.dag():

            @task
            def upstream() -> dict[str, Any]:
                return {"when": WHEN, "costs": Decimal("0.5"), "stops": ("a", "b")}

            @chat_completion(result_format="text")
            def ask_(found: dict[str, Any]) -> Any:
                return {
                    "messages": [{"role": "user", "content": found["when"]}],
                    "temperature": found["costs"],
                    "stop": found["stops"],
                }

            ask_(upstream())  # type: ignore[arg-type]  # Airflow hands over its value
        assert airflow.run().state == "success"
        assert sent(chat)["messages"] == [{"role": "user", "content": ISO}]
        assert (sent(chat)["temperature"], sent(chat)["stop"]) == (0.5, ["a", "b"])

    def test_a_filter_that_gives_an_iterator_gives_a_list(self, airflow, chat):
        with airflow.dag(params={"words": ["a", "b"]}):
            ask(prompt="Hi", request={"stop": "{{ params.words | map('upper') }}"})
        assert airflow.run().state == "success"
        assert sent(chat)["stop"] == ["A", "B"]

    @pytest.mark.parametrize(
        ("template", "path", "words"),
        [
            ("{{ decimal('NaN') }}", "$.temperature", "is NaN, which JSON cannot hold"),
            ("{{ day }}", "$.temperature", "number"),
            ("{{ decimal }}", "$.temperature", "is a type, which JSON cannot hold"),
            ("{{ [1] | map('abs') | map(attribute='x.y') }}", "$.temperature", "the template fails"),
        ],
    )
    def test_a_value_that_cannot_be_converted_is_named_and_nothing_is_sent(self, airflow, chat, template, path, words):
        with airflow.dag(user_defined_macros=MACROS):
            ask(prompt="Hi", request={"temperature": template})
        assert airflow.run().state == "failed"
        error = airflow.error()
        assert isinstance(error, InvalidRequest)
        assert (error.path, chat.requests) == (path, [])
        assert words in error.message


class TestNotSet:
    def test_an_empty_field_of_a_trigger_form_is_left_out(self, airflow, chat, log):
        with airflow.dag(params=FORM):
            ask(
                prompt="Hi",
                system_prompt="{{ params.none }}",
                model="{{ params.none }}",
                request={
                    "user": "{{ params.none }}",
                    "tools": "{{ params.none }}",
                    "temperature": "{{ params.none }}",
                    "messages": [{"role": "user", "content": "One", "name": "{{ params.none }}"}],
                },
            )
        assert airflow.run().state == "success"
        assert sent(chat) == {
            "model": "test-model",
            "temperature": None,  # null is the schema's own word for not set
            "messages": [{"role": "user", "content": "One"}, {"role": "user", "content": "Hi"}],
        }
        assert log.lines("is not sent, because it is an empty text") == []

    def test_an_empty_text_is_not_set_and_warned_of_once(self, airflow, chat, log):
        with airflow.dag(params=FORM):
            ask(
                prompt="Hi",
                model="{{ params.blank }}",
                request={
                    "model": "{{ params.empty }}",
                    "stop": "{{ params.empty }}",
                    "temperature": "{{ params.blank }}",
                    "reasoning_effort": "{{ params.empty }}",
                },
            )
        assert airflow.run().state == "success"
        assert sent(chat) == {"model": "test-model", "messages": [{"role": "user", "content": "Hi"}]}
        lines = log.lines("is not sent, because it is an empty text")
        for name in "model", "$.model", "$.stop", "$.temperature", "$.reasoning_effort":
            assert len([line for line in lines if f" {name} is not sent" in line]) == 1

    def test_an_empty_model_leaves_the_one_of_the_request(self, airflow, chat):
        with airflow.dag(params=FORM):
            ask(prompt="Hi", model="{{ params.empty }}", request={"model": "mine"})
        assert airflow.run().state == "success"
        assert sent(chat)["model"] == "mine"

    @pytest.mark.parametrize("value", ["none", "empty"])
    def test_a_field_that_is_needed_is_still_missed(self, airflow, server, connect, value):
        connect(server.url)
        with airflow.dag(params=FORM):
            ask(prompt="Hi", model="{{ params." + value + " }}")
            ChatCompletionOperator(task_id="prompt", prompt="{{ params.none }}", system_prompt="Be brief")
        assert airflow.run().state == "failed"
        assert (airflow.error().path, airflow.error("prompt").path) == ("$.model", "prompt")
        assert server.requests == []

    def test_what_the_author_writes_himself_is_checked_when_the_dag_is_parsed(self):
        for wrong in {"temperature": ""}, {"tools": ""}, {"messages": None}:
            with pytest.raises(InvalidRequest) as caught:
                ask(request={"messages": [{"role": "user", "content": "Hi"}], **wrong})
            assert caught.value.path == "$." + next(iter(wrong))


class TestRows:
    """A batch, whose rows have types of their own; the cells of a CSV file are texts, and may be empty."""

    @pytest.fixture
    def airflow(self, run_dag):
        return Airflow(run_dag)

    def test_an_empty_cell_is_not_set_and_warned_of_once(self, airflow, chat, log, tmp_path):
        with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(
                [("text", "t", "model"), ("one", "0.5", "m1"), ("two", "", ""), ("three", "", "")]
            )
        with airflow.dag():
            ChatCompletionBatchOperator(
                task_id="ask",
                input=str(tmp_path / "rows.csv"),
                output=str(tmp_path / "out"),
                prompt="{{ row.text }}",
                model="{{ row.model }}",
                request={"temperature": "{{ row.t }}", "stop": "{{ row.t }}"},
            )
        assert airflow.run().state == "success"
        found = {request.json["messages"][0]["content"]: request.json for request in chat.requests}
        assert (found["one"]["temperature"], found["one"]["stop"], found["one"]["model"]) == (0.5, "0.5", "m1")
        for text in "two", "three":
            assert found[text].keys() == {"messages", "model"}
            assert found[text]["model"] == "test-model"
        for name in "model", "$.temperature", "$.stop":
            assert len(log.lines(f" {name} is not sent")) == 1

    def test_values_of_rows_and_of_the_run_are_converted(self, airflow, chat, tmp_path):
        rows = [{"when": WHEN, "t": Decimal("0.5"), "user": None}, {"when": "now", "t": None, "user": "u"}]
        with airflow.dag(params={"words": ["a", "b"], "none": None}):
            ChatCompletionBatchOperator(
                task_id="ask",
                input=rows,
                output=str(tmp_path / "out"),
                prompt="{{ row.when }}",
                model="{{ params.none }}",
                request={
                    "temperature": "{{ row.t }}",
                    "user": "{{ row.user }}",
                    "stop": "{{ params.words | map('upper') }}",
                    "metadata": {"until": "{{ data_interval_end }}"},
                },
                keep_row=False,
            )
        assert airflow.run(logical_date=WHEN).state == "success"
        found = {request.json["messages"][0]["content"]: request.json for request in chat.requests}
        assert (found[ISO]["temperature"], found["now"]["temperature"]) == (0.5, None)
        assert ("user" in found[ISO], found["now"]["user"]) == (False, "u")
        for request in found.values():
            assert (request["stop"], request["metadata"]) == (["A", "B"], {"until": ISO})

    def test_a_row_without_its_prompt_is_not_sent(self, airflow, chat, tmp_path):
        with airflow.dag():
            ChatCompletionBatchOperator(
                task_id="ask",
                input=[{"text": None}, {"text": "Hi"}],
                output=str(tmp_path / "out"),
                prompt="{{ row.text }}",
                system_prompt="Be brief",
                max_failures=None,
            )
        assert airflow.run().state == "success"
        (request,) = chat.requests
        assert request.json["messages"][-1]["content"] == "Hi"
        (line,) = (tmp_path / "out" / "errors.jsonl").read_text("utf-8").splitlines()
        assert "prompt: its template gave None" in json.loads(line)["error"]["message"]
