"""Where a DAG's author slips, the error says what to write instead."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import (
    ChatCompletionBatchOperator,
    ChatCompletionBranchOperator,
    ChatCompletionOperator,
)
from airflow_chat_provider.testing import replies
from tests.support.asking import ask, sent

UNKNOWN = [
    ("temperature", 'Put temperature into request={"temperature": ...}'),
    ("max_tokens", 'Put max_tokens into request={"max_tokens": ...}'),
    ("stream", 'Put stream into request={"stream": ...}'),
    ("tools", 'Put tools into request={"tools": ...}'),
    ("top_k", 'Put top_k into request={"top_k": ...}'),
    ("temprature", 'Write request={"temperature": ...} instead of temprature'),
    ("response_format", "give the schema as response_schema"),
    ("conn_id", "Write chat_conn_id instead of conn_id"),
    ("openai_conn_id", "Write chat_conn_id instead of openai_conn_id"),
    ("llm_conn_id", "Write chat_conn_id instead of llm_conn_id"),
    ("http_conn_id", "Write chat_conn_id instead of http_conn_id"),
    ("input_text", "Write prompt instead of input_text"),
    ("output_type", "Write response_schema instead of output_type"),
    ("response_kwargs", "Write request instead of response_kwargs"),
    ("max_retries", "Write max_attempts instead of max_retries"),
    ("api_key", "Put api_key into the connection, as its password"),
    ("base_url", "Put base_url into the connection, as its host"),
    ("headers", "Put headers into the connection, as its extra 'headers'"),
    ("promt", "did you mean 'prompt'?"),
    ("retires", "did you mean 'retries'?"),
    ("method", "Remove method"),
    ("keep_row", "Remove keep_row, or use ChatCompletionBatchOperator"),
    ("branches", "Remove branches, or use ChatCompletionBranchOperator"),
    ("zzz", "or put it into request={...} if the server takes it"),
]


def refused(**arguments):
    with pytest.raises(InvalidRequest) as caught:
        ask(prompt="x", **arguments)
    return caught.value


class TestUnknownArguments:
    @pytest.mark.parametrize(("name", "says"), UNKNOWN)
    def test_the_error_says_where_the_argument_belongs_and_not_its_value(self, name, says):
        error = refused(**{name: "sk-secret"})
        assert error.path == name
        assert says in error.message
        assert error.message.startswith("Task 'ask': ")
        assert name in error.message[:100]
        assert "sk-secret" not in error.message

    @pytest.mark.parametrize(("name", "says"), UNKNOWN[::8])
    def test_a_mapped_task_says_the_same_of_partial_expand_and_expand_kwargs(self, airflow, name, says):
        with airflow.dag():
            with pytest.raises(InvalidRequest) as caught:
                ChatCompletionOperator.partial(task_id="a", **{name: 1})
            assert says in caught.value.message
            with pytest.raises(InvalidRequest) as caught:
                ChatCompletionOperator.partial(task_id="b", prompt="x").expand(**{name: [1]})
            assert says in caught.value.message
            with pytest.raises(InvalidRequest) as caught:
                ChatCompletionOperator.partial(task_id="c", prompt="x").expand_kwargs([{name: 1}])
            assert says in caught.value.message

    def test_a_decorator_says_it_by_its_own_name(self, airflow):
        wrong: Any = {"temperature": 0.2, "conn_id": "x"}

        @chat_completion(**wrong)
        def question(topic):
            return topic

        with airflow.dag():
            for make in (lambda: question("a"), lambda: question.expand(topic=["a"])):
                with pytest.raises(InvalidRequest) as caught:
                    make()
                assert "Put temperature into request=" in caught.value.message
                assert "not of @task.chat_completion" in caught.value.message
                assert "Write chat_conn_id instead of conn_id" in caught.value.message

    def test_several_parameters_of_the_request_are_named_in_one_sentence(self):
        message = refused(temperature=0.2, max_tokens=5).message
        assert 'Put temperature and max_tokens into request={"temperature": ..., "max_tokens": ...}' in message

    def test_no_more_than_three_hints_are_given(self):
        assert refused(a1=1, b2=2, c3=3, d4=4).message.endswith("(and 1 more)")

    def test_what_default_args_hold_for_other_operators_is_passed_over(self, airflow, chat):
        chat.default = replies.ok("Hello")
        with airflow.dag(default_args={"temperature": 0.2, "conn_id": "other", "retries": 0}):
            ask(prompt="x")
            ChatCompletionOperator.partial(task_id="each").expand(prompt=["a"])
        assert airflow.run().state == "success"
        assert "temperature" not in sent(chat)

    def test_a_subclass_has_arguments_of_its_own(self, airflow, chat):
        class Warm(ChatCompletionOperator):
            def __init__(self, *, temperature=0.2, **kwargs):
                super().__init__(request={"temperature": temperature}, **kwargs)

        chat.default = replies.ok("Hello")
        with airflow.dag():
            Warm(task_id="one", prompt="x", temperature=0.3)
            Warm.partial(task_id="each", temperature=0.3).expand(prompt=["a"])
            with pytest.raises(InvalidRequest, match="did you mean 'temperature'"):
                Warm(task_id="no", prompt="x", temprature=0.3)
        assert airflow.run().state == "success"
        assert {request.json["temperature"] for request in chat.requests} == {0.3}

    def test_a_subclass_that_passes_its_own_argument_on_is_told(self):
        class Passes(ChatCompletionOperator):
            def __init__(self, *, temperature=0.2, **kwargs):
                super().__init__(temperature=temperature, **kwargs)

        with pytest.raises(InvalidRequest, match="Put temperature into request="):
            Passes(task_id="ask", prompt="x")

    def test_a_mixin_behind_the_operator_takes_its_own(self):
        from airflow.sdk import BaseOperator

        class Labelled(BaseOperator):
            def __init__(self, *, tag=None, **kwargs):
                super().__init__(**kwargs)
                self.tag = tag

        class Both(ChatCompletionOperator, Labelled):
            pass

        assert Both(task_id="ask", prompt="x", tag="t").tag == "t"

    def test_a_name_that_comes_from_an_upstream_task_fails_the_task_with_the_hint(self, airflow, chat):
        from airflow.sdk import task

        @task
        def rows():
            return [{"prompt": "a", "temperature": 0.3}]

        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask").expand_kwargs(rows())
        run = airflow.run()
        assert run.state == "failed"
        assert not chat.requests

    def test_each_operator_names_what_only_another_one_takes(self):
        from airflow_chat_provider.batch.checks import ARGUMENTS as BATCH
        from airflow_chat_provider.task.arguments import ARGUMENTS

        for name in BATCH.keys() - ARGUMENTS.keys() - {"input"}:
            assert f"Remove {name}, or use ChatCompletionBatchOperator" in refused(**{name: 1}).message
        for name in ARGUMENTS.keys() - BATCH.keys() - {"branches", "choose_by"}:
            given: dict[str, Any] = {name: 1}
            with pytest.raises(InvalidRequest, match=f"Remove {name}, or use ChatCompletionOperator"):
                ChatCompletionBatchOperator(task_id="b", input="a.csv", output="o", prompt="x", **given)

    def test_a_batch_takes_other_words_for_its_input(self):
        with pytest.raises(InvalidRequest, match="Write max_concurrency instead of concurrency"):
            ChatCompletionBatchOperator(task_id="b", input="a.csv", output="o", prompt="x", concurrency=3)
        with pytest.raises(InvalidRequest, match="Write input instead of data"):
            ChatCompletionBatchOperator(task_id="b", input="a.csv", output="o", prompt="x", data="b.csv")

    def test_a_branch_takes_other_words_for_its_branches(self):
        with pytest.raises(InvalidRequest, match="Write branches instead of choices"):
            ChatCompletionBranchOperator(task_id="b", prompt="x", choices=["a"])


class Mood(BaseModel):
    good: bool = True


SLIPS: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": None}, "$", "Give prompt or messages: $: 'messages' is missing"),
    ({}, "$", "Give prompt or messages"),
    ({"messages": "hello"}, "$.messages", "Give a text as prompt: messages is a list"),
    ({"messages": "chat.json"}, "$.messages", "Name the file in request"),
    ({"messages": {"role": "user", "content": "x"}}, "messages", "put the message into a list"),
    ({"prompt": {"role": "user", "content": "x"}}, "$.messages[0].content", "Give the messages as messages"),
    ({"prompt": len}, "$.messages[0].content", "Call the function (under @task.chat_completion"),
    (
        {"prompt": "x", "chat_conn_id": "https://a.example/v1"},
        "chat_conn_id",
        "Put a URL into a connection, as its host",
    ),
    ({"prompt": "x", "chat_conn_id": "sk-a1b2c3"}, "chat_conn_id", "Put an API key into a connection, as its password"),
    ({"prompt": "x", "configuration": "c"}, "configuration", "pass what an upstream task left"),
    ({"prompt": "x", "request_schema": "none"}, "request_schema", "Correct request_schema: 'none' does not exist"),
    ({"prompt": "x", "request_schema": Mood}, "request_schema", "Give the class Mood as response_schema"),
    ({"prompt": "x", "result_format": "JSON"}, "result_format", "did you mean 'json'?"),
    ({"prompt": "x", "result_format": "str"}, "result_format", "did you mean 'text'?"),
    ({"prompt": "x", "result_format": Mood}, "result_format", "give the class as response_schema"),
    ({"prompt": "x", "on_incomplete": "raise"}, "on_incomplete", "did you mean 'fail'?"),
    ({"prompt": "x", "on_uncertain": "retry"}, "on_uncertain", "did you mean 'resend'?"),
    ({"prompt": "x", "timeout": timedelta(minutes=1)}, "timeout", "write 60"),
    ({"request": "hello"}, "request", "Give a text as prompt"),
    ({"request": "req.yaml"}, "request", "the path of a .json file"),
    ({"request": Path("req.json")}, "request", "Give request the path as text, 'req.json'"),
    ({"request": [{"role": "user", "content": "x"}]}, "request", "Give the list as messages"),
    ({"prompt": "x", "request": {"response_format": Mood}}, "$.response_format", "Give the class as response_schema"),
    (
        {"prompt": "x", "request": {"tools": [{"type": "function", "name": "f", "parameters": {}}]}},
        "$.tools[0]",
        'Put name, description and parameters under "function"',
    ),
]


@pytest.mark.parametrize(("arguments", "path", "says"), SLIPS, ids=[says for _, _, says in SLIPS])
def test_a_typical_slip_is_told_what_to_write(arguments, path, says):
    with pytest.raises(InvalidRequest) as caught:
        ask(**arguments)
    assert says in caught.value.message
    assert caught.value.path == path
    assert "a1b2c3" not in caught.value.message


class TestPathsAsPrompts:
    @pytest.fixture(autouse=True)
    def _nothing_was_told(self, monkeypatch):
        monkeypatch.setattr("airflow_chat_provider.task.parse_checks._TOLD", set())

    @pytest.mark.parametrize("name", ["prompt", "system_prompt"])
    @pytest.mark.parametrize(
        "path", ["prompts/sum.md", "notes.txt", "a.jinja2", "../b.j2", Path("prompts/sum.md")], ids=str
    )
    def test_a_prompt_that_is_a_path_alone_is_warned_of_once(self, caplog, name, path):
        for _ in range(2):
            ask(**{"prompt": "x", name: path})
        assert caplog.text.count("now its path is sent as the prompt") == 1
        assert f"Write {name}=\"{{% include '{path}' %}}\"" in caplog.text

    @pytest.mark.parametrize(
        "text",
        [
            "Summarise notes.md",
            "What is Node.js?",
            "notes.md\nsays",
            "{% include 'a.md' %}",
            "https://a.example/b.txt",
            "3.14",
        ],
    )
    def test_other_texts_are_prompts(self, caplog, text):
        ask(prompt=text)
        assert "its path is sent" not in caplog.text

    def test_a_mapped_task_names_itself(self, airflow, caplog):
        with airflow.dag():
            ChatCompletionOperator.partial(task_id="each").expand(prompt=["a.md", "b"])
        assert "Task 'each': Write prompt=" in caplog.text
