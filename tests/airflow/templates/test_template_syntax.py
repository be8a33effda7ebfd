"""Jinja that cannot be read breaks the import of the DAG."""

import itertools
import json
from importlib import import_module
from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.definitions.template import literal

from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator
from tests.support.asking import ask, sent

pytestmark = pytest.mark.templates

NUMBERS = itertools.count()
LONG = "{{ " + "9" * 5000 + " }}"
BROKEN = ["{#1}", '{{"x": 1}}', "{% if x %}y", "{{ x", "{{ a b }}", "{{ not }}", LONG]


def broken(**arguments):
    with pytest.raises(InvalidRequest) as caught:
        ChatCompletionOperator(task_id=f"ask_{next(NUMBERS)}", **arguments)
    assert caught.value.keyword == "template"
    return caught.value


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: text[:12])
def test_the_field_and_the_line_are_named_and_the_remedies(text):
    error = broken(prompt=f"One.\nTwo {text}")
    assert error.path == "prompt"
    assert "prompt (line 2): " in error.message or text is LONG
    assert len(error.message) < 500
    assert "{% raw %}" in error.message
    module = error.message.partition("literal(...) of ")[2].split(":")[0]
    assert import_module(module).literal is literal


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"system_prompt": "{#1}"}, "system_prompt"),
        ({"model": "{#1}"}, "model"),
        ({"chat_conn_id": "{{ x"}, "chat_conn_id"),
        ({"timeout": "{{ x"}, "timeout"),
        ({"configuration": {"model": "{{ x"}}, "configuration.model"),
        ({"request_schema": {"required": ["{{ x"]}}, "request_schema.required[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "{#1}"}]}]},
            "messages[0].content[0].text",
        ),
        ({"messages": "{{ x"}, "messages"),
        ({"request": {"stop": ["a", "{{ x"]}}, "$.stop[1]"),
        ({"request": json.dumps({"stop": ["{#1}"]})}, "$.stop[0]"),
        ({"request": '{"n": {{ x }'}, "$"),
    ],
    ids=str,
)
def test_every_place_is_looked_at(arguments, path):
    assert broken(**{"prompt": "x", **arguments}).path == path


def test_the_files_that_request_names_are_looked_at(tmp_path):
    (tmp_path / "whole.json").write_text('{"stop": ["{#1}"]}')
    (tmp_path / "text.json").write_text('{"n": {{ x }')
    with DAG("files", schedule=None, template_searchpath=[str(tmp_path)]):
        assert broken(request="whole.json", prompt="x").path == "$.stop[0]"
        assert broken(request="text.json", prompt="x").path == "$"


def test_filters_and_tests_are_those_of_the_dag():
    with DAG("filters", schedule=None, user_defined_filters={"mine": str}):
        ask(prompt="{{ params.x | mine }} {{ ds | ds_nodash }} {% if x is defined %}{{ x | nosuch }}{% endif %}")
        assert "No filter named 'nosuch'" in broken(prompt="{{ params.x | nosuch }}").message
        assert "No filter named 'nosuch'" in broken(prompt="{{ params.x | mine | nosuch(1) }}").message
        assert "unknown tag 'nosuch'" in broken(prompt="{% nosuch %}").message
        assert "No test named 'nosuch'" in broken(prompt="{{ x is nosuch }}").message
        assert "defined twice" in broken(prompt="{% block a %}{% endblock %}{% block a %}{% endblock %}").message
    ask(prompt="{{ x | nosuch }}{% nosuch %}")  # without a DAG nobody knows


def test_marks_are_those_of_the_dag():
    options = {"variable_start_string": "<<", "variable_end_string": ">>"}
    with DAG("marks", schedule=None, jinja_environment_kwargs=options):
        ask(prompt='{{"x": 1}} and {{ not }}')
        assert broken(prompt="<< a b >>").path == "prompt"


@pytest.mark.parametrize(
    "text", ["{{ params.x }}", "{{ ds_nodash|upper }}", "{{- if_ -}} }} %} #}", "{{ x['a'] ~ 1 }}", ""]
)
def test_what_can_be_read_passes(text):
    ask(prompt=f"x{text}")


def test_rows_of_a_batch_are_data_and_its_templates_are_not():
    given: dict[str, Any] = {"task_id": "bulk", "output": "out", "input": [{"text": "{#1}"}]}
    ChatCompletionBatchOperator(prompt="{{ row.text }}", **given)
    for wrong in ({"prompt": "{{ row.text"}, {"prompt": "x", "output": "out/{{ x"}, {"prompt": "x", "shard": "{{ x"}):
        with pytest.raises(InvalidRequest, match=r"literal\("):
            ChatCompletionBatchOperator(**{**given, **wrong})


def test_the_literals_of_a_mapped_task_are_templates_too():
    with DAG("mapped", schedule=None):
        partial = ChatCompletionOperator.partial(task_id="ask")
        with pytest.raises(InvalidRequest, match=r"literal\("):
            partial.expand(prompt=["x", "{#1}"])
        partial.expand(prompt=["x"])


def test_an_operator_that_a_task_executes_is_given_data(airflow, chat):
    with airflow.dag():

        @task
        def outer():
            context: Any = {"ti": None}
            ChatCompletionOperator(task_id="inner", prompt="{#1} {{ a b }}", deferrable=False).execute(context)

        outer()
    airflow.run()
    assert sent(chat)["messages"][0]["content"] == "{#1} {{ a b }}"


@pytest.mark.parametrize("text", ["{#1}", '{{"x": 1}}'])
def test_both_remedies_send_the_text_as_it_stands(airflow, chat, text):
    with airflow.dag():
        ask(prompt=literal(text), system_prompt="{% raw %}" + text + "{% endraw %}", request={"stop": [literal(text)]})
    assert airflow.run().state == "success"
    assert [message["content"] for message in sent(chat)["messages"]] == [text, text]
    assert sent(chat)["stop"] == [text]


def test_a_literal_is_no_template_inside_either(airflow, chat):
    with airflow.dag():
        ask(messages=literal([{"role": "user", "content": "{{ var.value.SECRET }}"}]))
    assert airflow.run().state == "success"
    assert sent(chat)["messages"][0]["content"] == "{{ var.value.SECRET }}"
