"""The operator on a real Airflow: what it sends, what it leaves in XCom, and how it fails."""

import json

import pytest
from airflow.sdk import task

from airflow_chat_provider.compat import AirflowFailException
from airflow_chat_provider.errors import InvalidRequest, TransportError
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.retry_policy import FINAL_BY_POLICY
from tests import faults, replies


def ask(**arguments):
    return ChatCompletionOperator(task_id="ask", **arguments)


def sent(chat, index=-1):
    return chat.requests[index].json


class TestXComs:
    def test_a_task_leaves_body_status_configuration_messages_and_return_value(self, airflow, chat):
        with airflow.dag():
            ask(prompt="Hi")
        run = airflow.run()
        xcoms = run.xcoms()
        assert run.state == "success"
        assert set(xcoms) == {"body", "status", "configuration", "messages", "return_value"}
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
        assert set(run.xcoms()) == {"body", "status"}
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
        assert run.xcoms() == {"body": body, "status": status}

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
        assert failing(ask(prompt="x", configuration=configuration)).path == "configuration"

    def test_the_base_url_of_a_configuration_is_never_used_only_compared(self, airflow, chat, caplog):
        with airflow.dag():
            ask(prompt="x", configuration={"base_url": "http://127.0.0.1:9/v1"})
        assert airflow.run().state == "success"
        assert "configuration names the base URL http://127.0.0.1:9/v1" in caplog.text

    @pytest.mark.parametrize("schema", ["2023-12", None, {"type": "object"}])
    def test_the_schema_of_a_configuration_holds_where_the_task_names_none(self, airflow, chat, schema):
        with airflow.dag():
            ask(prompt="x", configuration={"request_schema": schema})
        assert airflow.run().xcoms()["configuration"]["request_schema"] == schema

    def test_a_configuration_with_a_strange_key_is_refused(self, chat):
        failure = failing(ask(prompt="x", configuration={"modle": "m"}))
        assert failure.path == "configuration"
        assert "'modle'" in failure.message


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

    @pytest.mark.parametrize("name", ["nowhere.json", "/nowhere/at/all.json"])
    def test_a_request_file_that_a_template_names_and_that_is_missing_is_named(self, chat, name):
        failure = failing(ask(request="{{ params.name }}", prompt="x"), {"params": {"name": name}})
        assert failure.path == "request"
        assert name in failure.message

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

            ask(prompt="{{ params.evil }}", system_prompt="x {{ params.evil }}")
            ChatCompletionOperator(task_id="chained", prompt=text())
            ChatCompletionOperator(task_id="nested", request={"messages": [{"role": "user", "content": text()}]})
            ChatCompletionOperator.partial(task_id="mapped").expand(prompt=texts())
        assert airflow.run().state == "success"
        contents = [message["content"] for request in chat.requests for message in request.json["messages"]]
        assert sorted(contents) == sorted([evil, f"x {evil}", evil, evil, evil])

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
        with airflow.dag(params={"t": 0.5, "what": "é", "name": "late"}, template_searchpath=[str(tmp_path)]):
            ask(request="request.json", prompt="{% include 'sum.md' %}")
            ChatCompletionOperator(task_id="late", request="{{ params.name }}.json", prompt="x")
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
        with airflow.dag(params={"t": 0.5}):
            ask(request={"temperature": "{{ params.t }}"}, prompt="Hi {{ params.t }}")
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
            ("{{ unclosed", "TemplateSyntaxError"),
            ("{% include 'nowhere.md' %}", "nowhere.md"),
            ("{{ macros.datetime.strptime('secret text', '%Y') }}", "ValueError"),
        ],
    )
    def test_a_template_that_fails_is_named_with_its_place(self, airflow, chat, template, says, capfd):
        with airflow.dag():
            ask(request={"messages": [{"role": "user", "content": template}]})
        assert airflow.run().state == "failed"
        out = capfd.readouterr()
        text = out.out + out.err
        assert "$.messages[0].content: the template fails" in text
        assert says in text
        assert "secret text" not in text
        assert chat.requests == []


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
            ({"request": ["x"]}, "$", "must be a mapping"),
            ({"request": "{'a': 1}"}, "request", "line 1, column 2"),
            ({"request": '{"a": 1,\n "a": 2}'}, "request", "'a' stands twice"),
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


def failing(operator, context=None):
    """The InvalidRequest of an operator that is run by hand."""
    import jinja2

    operator.render_template_fields(context or {"params": {}}, jinja2.sandbox.SandboxedEnvironment())
    with pytest.raises((InvalidRequest, AirflowFailException)) as caught:
        operator.execute({"ti": None})
    error = caught.value
    return error if isinstance(error, InvalidRequest) else error.__cause__


