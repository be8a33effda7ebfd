"""Answers that are hard to look at, and schemas that would only be found wrong once an answer is paid for."""

import json

import pytest

from airflow_chat_provider.errors import InvalidOutput, InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBranchOperator, ChatCompletionOperator
from airflow_chat_provider.testing import replies
from tests.support.asking import ask

# The classic slip: the definitions are under $defs.
SLIP = {"$defs": {"City": {"type": "string"}}, "properties": {"city": {"$ref": "#/definitions/City"}}, "type": "object"}
SAYS = "did you mean '#/$defs/City'"
TREE = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
DEEP = '{"children": [' * 400 + "]}" * 400
TRAP, TRAPPED = "^(a+)+$", "a" * 5000 + "!"


def tool(parameters):
    return {"type": "function", "function": {"name": "weather", "parameters": parameters}}


def calling(arguments, name="weather"):
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return replies.ok(None, finish_reason="tool_calls", tool_calls=[call])


class TestSchemas:
    @pytest.mark.parametrize(
        "arguments",
        [
            {"response_schema": SLIP},
            {"request_schema": SLIP},
            {"request": {"tools": [tool(SLIP)]}, "result_format": "tool_calls"},
            {"request": {"functions": [tool(SLIP)["function"]]}, "result_format": "tool_calls"},
            {"request": json.dumps({"tools": [tool(SLIP)]}), "result_format": "tool_calls"},
            {
                "request": {"tools": ["{{ params.t }}", tool(SLIP)]},
                "result_format": "tool_calls",
                "request_schema": "{{ params.s }}",
            },
        ],
        ids=["answer", "request", "tool", "function", "text", "beside templates"],
    )
    def test_a_reference_that_leads_nowhere_breaks_the_import(self, airflow, arguments):
        with airflow.dag():
            for make in (ChatCompletionOperator, ChatCompletionOperator.partial):
                with pytest.raises(InvalidRequest, match="did you mean") as caught:
                    make(task_id="ask", prompt="Hi", **arguments)
                assert SAYS in caught.value.message

    def test_a_reference_of_a_branch_that_leads_nowhere_breaks_the_import(self, airflow):
        branches = {"refund": {"description": "money back", "parameters": SLIP}}
        with airflow.dag(), pytest.raises(InvalidRequest, match="did you mean"):
            ChatCompletionBranchOperator(task_id="ask", prompt="Hi", branches=branches, choose_by="tool")

    def test_tools_whose_calls_are_not_checked_here_are_the_server_s_business(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Hi", request={"tools": [tool(SLIP)]})
        assert airflow.run().state == "success"

    def test_one_that_a_template_brings_fails_before_anything_is_sent(self, airflow, chat):
        with airflow.dag(params={"tools": [tool(SLIP)]}):
            ask(prompt="Hi", request={"tools": "{{ params.tools }}"}, result_format="tool_calls")
        assert airflow.run().state == "failed"
        assert isinstance(airflow.error(), InvalidRequest)
        assert SAYS in airflow.error().message
        assert chat.requests == []

    @pytest.mark.parametrize("pattern", ["^(?!x)", r"(a)\1"])
    def test_a_pattern_that_backtracks_by_its_nature_breaks_the_import(self, airflow, pattern):
        with airflow.dag(), pytest.raises(InvalidRequest, match="leave out look-around, back-references"):
            ask(prompt="Hi", response_schema={"properties": {"a": {"pattern": pattern}}})


class TestAnswers:
    def test_one_that_is_too_deep_to_be_checked_fails_the_task_and_is_kept(self, airflow, chat):
        chat.default = replies.ok(DEEP)
        with airflow.dag():
            ask(prompt="Grow", response_schema=TREE, result_format="json")
        run, error = airflow.run(), airflow.error()
        assert isinstance(error, InvalidOutput)
        assert "nested too deep" in error.message
        assert len(chat.requests) == 2
        assert run.xcoms()["status"] == 200
        assert run.xcoms()["body"]["choices"][0]["message"]["content"] == DEEP

    def test_arguments_of_a_tool_that_are_too_deep_to_be_checked_fail_the_task_and_are_kept(self, airflow, chat):
        chat.default = calling(DEEP)
        with airflow.dag():
            ask(prompt="Grow", request={"tools": [tool(TREE)]}, result_format="tool_calls", output_retries=0)
        run = airflow.run()
        assert isinstance(airflow.error(), InvalidOutput)
        assert run.xcoms()["status"] == 200

    def test_one_that_a_pattern_would_hold_up_is_asked_for_again(self, airflow, chat):
        chat.script(replies.ok(json.dumps({"name": TRAPPED})), replies.ok('{"name": "aa"}'))
        schema = {"type": "object", "properties": {"name": {"type": "string", "pattern": TRAP}}}
        with airflow.dag():
            ask(prompt="Name", response_schema=schema, result_format="json")
        assert airflow.run().xcoms()["return_value"] == {"name": "aa"}

    def test_a_mistake_of_ours_fails_the_task_and_the_answer_is_kept(self, airflow, chat, monkeypatch):
        def broken(*_, **__):
            raise KeyError("Jane Doe")

        monkeypatch.setattr("airflow_chat_provider.core.answer.dialogue.read_json", broken)
        chat.default = replies.ok("{}")
        with airflow.dag():
            ask(prompt="Judge", response_schema=TREE)
        run, error = airflow.run(), airflow.error()
        assert isinstance(error, InvalidOutput)
        assert "could not be read (KeyError)" in error.message
        assert run.xcoms()["body"]["choices"][0]["message"]["content"] == "{}"


def test_neither_a_log_nor_an_error_quotes_an_answer(airflow, chat, capfd, caplog):
    answer = json.dumps({"age": 4111111111111111, "Jane Doe has cancer": {"x": "kestrel"}})
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "maximum": 10}},
        "additionalProperties": {"additionalProperties": {"type": "null"}},
    }
    chat.default = lambda request: (
        replies.ok(answer) if "response_format" in request.json else calling(answer, "burn Jane Doe")
    )
    with airflow.dag():
        ask(prompt="Judge", response_schema=schema, do_xcom_push=False)
        request = {"tools": [tool(schema)]}
        ChatCompletionOperator(
            task_id="call", prompt="Judge", request=request, result_format="tool_calls", do_xcom_push=False
        )
    airflow.run()
    assert len(chat.requests) == 4
    assert "$.<a key that the schema does not name>.<a key that the schema does not name>: must be null" in str(
        airflow.error()
    )
    written = capfd.readouterr()
    for text in (written.out, written.err, caplog.text):
        assert not [part for part in ("4111111111", "Jane", "kestrel") if part in text]
