"""TaskFlow: a function's value is asked for, and is data."""

import inspect

import pytest
from airflow.sdk import DAG, task
from pydantic import BaseModel

from airflow_chat_provider.decorators import Arguments, BranchArguments, chat_completion, chat_completion_branch
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBranchOperator, ChatCompletionOperator
from airflow_chat_provider.testing import replies
from tests.support.asking import sent


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [(ChatCompletionOperator, Arguments), (ChatCompletionBranchOperator, BranchArguments)],
)
def test_the_types_know_every_argument_of_the_operator(operator, arguments):
    named = {
        name
        for cls in operator.__mro__[:3]
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert "prompt" in named
    assert named & inspect.signature(ChatCompletionOperator).parameters.keys() <= arguments.__annotations__.keys()
    assert ("branches" in named) == ("branches" in arguments.__annotations__)


class TestFunctions:
    def test_a_text_is_the_prompt_and_never_rendered(self, airflow, chat):
        with airflow.dag():

            @task.chat_completion(result_format="text", system_prompt="Run {{ run_id }}")
            def ask():
                return "{{ var.value.SECRET }}"

            ask()
        run = airflow.run()
        assert run.xcoms()["return_value"] == "Hello"
        system, user = sent(chat)["messages"]
        assert user["content"] == "{{ var.value.SECRET }}"
        assert system["content"].startswith("Run manual__")

    def test_a_list_is_the_messages_and_a_dict_the_request(self, airflow, chat):
        messages = [{"role": "user", "content": "{{ a }}"}]
        with airflow.dag():

            @chat_completion(task_id="ask", request={"temperature": "{{ 0.5 }}"}, model="of-decorator")
            def listed():
                return messages

            @chat_completion(request={"temperature": 0.5, "seed": 1})
            def whole():
                return {"messages": messages, "temperature": 0.25}

            listed() >> whole()
        assert airflow.run().state == "success"
        assert sent(chat, 0) == {"temperature": 0.5, "model": "of-decorator", "messages": messages}
        assert sent(chat, 1) == {"temperature": 0.25, "seed": 1, "model": "test-model", "messages": messages}

    def test_it_takes_arguments_and_what_it_names_of_the_context(self, airflow, chat):
        with airflow.dag():

            @task
            def upstream():
                return "{{ data }}"

            @task.chat_completion
            def ask(text, times, run_id=None, **context):
                return f"{text} {times} {run_id == context['dag_run'].run_id}"

            ask(upstream(), times=2)
        assert airflow.run().state == "success"
        assert sent(chat)["messages"][0]["content"] == "{{ data }} 2 True"

    def test_it_maps(self, airflow, chat):
        with airflow.dag():

            @task
            def upstream():
                return ["a", "{{ b }}"]

            @chat_completion(result_format="text", system_prompt="Short.")
            def ask(text):
                return text

            ask.expand(text=upstream())
        run = airflow.run()
        assert run.state == "success"
        assert [request.json["messages"][0]["content"] for request in chat.requests] == ["Short.", "Short."]
        assert sorted(request.json["messages"][1]["content"] for request in chat.requests) == ["a", "{{ b }}"]
        assert run.xcoms(map_index=0)["return_value"] == "Hello"

    def test_every_argument_of_the_operator_is_taken(self, airflow, chat):
        class Verdict(BaseModel):
            good: bool

        chat.script(replies.ok('{"good": 1}'), replies.ok('{"good": true}'))
        with airflow.dag():

            @chat_completion(response_schema=Verdict, result_format="json", push_messages=False)
            def ask():
                return "Judge"

            ask()
        xcoms = airflow.run().xcoms()
        assert xcoms["return_value"] == {"good": True}
        assert "messages" not in xcoms

    def test_a_class_for_the_answers_of_mapped_tasks(self, airflow, chat):
        class Verdict(BaseModel):
            good: bool

        chat.default = replies.ok('{"good": true}')
        with airflow.dag():

            @chat_completion(response_schema=Verdict, result_format="json")
            def ask(text):
                return text

            ask.expand(text=["a", "b"])
        assert airflow.run().xcoms(map_index=1)["return_value"] == {"good": True}

    @pytest.mark.parametrize(("value", "kind"), [(None, "None"), (7, "an int"), (b"x", "a bytes")])
    def test_any_other_value_is_told(self, airflow, chat, capfd, value, kind):
        with airflow.dag():

            @task.chat_completion
            def ask():
                return value

            ask()
        assert airflow.run().state == "failed"
        assert f"or a request (a dict), not {kind}" in "".join(capfd.readouterr())
        assert chat.requests == []

    def test_a_wrong_argument_breaks_the_import(self):
        @chat_completion(request={"tempreture": 1})
        def ask():
            return "Hi"

        with DAG("wrong", schedule=None), pytest.raises(InvalidRequest, match="tempreture"):
            ask()

    def test_a_template_of_the_decorator_that_fails_is_told_before_the_function_runs(self, airflow, chat, capfd):
        ran = []
        with airflow.dag():

            @chat_completion(system_prompt="{{ nothing.here }}")
            def ask():
                ran.append(1)
                return "Hi"

            ask()
        assert airflow.run().state == "failed"
        assert "system_prompt" in "".join(capfd.readouterr())
        assert not ran


def test_a_branch_is_chosen_for_what_the_function_returns(airflow, chat):
    chat.script(replies.ok('{"branch": "refund"}'))
    with airflow.dag():

        @chat_completion_branch(branches={"refund": "money back", "forward": "all else"})
        def ask(letter):
            return letter

        @task
        def refund():
            return 1

        @task
        def forward():
            return 2

        ask("a letter") >> [refund(), forward()]
    run = airflow.run()
    assert (run.states()["refund"], run.states()["forward"]) == ("success", "skipped")
    assert sent(chat)["messages"][-1]["content"] == "a letter"
