"""multiple_outputs makes an XCom of each key of the answer, and overwrites none of the task's own."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, task
from pydantic import BaseModel

from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.errors import InvalidOutput, InvalidRequest
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import replies
from tests.support.asking import ask

pytestmark = pytest.mark.templates


class Letter(BaseModel):
    subject: str
    body: str


class Verdict(BaseModel):
    good: bool


def answer_format(**properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


OURS = ["body", "status", "configuration", "usage", "messages", "arguments", "return_value"]


class TestRefused:
    @pytest.mark.parametrize("result_format", ["raw", "message", "text", "tool_calls"])
    def test_where_the_answer_has_no_keys_of_its_own(self, result_format):
        with pytest.raises(InvalidRequest) as caught:
            ask(prompt="x", multiple_outputs=True, result_format=result_format)
        assert caught.value.path == "multiple_outputs"
        assert repr(result_format) in caught.value.message

    @pytest.mark.parametrize("key", OURS)
    def test_where_a_key_would_overwrite_an_xcom_of_the_task(self, key):
        given = {"prompt": "x", "multiple_outputs": True, "result_format": "json"}
        for name, says in (("response_schema", {"properties": {key: {}}}), ("request", answer_format(**{key: {}}))):
            with pytest.raises(InvalidRequest) as caught:
                ask(**given, **{name: says})
            assert caught.value.path == "multiple_outputs"
            assert repr(key) in caught.value.message

    def test_where_the_answer_s_class_has_such_a_key(self):
        with pytest.raises(InvalidRequest, match="'body'"):
            ask(prompt="x", multiple_outputs=True, result_format="json", response_schema=Letter)

    def test_where_the_answer_is_no_object(self):
        with pytest.raises(InvalidRequest, match="does not describe an object"):
            ask(prompt="x", multiple_outputs=True, result_format="json", response_schema={"type": "array"})

    def test_of_a_decorated_function_called_or_mapped(self):
        @chat_completion(multiple_outputs=True)
        def summarise(text):
            return text

        with DAG("decorated", schedule=None):
            for make in (lambda: summarise("x"), lambda: summarise.expand(text=["x"])):
                with pytest.raises(InvalidRequest) as caught:
                    make()
                assert caught.value.path == "multiple_outputs"

    @pytest.mark.parametrize("given", [{"result_format": "text"}, {"response_schema": {"properties": {"status": {}}}}])
    def test_before_anything_is_sent_where_an_upstream_task_decides(self, airflow, chat, given):
        (name,) = given
        with airflow.dag():

            @task
            def upstream():
                return list(given.values())

            partial = {} if name == "result_format" else {"result_format": "json"}
            ChatCompletionOperator.partial(task_id="ask", prompt="x", multiple_outputs=True, **partial).expand(
                **{name: upstream()}
            )
        assert airflow.run().state == "failed"
        assert airflow.error().path == "multiple_outputs"
        assert chat.requests == []


class TestKept:
    def test_each_key_is_an_xcom(self, airflow, chat):
        chat.script(replies.ok_json({"good": True}))
        with airflow.dag():
            ask(prompt="x", multiple_outputs=True, result_format="json", response_schema=Verdict)
        xcoms = airflow.run().xcoms()
        assert xcoms["good"] is True
        assert xcoms["return_value"] == {"good": True}
        assert xcoms["status"] == 200

    def test_a_key_of_the_task_s_own_stays_and_the_answer_is_whole_in_return_value(self, airflow, chat, capsys):
        answer = {"good": True, "body": "mine", "status": "mine"}
        chat.script(replies.ok_json(answer))
        with airflow.dag():
            ask(prompt="x", multiple_outputs=True, result_format="json")
        run = airflow.run()
        assert run.state == "success"
        xcoms = run.xcoms()
        assert xcoms["good"] is True
        assert xcoms["return_value"] == answer
        assert xcoms["status"] == 200
        assert xcoms["body"]["choices"]
        assert "Read return_value['body']" in capsys.readouterr().out

    @pytest.mark.parametrize("answer", [["a"], "a", 5])
    def test_an_answer_without_keys_is_an_error_that_keeps_what_was_paid_for(self, airflow, chat, answer):
        chat.script(replies.ok_json(answer))
        with airflow.dag():
            ask(prompt="x", multiple_outputs=True, result_format="json")
        run = airflow.run()
        assert run.state == "failed"
        assert isinstance(airflow.error(), InvalidOutput)
        assert "remove multiple_outputs" in airflow.error().message
        assert run.xcoms()["status"] == 200
        assert run.xcoms()["body"]["choices"]
