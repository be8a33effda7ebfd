"""What pre_execute, a callback or a subclass's execute() sets after rendering is sent, and is data."""

import copy
import json
from typing import Any

import pytest
from airflow.sdk import task

from airflow_chat_provider.operators import ChatCompletionBranchOperator, ChatCompletionOperator
from airflow_chat_provider.testing import replies
from tests.support.asking import ask, sent, setting, system, user

pytestmark = pytest.mark.templates

EVIL = "{{ var.value.SECRET }} {% if %}"


ARGUMENTS: dict[str, Any] = {
    "request": {"temperature": "{{ 0.5 }}", "messages": [user("{{ 1 }}")]},
    "prompt": "{{ 2 }}",
    "system_prompt": "{{ 3 }}",
    "model": "{{ 'm' }}",
}
RENDERED: dict[str, Any] = {"temperature": 0.5, "messages": [system("3"), user("1"), user("2")], "model": "m"}
CASES = [
    ({}, {}),
    ({"prompt": EVIL}, {"messages": [system("3"), user("1"), user(EVIL)]}),
    ({"prompt": None}, {"messages": [system("3"), user("1")]}),
    ({"system_prompt": EVIL}, {"messages": [system(EVIL), user("1"), user("2")]}),
    ({"model": "other"}, {"model": "other"}),
    ({"model": None}, {"model": "test-model"}),
    ({"messages": [user(EVIL)]}, {"messages": [system("3"), user(EVIL), user("2")]}),
    ({"messages": [user(EVIL)], "prompt": None}, {"messages": [system("3"), user(EVIL)]}),
    ({"request": {"messages": [user(EVIL)], "model": "other"}}, {"messages": [user(EVIL)], "model": "other"}),
    ({"request": {"messages": [user(EVIL)]}, "prompt": "a"}, {"messages": [user(EVIL), user("a")]}),
    ({"request": {"seed": "7"}}, {"seed": 7, "messages": [system("3"), user("2")]}),
    (
        {"request": json.dumps({"messages": [user(EVIL)]}), "model": "other"},
        {"messages": [user(EVIL)], "model": "other"},
    ),
]


@pytest.mark.parametrize(("values", "expected"), CASES)
def test_pre_execute(airflow, chat, values, expected):
    with airflow.dag():
        ask(**ARGUMENTS, pre_execute=setting(**values))
    assert airflow.run().state == "success"
    rest = {} if "request" in values else RENDERED
    assert sent(chat) == {**rest, "model": "m", **expected}
    assert len(chat.requests) == 1


@pytest.mark.parametrize(("values", "expected"), CASES[1:7])
def test_execute_of_a_subclass(airflow, chat, values, expected):
    class Mine(ChatCompletionOperator):
        def execute(self, context):
            setting(**values)({"task": self})
            return super().execute(context)

    with airflow.dag():
        Mine(task_id="ask", **ARGUMENTS)
        others = {name: value for name, value in ARGUMENTS.items() if name != "prompt"}
        Mine.partial(task_id="mapped", **others).expand(prompt=["{{ 2 }}"])
    assert airflow.run().state == "success"
    assert [request.json for request in chat.requests] == [{**RENDERED, **expected}] * 2


def test_a_callback(airflow, chat):
    with airflow.dag():
        ask(**ARGUMENTS, on_execute_callback=setting(prompt=EVIL))
    assert airflow.run().state == "success"
    assert sent(chat)["messages"] == [system("3"), user("1"), user(EVIL)]


