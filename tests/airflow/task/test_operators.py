"""The operator on a real Airflow: what it sends, what it leaves in XCom, how tasks build on each other."""

import json

import pytest
from airflow.sdk import task

from airflow_chat_provider.errors import TransportError
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import faults, replies
from tests.support.asking import ask, failing, killed, sent


class TestXComs:
    def test_a_task_leaves_body_status_usage_configuration_messages_and_return_value(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Hi")
        run = airflow.run()
        xcoms = run.xcoms()
        assert run.state == "success"
        assert set(xcoms) == {"body", "status", "usage", "configuration", "messages", "return_value"}
        assert xcoms["status"] == 200
        assert xcoms["body"]["choices"][0]["message"]["content"] == "Hello"
        assert xcoms["return_value"] == {"body": xcoms["body"], "status": 200}
        assert xcoms["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
        assert xcoms["configuration"] == {
            "chat_conn_id": "chat_default",
            "model": "test-model",
            "base_url": chat.url,
            "request_schema": "2026-11",
        }

    @pytest.mark.parametrize(
        ("result_format", "expected"),
        [
            ("message", {"role": "assistant", "content": '{"a": [1]}', "refusal": None}),
            ("text", '{"a": [1]}'),
            ("json", {"a": [1]}),
        ],
    )
    def test_result_format_decides_what_the_return_value_is(self, airflow, chat, result_format, expected):
        chat.script(replies.ok('{"a": [1]}'))
        with airflow.dag():
            ask(prompt="Hi", result_format=result_format)
        assert airflow.run().xcoms()["return_value"] == expected

    def test_push_messages_false_leaves_the_conversation_out(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Hi", push_messages=False)
        assert "messages" not in airflow.run().xcoms()

    def test_do_xcom_push_false_pushes_nothing(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Hi", do_xcom_push=False)
        run = airflow.run()
        assert (run.state, run.xcoms()) == ("success", {})

    def test_what_was_received_is_pushed_although_the_task_fails(self, airflow, chat):
        chat.script(replies.error(401, "who are you?", "invalid_api_key"))
        with airflow.dag():
            ask(prompt="Hi")
        run = airflow.run()
        assert run.state == "failed"
        assert set(run.xcoms()) == {"body", "status", "usage"}
        assert run.xcoms()["status"] == 401
        assert run.xcoms()["body"]["error"]["message"] == "who are you?"

    @pytest.mark.parametrize(
        ("reply", "status", "body"),
        [
            (replies.text(200, "<html>login</html>", "text/html"), 200, "<html>login</html>"),
            (replies.status(204), 204, ""),
            (replies.json_reply(200, []), 200, []),
            (replies.json_reply(200, {"choices": []}), 200, {"choices": []}),
            (faults.half_body(b'{"choices": [{"mess'), 200, '{"choices": [{"mess'),
        ],
        ids=["HTML", "nothing", "an array", "no choices", "half a body"],
    )
    def test_a_200_that_is_no_completion_is_pushed_as_it_came_and_the_task_fails(
        self, airflow, chat, reply, status, body
    ):
        chat.script(reply)
        with airflow.dag():
            ask(prompt="Hi", max_attempts=1)
        run = airflow.run()
        assert run.state == "failed"
        xcoms = run.xcoms()
        assert xcoms.pop("usage")["attempts"] == 1
        assert xcoms == {"body": body, "status": status}

    def test_a_reply_that_the_database_would_refuse_is_kept_made_safe(self, airflow, chat):
        text = (
            '{"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", '
            '"content": "a\\u0000b\\ud800c"}}], "score": NaN, "far": -Infinity, "big": 99999999999999999999, '
            '"__classname__": "os.system", "__type": "dict", "__var": {}, "deep": ' + "[" * 100 + "]" * 100 + "}"
        )
        chat.script(replies.text(200, text, "application/json"))
        with airflow.dag():
            ask(prompt="Hi", result_format="text")
        run = airflow.run()
        xcoms = run.xcoms()
        assert run.state == "success"
        assert xcoms["return_value"] == "a\ufffdb\ufffdc"
        assert xcoms["messages"][-1]["content"] == "a\ufffdb\ufffdc"
        assert xcoms["body"]["score"] == "nan"
        assert xcoms["body"]["big"] == "99999999999999999999"
        assert xcoms["body"]["___classname__"] == "os.system"
        assert xcoms["body"]["___var"] == {}

    def test_json_that_the_model_wrote_is_made_safe_too(self, airflow, chat):
        chat.script(replies.ok('{"__classname__": "a.B", "__data__": {"x": 1}}'))
        with airflow.dag():
            ask(prompt="Hi", result_format="json")
        assert airflow.run().xcoms()["return_value"] == {"___classname__": "a.B", "___data__": {"x": 1}}


class TestChaining:
    def test_configuration_and_messages_continue_a_conversation_in_another_task(self, airflow, chat, connect):
        connect(chat.url, conn_id="other")
        chat.script(replies.ok("One"), replies.ok("Two"))
        with airflow.dag():
            first = ask(chat_conn_id="other", model="m-1", system_prompt="Be brief.", prompt="Count")
            ChatCompletionOperator(
                task_id="next",
                configuration=first.output["configuration"],
                messages=first.output["messages"],
                prompt="Go on",
            )
        run = airflow.run()
        assert run.state == "success"
        assert sent(chat)["model"] == "m-1"
        assert [m["content"] for m in sent(chat)["messages"]] == ["Be brief.", "Count", "One", "Go on"]
        assert run.xcoms("next")["configuration"]["chat_conn_id"] == "other"

    def test_a_taskflow_task_reads_body_and_status(self, airflow, chat):
        with airflow.dag():
            first = ask(prompt="Hi")

            @task
            def read(body, status):
                return f"{status} {body['choices'][0]['message']['content']}"

            read(first.output["body"], first.output["status"])
        assert airflow.run().xcoms("read")["return_value"] == "200 Hello"

    def test_a_task_whose_own_connection_and_model_are_given_keeps_them(self, airflow, chat, connect):
        connect(chat.url, conn_id="mine")
        connect("http://127.0.0.1:9/v1", conn_id="upstream")
        with airflow.dag():
            ask(
                chat_conn_id="mine", model="mine", prompt="x", configuration={"chat_conn_id": "upstream", "model": "up"}
            )
        assert airflow.run().state == "success"
        assert sent(chat)["model"] == "mine"

    @pytest.mark.parametrize("field", ["messages", "configuration"])
    def test_an_upstream_that_was_skipped_is_named(self, airflow, chat, field, caplog):
        with airflow.dag():
            first = ask(prompt="Hi")

            @task
            def skip():
                from airflow.sdk.exceptions import AirflowSkipException

                raise AirflowSkipException

            skip() >> first
            ChatCompletionOperator(
                task_id="next", prompt="Go on", trigger_rule="all_done", **{field: first.output[field]}
            )
        run = airflow.run()
        assert run.states()["next"] == "failed"
        assert chat.requests == []

    def test_messages_that_render_to_none_are_named(self, chat):
        failure = failing(ask(messages="{{ none }}", prompt="x"))
        assert failure.path == "messages"
        assert "upstream" in failure.message

    @pytest.mark.parametrize("configuration", ["text", ["chat_default"], 5])
    def test_a_configuration_that_is_no_mapping_is_refused(self, chat, configuration):
        task = ask(prompt="x", configuration="{{ params.configuration }}")
        assert failing(task, {"params": {"configuration": configuration}}).path == "configuration"

    def test_the_base_url_of_a_configuration_is_never_used_only_compared(self, airflow, chat, caplog):
        with airflow.dag():
            ask(prompt="x", configuration={"base_url": "http://127.0.0.1:9/v1"})
        assert airflow.run().state == "success"
        assert "the base URL http://127.0.0.1:9/v1 in configuration is not used" in caplog.text

    @pytest.mark.parametrize("schema", ["2023-12", None, {"type": "object"}])
    def test_the_schema_of_a_configuration_holds_where_the_task_names_none(self, airflow, chat, schema):
        with airflow.dag():
            ask(prompt="x", configuration={"request_schema": schema})
        assert airflow.run().xcoms()["configuration"]["request_schema"] == schema

    def test_a_configuration_with_a_strange_key_is_refused(self, chat):
        task = ask(prompt="x", configuration="{{ params.configuration }}")
        failure = failing(task, {"params": {"configuration": {"modle": "m"}}})
        assert failure.path == "configuration"
        assert "'modle'" in failure.message


def test_on_kill_closes_the_socket_of_a_call_under_way(chat):
    chat.script(faults.hang())
    error = killed(ask(prompt="Hi", max_attempts=3), chat)
    assert isinstance(error, TransportError)
    assert error.sent
    assert len(chat.requests) == 1


def test_a_dag_of_the_operator_survives_serialization(airflow, chat):
    with airflow.dag(params={"t": 1}):
        ask(prompt="{{ params.t }}", request={"temperature": 1}, retries=2)
    assert json.dumps(airflow.run().rendered())
