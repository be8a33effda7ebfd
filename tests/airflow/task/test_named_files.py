"""Which file is read is written in the DAG: nothing that a template or an upstream task gives names one."""

import json
from pathlib import Path

import pytest
from airflow.sdk import task

from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionOperator
from tests.support.asking import ask, sent

pytestmark = pytest.mark.templates

SECRET = '{"messages": [{"role": "user", "content": "{{ var.value.SECRET }}"}]}'


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """The path of a file whose leaves are templates."""
    monkeypatch.setenv("AIRFLOW_VAR_SECRET", "the-secret")
    (tmp_path / "secret.json").write_text(SECRET, "utf-8")
    return str(tmp_path / "secret.json")


@pytest.fixture
def unread(monkeypatch, tmp_path):
    """The names of the test's files that were opened all the same, by whatever function of Python's."""
    names, opening = [], open

    def noted(file, *arguments, **more):
        if isinstance(file, str | Path) and Path(file).is_relative_to(tmp_path):
            names.append(Path(file).name)
        return opening(file, *arguments, **more)

    monkeypatch.setattr("builtins.open", noted)
    monkeypatch.setattr("io.open", noted)
    return names


def refused(airflow, chat, argument):
    assert airflow.run().state == "failed"
    error = airflow.error()
    assert isinstance(error, InvalidRequest)
    assert error.path == argument
    assert error.message.startswith(f"Write the path in {argument} out in the DAG, without a template")
    assert chat.requests == []


class TestRequest:
    def test_a_literal_names_one_whose_leaves_are_templates(self, airflow, chat, secret):
        with airflow.dag():
            ask(request=secret)
        assert airflow.run().state == "success"
        assert sent(chat)["messages"][0]["content"] == "the-secret"

    @pytest.mark.parametrize("relative", [False, True])
    def test_a_value_names_no_file(self, airflow, chat, secret, unread, relative):
        name = "secret.json" if relative else secret
        with airflow.dag(params={"name": name}, template_searchpath=[str(Path(secret).parent)]):
            ask(request="{{ params.name }}", prompt="x")
        refused(airflow, chat, "request")
        assert unread == []

    def test_what_an_upstream_task_leaves_names_no_file(self, airflow, chat, secret, unread):
        with airflow.dag():

            @task
            def name():
                return secret

            ask(request=name(), prompt="x")
        refused(airflow, chat, "request")
        assert unread == []

    @pytest.mark.parametrize("kwargs", [False, True])
    def test_what_a_mapped_task_gets_from_upstream_names_no_file(self, airflow, chat, secret, unread, kwargs):
        with airflow.dag():

            @task
            def names():
                return [{"request": secret}] if kwargs else [secret]

            partial = ChatCompletionOperator.partial(task_id="ask", prompt="x")
            _ = partial.expand_kwargs(names()) if kwargs else partial.expand(request=names())
        refused(airflow, chat, "request")
        assert unread == []

    def test_a_mapped_task_takes_the_literals_of_the_dag(self, airflow, chat, secret):
        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask").expand(request=[secret])
        assert airflow.run().state == "success"
        assert sent(chat)["messages"][0]["content"] == "the-secret"

    @pytest.mark.parametrize("name", ["{{ params.name }}.json", "prompts/{{ params.name }}.json", "{# #}/etc/x.json"])
    def test_a_path_with_a_template_in_it_breaks_the_import(self, airflow, name):
        with airflow.dag(), pytest.raises(InvalidRequest, match="without a template"):
            ask(request=name, prompt="x")


class TestSchemas:
    @pytest.fixture
    def schema(self, tmp_path):
        (tmp_path / "schema.json").write_text(json.dumps({"required": ["tier"]}), "utf-8")
        return str(tmp_path / "schema.json")

    def test_a_literal_names_the_file_of_a_request_schema(self, airflow, chat, schema):
        with airflow.dag():
            ask(prompt="x", request={"tier": 1}, request_schema=schema)
        assert airflow.run().state == "success"

    def test_a_template_gives_a_shipped_one_s_name_or_a_schema(self, airflow, chat):
        with airflow.dag(params={"name": "2023-12", "schema": {"required": ["tier"]}}):
            ask(prompt="x", request_schema="{{ params.name }}")
            ChatCompletionOperator(
                task_id="whole", prompt="x", request={"tier": 1}, request_schema="{{ params.schema }}"
            )
        assert airflow.run().state == "success"

    def test_a_template_gives_no_path_of_a_schema(self, airflow, chat, schema, unread):
        with airflow.dag(params={"schema": schema}):
            ask(prompt="x", request={"tier": 1}, request_schema="{{ params.schema }}")
        refused(airflow, chat, "request_schema")
        assert unread == []

    @pytest.mark.parametrize("argument", ["request_schema", "response_schema"])
    def test_a_mapped_task_gets_no_path_from_an_upstream_one(self, airflow, chat, schema, unread, argument):
        with airflow.dag():

            @task
            def names():
                return [schema]

            ChatCompletionOperator.partial(task_id="ask", prompt="x", request={"tier": 1}).expand(**{argument: names()})
        refused(airflow, chat, argument)
        assert unread == []

    def test_a_configuration_hands_on_what_is_in_the_file_and_not_its_path(self, airflow, chat, schema):
        with airflow.dag():
            first = ask(prompt="x", request={"tier": 1}, request_schema=schema)
            ChatCompletionOperator(
                task_id="then", prompt="y", request={"tier": 2}, configuration=first.output["configuration"]
            )
        run = airflow.run()
        assert run.state == "success"
        assert run.xcoms()["configuration"]["request_schema"] == {"required": ["tier"]}
        assert run.xcoms("then")["configuration"]["request_schema"] == {"required": ["tier"]}

    def test_one_that_names_a_file_is_refused(self, airflow, chat, schema, unread):
        with airflow.dag(params={"configuration": {"request_schema": schema}}):
            ask(prompt="x", request={"tier": 1}, configuration="{{ params.configuration }}")
        refused(airflow, chat, "request_schema")
        assert unread == []
