"""A request that other servers take and OpenAI does not: its DAG can be imported, and it is sent as it was written."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task

from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator
from airflow_chat_provider.task import parse_checks
from airflow_chat_provider.testing import ChatServer
from tests.support import cases
from tests.support.asking import ask, sent
from tests.support.calling import Log
from tests.support.running import import_errors, load_dags

USER = {"role": "user", "content": "Hi"}
REPORTED: dict[str, dict[str, Any]] = {
    case["id"]: {"model": "m", "messages": [USER], **case["input"]}
    for case in cases("server_replies.jsonl")
    if case["id"] in ("D01", "D02", "D04", "D06", "D07", "D09", "D10", "D11", "D20", "D21", "D23", "D25")
}
CLOSED = ("D07", "D10", "D20")
OPEN = tuple(name for name in REPORTED if name not in CLOSED)
ELSEWHERE = list(dict.fromkeys(request.pop("base_url") for request in REPORTED.values()))
NULLS: dict[str, Any] = {"tools": None, "user": None, "response_format": None}
DUMPED = {"role": "assistant", "content": "a", "tool_calls": None, "function_call": None, "annotations": None}


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Log:
    parse_checks._TOLD.clear()
    return Log(capsys, caplog)


def dag_file(folder: Path, requests: dict[str, Any], **arguments: Any) -> Path:
    """A DAG file with a task for each request."""
    path = folder / "dags.py"
    path.write_text(
        f"""
from airflow.sdk import DAG
from airflow_chat_provider.operators import ChatCompletionOperator

with DAG("reported", schedule=None):
    for name, request in {requests!r}.items():
        ChatCompletionOperator(task_id=name, request=request, **{arguments!r})
        ChatCompletionOperator.partial(task_id=name + "_mapped", request=request, **{arguments!r}).expand(model=["m"])