class TestMutation:
    """What is changed inside of an argument counts like what is set."""

    @pytest.mark.parametrize(
        "change",
        [
            lambda request: request.update(temperature=0.25),
            lambda request: request["messages"].append(user(EVIL)),
            lambda request: request["messages"][1].update(content=EVIL),
            lambda request: request.pop("temperature"),
            lambda request: request["stop"].pop(),
        ],
    )
    def test_of_the_request_that_is_shown(self, airflow, chat, change):
        with airflow.dag():
            ask(
                **{**ARGUMENTS, "request": {**ARGUMENTS["request"], "stop": ["a", "b"]}},
                pre_execute=lambda context: change(context["task"].request),
            )
        assert airflow.run().state == "success"
        expected = copy.deepcopy({**RENDERED, "stop": ["a", "b"]})
        change(expected)
        assert sent(chat) == expected

    def test_of_the_request_together_with_a_prompt(self, airflow, chat):
        def change(context):
            context["task"].request["temperature"] = 0.25
            context["task"].prompt = EVIL

        with airflow.dag():
            ask(**ARGUMENTS, pre_execute=change)
        assert airflow.run().state == "success"
        assert sent(chat) == {**RENDERED, "temperature": 0.25, "messages": [system("3"), user("1"), user(EVIL)]}

    def test_of_the_messages(self, airflow, chat):
        with airflow.dag():
            ask(
                messages=[user("{{ 1 }}")],
                prompt="{{ 2 }}",
                pre_execute=lambda context: context["task"].messages.append(user(EVIL)),
            )
        assert airflow.run().state == "success"
        assert sent(chat)["messages"] == [user("1"), user(EVIL), user("2")]

    def test_of_messages_that_the_request_shares(self, airflow, chat):
        with airflow.dag():
            ask(
                messages=[user("{{ 1 }}")],
                prompt="{{ 2 }}",
                pre_execute=lambda context: context["task"].messages[0].update(content=EVIL),
            )
        assert airflow.run().state == "success"
        assert sent(chat)["messages"] == [user(EVIL), user("2")]


class TestErrors:
    def test_a_field_whose_template_failed_may_be_set(self, airflow, chat):
        with airflow.dag():

            @task
            def nothing():
                return None

            ask(prompt="{{ var.value.NOT_THERE }}", model="{{ 'm' }}", pre_execute=setting(prompt="instead"))
            ChatCompletionOperator(task_id="none", prompt=nothing(), pre_execute=setting(prompt="instead"))
        assert airflow.run().state == "success"
        assert [request.json["messages"] for request in chat.requests] == [[user("instead")]] * 2
        assert {request.json["model"] for request in chat.requests} == {"m", "test-model"}

    def test_a_field_whose_template_failed_is_told_where_another_is_set(self, airflow, chat):
        with airflow.dag():
            ask(prompt="{{ 1 / 0 }}", pre_execute=setting(model="m"))
        assert airflow.run().state == "failed"
        assert airflow.error().path == "prompt"
        assert chat.requests == []

    @pytest.mark.parametrize(
        ("values", "path"),
        [
            ({"request": {"tempreture": 1}}, "$.tempreture"),
            ({"messages": 7}, "$.messages"),
            ({"request": "somewhere.json"}, "request"),
            ({"prompt": object()}, "$.messages[2].content"),
        ],
    )
    def test_what_is_set_is_checked_before_it_is_sent(self, airflow, chat, values, path):
        with airflow.dag():
            ask(**ARGUMENTS, pre_execute=setting(**values))
        assert airflow.run().state == "failed"
        assert airflow.error().path == path
        assert chat.requests == []


def test_a_decorated_function(airflow, chat):
    with airflow.dag():

        @task.chat_completion(
            request={"temperature": "{{ 0.5 }}"}, pre_execute=setting(model=EVIL, system_prompt=EVIL), prompt="{{ 1 }}"
        )
        def ask():
            return [user(EVIL)]

        @task.chat_completion(pre_execute=setting(prompt="of pre_execute", request={"seed": 7}))
        def other():
            return "of the function"

        ask() >> other()
    assert airflow.run().state == "success"
    assert sent(chat, 0) == {"temperature": 0.5, "model": EVIL, "messages": [system(EVIL), user(EVIL), user("1")]}
    assert sent(chat, 1) == {"seed": 7, "model": "test-model", "messages": [user("of the function")]}


def test_a_branch(airflow, chat):
    chat.default = replies.ok('{"branch": "yes"}')
    with airflow.dag():

        @task
        def yes():
            return 1

        choose = ChatCompletionBranchOperator(task_id="ask", prompt="{{ 1 }}", pre_execute=setting(prompt=EVIL))
        choose >> yes()
    assert airflow.run().state == "success"
    assert sent(chat)["messages"][-1] == user(EVIL)


def test_an_operator_that_is_executed_twice_asks_the_same_twice(chat):
    operator = ask(prompt="Hi", system_prompt="Short.", do_xcom_push=False)
    for _ in range(2):
        operator.execute({"ti": None})
    assert sent(chat, 0) == sent(chat, 1) == {"messages": [system("Short."), user("Hi")], "model": "test-model"}


def test_the_rendered_fields_show_what_was_sent_in_the_end(airflow, chat):
    with airflow.dag():
        ask(**ARGUMENTS, pre_execute=setting(prompt="instead"), post_execute=lambda context, result=None: None)
    assert airflow.run().rendered()["request"] == sent(chat)
