"""How the operator renders: each leaf once, data never again, types kept."""

import pytest
from airflow.sdk import task

from airflow_chat_provider.operators import ChatCompletionOperator
from tests.support.asking import ask, sent

pytestmark = pytest.mark.templates


class TestTemplates:
    @pytest.mark.parametrize("native", [False, True])
    def test_native_rendering_changes_nothing(self, airflow, chat, native):
        params = {"t": 0.5, "text": "42", "none": "None", "flag": True, "data": {"a": 1}, "listing": '["a", "b"]'}
        with airflow.dag(params=params, render_template_as_native_obj=native):
            ask(
                request={
                    "temperature": "{{ params.t }}",
                    "top_p": "{{ params.t }}5",
                    "max_tokens": "1{{ 2 }}",
                    "logprobs": "{{ params.flag }}",
                    "stop": "{{ params.listing }}",
                    "metadata": {"run": "{{ 7 }}"},
                    "messages": [
                        {"role": "system", "content": "{{ params.none }}"},
                        {"role": "user", "content": "{{ params.text }}"},
                        {"role": "user", "content": "a {{ params.data }} b"},
                    ],
                }
            )
        run = airflow.run()
        assert run.state == "success"
        assert sent(chat) == {
            "temperature": 0.5,
            "top_p": 0.55,
            "max_tokens": 12,
            "logprobs": True,
            "stop": '["a", "b"]',
            "metadata": {"run": "7"},
            "messages": [
                {"role": "system", "content": "None"},
                {"role": "user", "content": "42"},
                {"role": "user", "content": "a {'a': 1} b"},
            ],
            "model": "test-model",
        }

    def test_a_request_that_a_template_gives_whole_is_data(self, airflow, chat):
        request = {"messages": [{"role": "user", "content": "{{ not a template }}"}], "temperature": "0.5"}
        with airflow.dag(params={"request": request}):
            ask(request="{{ params.request }}")
        assert airflow.run().state == "success"
        assert sent(chat) == {**request, "temperature": 0.5, "model": "test-model"}

    def test_line_statements_of_the_dag_make_every_text_a_template(self, airflow, chat):
        with airflow.dag(jinja_environment_kwargs={"line_statement_prefix": "%%"}):
            ask(prompt="%% if true\nyes\n%% endif")
        assert airflow.run().state == "success"
        assert sent(chat)["messages"][0]["content"] == "yes\n"

    def test_values_are_data_and_are_never_rendered_again(self, airflow, chat, monkeypatch):
        monkeypatch.setenv("AIRFLOW_VAR_SECRET", "the-secret")
        evil = "{{ var.value.SECRET }} {% raw %}"
        with airflow.dag(params={"evil": evil}):

            @task
            def text():
                return evil

            @task
            def texts():
                return [evil]

            @task
            def rows():
                return [{"prompt": evil}]

            ask(prompt="{{ params.evil }}", system_prompt="x {{ params.evil }}")
            ChatCompletionOperator(task_id="chained", prompt=text())
            ChatCompletionOperator(task_id="nested", request={"messages": [{"role": "user", "content": text()}]})
            ChatCompletionOperator.partial(task_id="mapped").expand(prompt=texts())
            ChatCompletionOperator.partial(task_id="rows_mapped", system_prompt="{{ 1 }}").expand_kwargs(rows())
        assert airflow.run().state == "success"
        contents = [message["content"] for request in chat.requests for message in request.json["messages"]]
        assert sorted(contents) == sorted([evil, f"x {evil}", evil, evil, evil, evil, "1"])

    def test_a_mapped_task_is_rendered_and_typed_like_any_other(self, airflow, chat):
        with airflow.dag(params={"t": 0.25}):
            ChatCompletionOperator.partial(
                task_id="ask", request={"temperature": "{{ params.t }}", "max_tokens": "{{ ti.map_index + 1 }}"}
            ).expand(prompt=["a {{ params.t }}", "b"])
        assert airflow.run().state == "success"
        assert [r.json["temperature"] for r in chat.requests] == [0.25, 0.25]
        assert sorted((r.json["max_tokens"], r.json["messages"][0]["content"]) for r in chat.requests) == [
            (1, "a 0.25"),
            (2, "b"),
        ]

    def test_expand_kwargs_maps_over_requests(self, airflow, chat):
        with airflow.dag():

            @task
            def rows():
                return [
                    {"prompt": "one", "model": "m1"},
                    {"request": {"messages": [{"role": "user", "content": "two"}]}},
                ]

            ChatCompletionOperator.partial(task_id="ask").expand_kwargs(rows())
        assert airflow.run().state == "success"
        assert sorted((r.json["model"], r.json["messages"][0]["content"]) for r in chat.requests) == [
            ("m1", "one"),
            ("test-model", "two"),
        ]

    def test_json_text_is_parsed_before_it_is_rendered_so_no_value_breaks_it(self, airflow, chat):
        with airflow.dag(params={"quote": 'say "hi"\n}'}):
            ask(request='{"messages": [{"role": "user", "content": "{{ params.quote }}"}], "temperature": "{{ 1 }}"}')
        assert airflow.run().state == "success"
        assert sent(chat)["messages"][0]["content"] == 'say "hi"\n}'
        assert sent(chat)["temperature"] == 1

    def test_text_that_is_json_only_once_rendered_is_rendered_first(self, airflow, chat):
        with airflow.dag(params={"t": 0.5}):
            ask(prompt="x", request='{"temperature": {{ params.t }} }')
        assert airflow.run().state == "success"
        assert sent(chat)["temperature"] == 0.5

    def test_a_request_file_and_an_included_prompt_are_found_like_airflow_templates(self, airflow, chat, tmp_path):
        (tmp_path / "request.json").write_text('{"temperature": "{{ params.t }}"}', "utf-8")
        (tmp_path / "late.json").write_text('{"temperature": {{ params.t }} }', "utf-8")
        (tmp_path / "sum.md").write_text("Sum up {{ params.what }}", "utf-8")
        with airflow.dag(params={"t": 0.5, "what": "é"}, template_searchpath=[str(tmp_path)]):
            ask(request="request.json", prompt="{% include 'sum.md' %}")
            ChatCompletionOperator(task_id="late", request="late.json", prompt="x")
            ChatCompletionOperator(task_id="absolute", request=str(tmp_path / "request.json"), prompt="x")
        assert airflow.run().state == "success"
        assert {request.json["temperature"] for request in chat.requests} == {0.5}
        assert "Sum up é" in [request.json["messages"][0]["content"] for request in chat.requests]

    def test_a_text_that_names_a_file_is_sent_as_text(self, airflow, chat):
        with airflow.dag():
            ask(prompt="please summarise notes.md and config.json")
        airflow.run()
        assert sent(chat)["messages"][0]["content"] == "please summarise notes.md and config.json"

    def test_the_rendered_fields_show_what_was_sent(self, airflow, chat):
        # Where a trigger ends the task, dag.test() renders anew in a worker that does not come back on a real Airflow.
        resumed = {"post_execute": lambda context, result=None: None} if airflow.deferrable else {}
        with airflow.dag(params={"t": 0.5}):
            ask(request={"temperature": "{{ params.t }}"}, prompt="Hi {{ params.t }}", **resumed)
        shown = airflow.run().rendered()["request"]
        assert shown == sent(chat)
        assert shown["model"] == "test-model"

    def test_custom_delimiters_of_the_dag_hold_when_it_is_parsed_too(self, airflow, chat):
        options = {"variable_start_string": "[[", "variable_end_string": "]]"}
        with airflow.dag(params={"t": 0.5}, jinja_environment_kwargs=options):
            ask(request={"temperature": "[[ params.t ]]"}, prompt="{{ is text }}")
        assert airflow.run().state == "success"
        assert sent(chat)["temperature"] == 0.5
        assert sent(chat)["messages"][0]["content"] == "{{ is text }}"

    @pytest.mark.parametrize(
        ("template", "says"),
        [
            ("{{ params.nope }}", "UndefinedError"),
            ("{{ 1 / 0 }}", "ZeroDivisionError"),
            ("{% include 'nowhere.md' %}", "nowhere.md"),
            ("{{ macros.datetime.strptime('secret text', '%Y') }}", "ValueError"),
            ("{{ {'a': 1}[params.key] }}", "'dict object' has no attribute with the name that a value gives"),
            ("{{ {'a': 1}['b'] }}", "'dict object' has no attribute 'b'"),
            ("{{ params.__getitem__(params.key) }}", "Error"),
        ],
    )
    def test_a_template_that_fails_is_named_with_its_place(self, airflow, chat, template, says, capfd):
        with airflow.dag(params={"key": "secret text"}):
            ask(request={"messages": [{"role": "user", "content": template}]})
        assert airflow.run().state == "failed"
        out = capfd.readouterr()
        text = out.out + out.err
        assert "$.messages[0].content: the template fails" in text
        assert says in text
        assert "secret text" not in text
        assert chat.requests == []