""",
        "utf-8",
    )
    return path


@pytest.mark.parametrize("name", OPEN)
def test_a_dag_with_what_openai_does_not_know_is_imported_with_a_warning(
    tmp_path: Path, log: Log, airflow_db: None, name: str
) -> None:
    assert load_dags(dag_file(tmp_path, {name: REPORTED[name]}))["reported"].has_task(f"{name}_mapped")
    (line,) = log.lines("which OpenAI") or log.lines("but OpenAI")
    assert f"Task '{name}': $." in line


def test_a_dag_with_the_nulls_of_a_message_that_a_client_library_dumped_is_imported(
    tmp_path: Path, airflow_db: None, log: Log
) -> None:
    request = {"model": "m", **NULLS, "messages": [USER, DUMPED, USER]}
    assert load_dags(dag_file(tmp_path, {"ask": request}))
    assert len(log.lines("is null, but OpenAI's schema allows no null here")) == 4


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_place_breaks_the_import_and_the_error_names_the_way_out(
    tmp_path: Path, airflow_db: None, name: str
) -> None:
    (error,) = import_errors(dag_file(tmp_path, {name: REPORTED[name]})).values()
    assert f"Task '{name}': Correct the request: $" in error
    assert "request_schema='open' sends it as it is" in error


@pytest.mark.parametrize("name", REPORTED)
def test_the_way_out_that_the_error_names_leads_out(tmp_path: Path, airflow_db: None, name: str) -> None:
    assert load_dags(dag_file(tmp_path, {name: REPORTED[name]}, request_schema="open"))
    assert load_dags(dag_file(tmp_path, {name: REPORTED[name]}, request_schema=None))


def test_a_message_without_a_role_breaks_the_import_of_an_open_one_too(tmp_path: Path, airflow_db: None) -> None:
    request = {"model": "m", "messages": [{"content": "Hi"}]}
    (error,) = import_errors(dag_file(tmp_path, {"ask": request}, request_schema="open")).values()
    assert "Correct the request: $.messages[0]: 'role' is missing; nothing was sent" in error


class TestSent:
    """To a server that is not OpenAI's."""

    def test_it_is_sent_as_it_was_written_and_told_once(self, airflow, chat, log):
        with airflow.dag():
            for name in OPEN:
                ChatCompletionOperator(task_id=name, request={**REPORTED[name], "model": name})
        assert airflow.run().state == "success"
        assert {request.json["model"]: request.json for request in chat.requests} == {
            name: {**REPORTED[name], "model": name} for name in OPEN
        }
        told = [line for line in log.lines("it is sent unchanged") if "Task '" not in line]
        assert len(told) == len(OPEN)

    @pytest.mark.parametrize("name", REPORTED)
    def test_what_openai_does_not_know_is_sent_where_the_schema_is_open(self, airflow, chat, log, name):
        with airflow.dag():
            ask(request=REPORTED[name], request_schema="open")
        run = airflow.run()
        assert run.state == "success"
        assert sent(chat) == REPORTED[name]
        assert run.xcoms()["configuration"]["request_schema"] == "open"

    def test_what_openai_does_not_know_is_sent_where_the_connection_s_schema_is_open(self, airflow, chat, connect):
        connect(chat.url, extra={"request_schema": "open", "model": "m"})
        with airflow.dag():
            ask(prompt="Hi", request={"stop": "{{ ['a', 'b', 'c', 'd', 'e'] }}"})
        run = airflow.run()
        assert run.state == "success"
        assert sent(chat)["stop"] == list("abcde")
        assert run.xcoms()["configuration"]["request_schema"] == "open"

    def test_what_openai_does_not_know_is_sent_where_upstream_s_schema_is_open(self, airflow, chat):
        with airflow.dag():
            first = ask(prompt="Hi", request_schema="open")
            ChatCompletionOperator(
                task_id="then",
                prompt="Hi",
                request={"logprobs": "{{ 1 }}"},
                configuration=first.output["configuration"],
            )
        run = airflow.run()
        assert run.state == "success"
        assert sent(chat)["logprobs"] == 1
        assert run.xcoms("then")["configuration"]["request_schema"] == "open"

    def test_what_openai_does_not_know_is_sent_where_a_template_says_open(self, airflow, chat):
        with airflow.dag(params={"schema": "open"}):
            ask(prompt="Hi", request={"stop": list("abcde")}, request_schema="{{ params.schema }}")
        assert airflow.run().state == "success"
        assert sent(chat)["stop"] == list("abcde")

    def test_a_decorated_function_may_be_open_too(self, airflow, chat):
        with airflow.dag():

            @chat_completion(task_id="ask", request_schema="open")
            def five():
                return {"messages": [USER], "stop": list("abcde")}

            five()
        assert airflow.run().state == "success"
        assert sent(chat)["stop"] == list("abcde")

    def test_a_null_that_was_written_is_sent_and_one_that_a_template_gave_is_left_out(self, airflow, chat, log):
        with airflow.dag(params={"none": None}):
            ask(
                request={**NULLS, "tool_choice": "{{ params.none }}", "temperature": "{{ params.none }}"},
                messages=[USER, {**DUMPED, "name": "{{ params.none }}"}],
                system_prompt="Be brief",
                prompt="And?",
            )
        assert airflow.run().state == "success"
        assert sent(chat) == {
            "model": "test-model",
            **NULLS,
            "temperature": None,
            "messages": [
                {"role": "system", "content": "Be brief"},
                USER,
                DUMPED,
                {"role": "user", "content": "And?"},
            ],
        }
        lines = [line for line in log.lines("is null, but") if "Task '" not in line]
        assert len(lines) == 4

    @pytest.mark.parametrize("source", [json.dumps, lambda request: request], ids=["text", "dict"])
    def test_a_null_in_the_text_of_a_request_is_sent_and_one_of_a_template_left_out(self, airflow, chat, source):
        request = {"user": None, "messages": [{**USER, "name": None}], "tools": "{{ None }}"}
        with airflow.dag():
            ask(request=source(request))
            ChatCompletionOperator.partial(task_id="mapped", request=source(request)).expand(model=["a"])
        assert airflow.run().state == "success"
        for index in range(2):
            assert sent(chat, index)["messages"] == [{**USER, "name": None}]
            assert sent(chat, index).get("user", "left out") is None
            assert "tools" not in sent(chat, index)

    def test_a_null_that_an_upstream_task_left_is_left_out(self, airflow, chat):
        with airflow.dag():

            @task
            def conversation():
                return [USER, DUMPED, USER]

            ask(messages=conversation(), request={"user": None})
        assert airflow.run().state == "success"
        assert "tool_calls" not in sent(chat)["messages"][1]
        assert sent(chat)["user"] is None

    def test_a_null_that_is_set_before_the_task_runs_is_left_out(self, airflow, chat):
        with airflow.dag():
            ask(
                prompt="Hi",
                pre_execute=lambda context: setattr(context["task"], "request", {"messages": [USER], "user": None}),
            )
        assert airflow.run().state == "success"
        assert "user" not in sent(chat)