class TestFailing:
    def test_a_model_missing_everywhere_names_both_places(self, server, connect):
        connect(server.url)
        failure = failing(ask(prompt="Hi"))
        assert failure.path == "$.model"
        assert "chat_default" in failure.message
        assert server.requests == []

    def test_a_value_that_json_cannot_hold_is_named_by_its_path(self, airflow, chat, capfd):
        with airflow.dag():
            ask(request={"messages": [{"role": "user", "content": "{{ dag_run.start_date }}"}]})
        assert airflow.run().state == "failed"
        out = capfd.readouterr()
        assert "$.messages[0].content: is a datetime, which JSON cannot hold" in out.out + out.err

    @pytest.mark.parametrize("name", ["timeout", "deadline", "max_attempts"])
    def test_a_limit_that_is_no_number_is_named(self, chat, name):
        failure = failing(ask(prompt="Hi", **{name: "soon"}))
        assert failure.path == name
        assert name in failure.message

    def test_a_limit_may_be_a_template(self, airflow, chat):
        chat.script(replies.status(503), replies.status(503))
        with airflow.dag(params={"n": 2}):
            ask(prompt="Hi", max_attempts="{{ params.n }}", deadline="60", timeout=5)
        assert airflow.run().state == "failed"
        assert len(chat.requests) == 2

    def test_final_errors_burn_no_retry_of_airflow(self, airflow, chat):
        chat.script(replies.error(401, "no"))
        with airflow.dag():
            ask(prompt="Hi", retries=3)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("failed", 1, 1)

    @pytest.mark.skipif(not FINAL_BY_POLICY, reason="dag.test() of this Airflow does not retry")
    def test_other_errors_are_left_to_airflows_retries(self, airflow, chat):
        chat.script(replies.status(500))
        with airflow.dag():
            ask(prompt="Hi", retries=1, retry_delay=0, max_attempts=1)
        run = airflow.run()
        assert (run.state, run.tries(), len(chat.requests)) == ("success", 2, 2)

    def test_streaming_is_refused_before_anything_is_sent(self, chat):
        failure = failing(ask(prompt="Hi", request={"stream": True}))
        assert failure.path == "$.stream"
        assert chat.requests == []

    def test_check_status_false_makes_a_refusal_data(self, airflow, chat):
        chat.script(replies.error(404, "no such model"))
        with airflow.dag():
            ask(prompt="Hi", check_status=False)
        run = airflow.run()
        assert run.state == "success"
        assert run.xcoms()["status"] == 404
        assert run.xcoms()["return_value"] == {"body": run.xcoms()["body"], "status": 404}
        assert "messages" not in run.xcoms()

    def test_check_status_false_is_no_help_without_an_answer(self, airflow, chat):
        chat.script(faults.reset())
        with airflow.dag():
            ask(prompt="Hi", check_status=False, max_attempts=1)
        assert airflow.run().state == "failed"

    @pytest.mark.parametrize(
        ("reply", "complete"),
        [
            (replies.ok("cut", finish_reason="length"), False),
            (replies.ok(None, refusal="I will not"), False),
            (replies.ok("", finish_reason="content_filter"), False),
            (replies.ok("all", finish_reason="something_new"), True),
        ],
    )
    @pytest.mark.parametrize("on_incomplete", ["fail", "warn", "ignore"])
    def test_on_incomplete_decides_about_answers_that_are_cut_or_refused(
        self, airflow, chat, reply, complete, on_incomplete
    ):
        chat.script(reply)
        with airflow.dag():
            ask(prompt="Hi", on_incomplete=on_incomplete)
        run = airflow.run()
        assert run.state == ("failed" if on_incomplete == "fail" and not complete else "success")
        assert run.xcoms()["status"] == 200

    @pytest.mark.parametrize(
        ("content", "finish_reason", "says"),
        [
            ("no json", "stop", "The answer is not JSON"),
            ('{"a": ', "length", "finish_reason length"),
        ],
    )
    def test_an_answer_that_is_not_json_fails_and_says_why(self, airflow, chat, content, finish_reason, says, capfd):
        chat.script(replies.ok(content, finish_reason=finish_reason))
        with airflow.dag():
            ask(prompt="Hi", result_format="json")
        run = airflow.run()
        out = capfd.readouterr()
        assert run.state == "failed"
        assert says in out.out + out.err
        assert run.xcoms()["body"]["choices"][0]["message"]["content"] == content

    def test_prompts_replies_and_keys_are_in_no_log(self, airflow, chat, capfd):
        canary = "canary-in-the-prompt-5417"
        chat.script(
            replies.ok("canary-in-the-reply-90210"),
            replies.error(400, f"bad text: {canary} for key sk-test-1234567890"),
        )
        with airflow.dag(params={"text": canary}):
            first = ask(prompt="{{ params.text }}", result_format="text")
            first >> ChatCompletionOperator(task_id="next", prompt="{{ params.text }}")
        airflow.run()
        out = capfd.readouterr()
        text = out.out + out.err
        assert "Chat completion: model test-model" in text
        for secret in (canary, "canary-in-the-reply", "sk-test-1234567890"):
            assert secret not in text


class TestConnectionErrors:
    def test_a_connection_id_that_is_no_text_is_named(self, chat):
        assert failing(ask(prompt="Hi", chat_conn_id="{{ 5 }}")).path == "chat_conn_id"

    def test_an_unknown_connection_is_named(self, airflow, capfd):
        with airflow.dag():
            ask(prompt="Hi", chat_conn_id="nobody")
        assert airflow.run().state == "failed"
        out = capfd.readouterr()
        assert "Create connection 'nobody'" in out.out + out.err

    def test_the_connection_may_be_a_template(self, airflow, server, connect):
        connect(server.url, conn_id="chosen", extra={"model": "m"})
        with airflow.dag(params={"conn": "chosen"}):
            ask(prompt="Hi", chat_conn_id="{{ params.conn }}")
        assert airflow.run().state == "success"


def test_on_kill_closes_the_socket_of_a_call_under_way(airflow, chat, tmp_path):
    import threading

    chat.script(faults.hang())
    operator = ask(prompt="Hi", max_attempts=3)
    raised = []

    def run():
        try:
            operator.execute({"ti": None})
        except TransportError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert chat.wait_requests(1)
    operator.on_kill()
    assert chat.wait_closed(5)
    thread.join(10)
    assert raised[0].sent
    assert len(chat.requests) == 1


def test_a_dag_of_the_operator_survives_serialization(airflow, chat):
    with airflow.dag(params={"t": 1}):
        ask(prompt="{{ params.t }}", request={"temperature": 1}, retries=2)
    assert json.dumps(airflow.run().rendered())
