"""What of an operator is checked when its DAG is parsed."""

import pytest

from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionOperator
from tests.support.asking import ask


class TestParsing:
    """What breaks the import of a DAG file."""

    @pytest.mark.parametrize(
        ("arguments", "path", "says"),
        [
            ({"request": {"messages": [], "model": "m"}}, "$.messages", "at least 1 item"),
            ({"request": {"model": "m"}}, "$", "'messages' is missing"),
            ({"prompt": "x", "request": {"tempreture": 1}}, "$.tempreture", "did you mean 'temperature'"),
            ({"prompt": "x", "request": {"temperature": 3}}, "$.temperature", "at most 2"),
            ({"prompt": "x", "request": {"temperature": "hot"}}, "$.temperature", "must be a number"),
            ({"messages": [{"role": "usr", "content": "x"}]}, "$.messages[0].role", "did you mean 'user'"),
            (
                {"messages": [{"role": "user", "content": "{{ x }}", "name": 5.5}, {"role": "user"}]},
                "$.messages[1]",
                "'content'",
            ),
            ({"request": ["x"]}, "$", "Give request as a mapping"),
            ({"request": "{'a': 1}"}, "request", "line 1, column 2"),
            ({"request": '{"a": 1,\n "a": 2}'}, "request", "the key 'a' twice"),
            ({"prompt": "x", "request": {"temperature": float("nan")}}, "$.temperature", "nan"),
            ({"prompt": {1, 2}}, "$.messages[0].content", "a set"),
            ({"prompt": "x", "request_schema": "2024-01"}, "request_schema", "does not exist"),
            ({"prompt": "x", "request_schema": "none.json"}, "request_schema", "cannot be read"),
            ({"prompt": "x", "request_schema": {"type": "objct"}}, "request_schema", "$.type"),
            ({"prompt": "x", "result_format": "txt"}, "result_format", "'text'"),
            ({"prompt": "x", "on_incomplete": "shrug"}, "on_incomplete", "'warn'"),
        ],
    )
    def test_a_mistake_is_named_with_its_path(self, arguments, path, says):
        with pytest.raises(InvalidRequest) as caught:
            ask(**arguments)
        assert caught.value.path == path
        assert says in caught.value.message

    @pytest.mark.parametrize(
        ("arguments", "path"),
        [
            ({"request": {"tempreture": 1}}, "$.tempreture"),
            ({"request": {"temperature": 3}}, "$.temperature"),
            ({"messages": []}, "$.messages"),
            ({"result_format": "txt"}, "result_format"),
        ],
    )
    def test_a_mistake_in_a_mapped_task_breaks_the_import_too(self, airflow, arguments, path):
        with airflow.dag(), pytest.raises(InvalidRequest) as caught:
            ChatCompletionOperator.partial(task_id="ask", **arguments)
        assert caught.value.path == path

    def test_what_a_mapped_task_will_get_is_unknown_and_passes(self, airflow):
        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask", request={"temperature": "{{ x }}"}).expand(prompt=["a"])
            ChatCompletionOperator.partial(task_id="all").expand(request=[{"messages": []}])

    def test_a_missing_request_file_breaks_the_import_with_the_places_searched(self, airflow, tmp_path):
        with airflow.dag(template_searchpath=[str(tmp_path)]), pytest.raises(InvalidRequest, match="is in none of"):
            ask(request="nowhere.json", prompt="x")

    def test_a_file_that_is_not_utf8_breaks_the_import(self, airflow, tmp_path):
        (tmp_path / "latin.json").write_bytes(b'{"a": "\xe9"}')
        with airflow.dag(template_searchpath=[str(tmp_path)]), pytest.raises(InvalidRequest, match="not UTF-8"):
            ask(request="latin.json", prompt="x")

    def test_templates_are_unknown_and_pass(self):
        ask(request="{{ params.request }}")
        ask(request={"messages": "{{ x }}", "temperature": "{{ y }}", "stop": ["{{ z }}"], "top_k": 5})
        ask(messages="{{ x }}", prompt="y")
        ask(prompt="x", request_schema="{{ params.schema }}", request={"temperature": 3})

    def test_without_a_schema_nothing_is_checked_but_that_it_is_json(self):
        ask(request={"anything": "goes"}, request_schema=None)