class TestOpenAI:
    """Whose server refuses it: nothing is sent there."""

    @pytest.mark.parametrize("host", ["https://api.openai.com/v1", "https://mine.openai.azure.com/openai/v1"])
    def test_what_openai_does_not_know_fails_the_task_before_it_is_sent(self, airflow, connect, server, host):
        connect(host)
        with airflow.dag():
            ask(request=REPORTED["D01"], retries=2)
        run = airflow.run()
        assert (run.state, run.tries()) == ("failed", 1)
        error = airflow.error()
        assert isinstance(error, InvalidRequest)
        assert (error.path, error.keyword) == ("$.service_tier", "enum")

    @pytest.mark.parametrize("base_url", ELSEWHERE)
    def test_the_hook_knows_its_server_by_the_base_url(self, connect, base_url):
        thoughts = {"D11"}  # a reply's part, which is left out on the way to a server that refuses it
        connect(base_url)
        for name in {*OPEN} - (thoughts if "groq" in base_url else set()):
            with _hook() as hook:
                assert hook.session.prepare(REPORTED[name], "2026-11") == REPORTED[name]
        connect("https://api.openai.com/v1")
        for name in {*OPEN} - thoughts:
            with _hook() as hook, pytest.raises(InvalidRequest):
                hook.session.prepare(REPORTED[name], "2026-11")
            with _hook() as hook:
                assert hook.session.prepare({**REPORTED[name], "store": True}, "open") == {
                    **REPORTED[name],
                    "store": True,
                }


def _hook() -> Any:
    return contextlib.closing(ChatCompletionHook())


class TestRows:
    """A batch."""

    def test_what_rows_have_in_common_is_told_once_for_the_batch(self, batch, log):
        content = [{"type": "text", "text": "{{ row.text }}"}]
        videos = [{"type": "video_url", "video_url": {"url": "{{ row.url }}"}}] * 3
        batch.write(*({"text": f"row {index}", "url": f"https://example.com/{index}"} for index in range(30)))
        batch.run(prompt=None, request={"messages": [{"role": "user", "content": content + videos}]})
        assert len(batch.chat.requests) == 30
        assert len(log.lines("logged only once for this batch")) == 1

    def test_what_lines_of_the_batch_file_format_have_in_common_is_told_once(self, batch, log):
        def line(index: int) -> dict[str, Any]:
            before = [USER] * index
            part = {"type": ("video_url", "audio_url", "input_video")[index % 3]}
            body = {"model": "m", "messages": [*before, {"role": "user", "content": [part] * (1 + index)}]}
            return {"custom_id": str(index), "method": "POST", "url": "/v1/chat/completions", "body": body}

        batch.write(*map(line, range(9)))
        batch.run(prompt=None)
        assert len(batch.chat.requests) == 9
        assert len(log.lines("logged only once for this batch")) == 1

    def test_a_null_that_was_written_is_sent_and_one_of_a_row_is_left_out(self, batch):
        batch.write({"text": "a", "user": None, "tools": None})
        batch.run(request={"user": None, "tools": "{{ row.tools }}", "functions": "{{ None }}"})
        assert batch.chat.requests[0].json == {
            "model": "test-model",
            "user": None,
            "messages": [{"role": "user", "content": "a"}],
        }

    def test_a_batch_may_be_open(self, batch):
        batch.texts(2)
        with pytest.raises(InvalidRequest, match="request_schema='open'"):
            batch.task(request={"stop": list("abcde")})
        batch.run(request={"stop": list("abcde")}, request_schema="open")
        assert [request.json["stop"] for request in batch.chat.requests] == [list("abcde")] * 2

    @pytest.fixture
    def batch(self, tmp_path: Path, chat: ChatServer) -> Any:
        from tests.support.batching import Batch

        return Batch(tmp_path, chat)


def test_the_form_of_the_connection_says_what_open_is() -> None:
    from airflow_chat_provider.provider_info import get_provider_info

    assert "open (only what every server refuses is an error)" in str(get_provider_info())


def test_the_name_of_a_schema_that_does_not_exist_tells_those_that_do() -> None:
    with pytest.raises(InvalidRequest, match="use '2023-12', '2026-11', 'open', a dict"):
        ChatCompletionBatchOperator(task_id="ask", input="a.jsonl", output="b", prompt="x", request_schema="opne")
