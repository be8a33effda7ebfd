"""A template that fails: what is told of it, on each version of Airflow, before anything is sent."""

import subprocess
import sys

import pytest
from airflow.sdk import Variable, task

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator
from tests.support.asking import ask, user

pytestmark = pytest.mark.templates

MISSING = [
    ("{{ var.value.NOT_THERE }}", "variable", "the Variable 'NOT_THERE' does not exist"),
    ("{{ var.value['not.there'] }}", "variable", "the Variable 'not.there' does not exist"),
    ("a {{ var.value.get('NOT_THERE') }} b", "variable", "the Variable 'NOT_THERE' does not exist"),
    ("{{ var.json.NOT_THERE.key }}", "variable", "the Variable 'NOT_THERE' does not exist or does not hold JSON"),
    ("{{ conn.not_there.host }}", "connection", "the Connection 'not_there' does not exist"),
    ("{% if conn.not_there.host %}a{% endif %}", "connection", "the Connection 'not_there' does not exist"),
]


def failed(airflow, chat, keyword, path, says):
    """A task failed in its first try, and the server saw nothing; the error."""
    assert airflow.run().state == "failed"
    error = airflow.error()
    assert type(error) is InvalidRequest
    assert (error.keyword, error.path, error.final) == (keyword, path, True)
    assert str(error).find(says) >= 0, str(error)
    assert chat.requests == []
    return error


class TestMissing:
    @pytest.mark.parametrize(("template", "keyword", "says"), MISSING)
    def test_a_missing_variable_or_connection_is_named_with_its_field(self, airflow, chat, template, keyword, says):
        with airflow.dag():
            ask(prompt=template, retries=2, retry_delay=0)
        error = failed(airflow, chat, keyword, "prompt", f"prompt: the template fails: {says}")
        assert str(error).startswith(f"Define the {keyword.title()} ")

    def test_no_retry_is_burnt(self, airflow, chat):
        with airflow.dag():
            ask(prompt="{{ var.value.NOT_THERE }}", retries=2, retry_delay=0)
        run = airflow.run()
        assert (run.state, run.tries()) == ("failed", 1)

    def test_a_leaf_of_the_request(self, airflow, chat):
        with airflow.dag():
            ask(request={"messages": [user("{{ var.value.NOT_THERE }}")]})
        failed(airflow, chat, "variable", "$.messages[0].content", "'NOT_THERE'")

    def test_json_that_is_none(self, airflow, chat, monkeypatch):
        monkeypatch.setenv("AIRFLOW_VAR_BROKEN", "{not json")
        with airflow.dag():
            ask(prompt="{{ var.json.BROKEN.key }}")
        failed(airflow, chat, "variable", "prompt", "does not hold JSON")

    def test_a_name_that_is_data_is_not_told(self, airflow, chat):
        with airflow.dag(params={"name": "a secret text"}):
            ask(prompt="{{ var.value[params.name] }}")
        error = failed(airflow, chat, "variable", "prompt", "a Variable does not exist")
        assert "secret" not in str(error)

    def test_a_missing_upstream_is_another_error(self, airflow, chat):
        with airflow.dag():

            @task
            def upstream():
                return {"a": 1}

            ask(prompt=upstream()["b"])  # type: ignore[index]  # an XComArg stands for the value that it will be
        failed(airflow, chat, "upstream", "prompt", "the upstream task left nothing")

    def test_what_is_there_or_has_a_default_is_rendered(self, airflow, chat, monkeypatch):
        monkeypatch.setenv("AIRFLOW_VAR_TEXT", "text")
        monkeypatch.setenv("AIRFLOW_VAR_DATA", '{"key": ["json"]}')
        monkeypatch.setenv("AIRFLOW_CONN_THERE", "http://a.host")
        with airflow.dag():
            ask(
                prompt="{{ var.value.TEXT }} {{ var.value.get('TEXT') }} {{ var.json.DATA.key[0] }} "
                "{{ var.value.get('NO', 'x') }} {{ var.json.get('NO', 'y') }} {{ var.value.get('NO', default='z') }} "
                "{{ conn.there.host }} {{ conn.get('there').host }} {{ conn.get('no', 'none') }} {{ conn.get('no') }}"
            )
        assert airflow.run().state == "success"
        (request,) = chat.requests
        assert request.json["messages"][0]["content"] == "text text json x y z a.host a.host none None"

    def test_a_mapped_task(self, airflow, chat):
        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask").expand(prompt=["{{ var.value.NOT_THERE }}"])
        failed(airflow, chat, "variable", "prompt", "'NOT_THERE'")

    @pytest.mark.parametrize("how", ["called", "mapped"])
    def test_an_argument_of_a_decorated_function(self, airflow, chat, how):
        ran = []
        with airflow.dag():

            @chat_completion(task_id="ask", retries=2, retry_delay=0)
            def function(text):
                ran.append(text)
                return text

            if how == "called":
                function(text="{{ var.value.NOT_THERE }}")
            else:
                function.expand(text=["{{ var.value.NOT_THERE }}"])
        failed(airflow, chat, "variable", "op_kwargs.text", "'NOT_THERE'")
        assert not ran

    def test_a_positional_argument_of_a_decorated_function(self, airflow, chat):
        with airflow.dag():

            @chat_completion(task_id="ask")
            def function(text, more):
                return text

            function("a", "{{ conn.not_there.host }}")
        failed(airflow, chat, "connection", "op_args[1]", "'not_there'")

    def test_a_field_that_a_subclass_has_besides(self, airflow, chat, capfd):
        class Mine(ChatCompletionOperator):
            template_fields = (*ChatCompletionOperator.template_fields, "topic")

            def __init__(self, *, topic, **arguments):
                super().__init__(**arguments)
                self.topic = topic

        with airflow.dag():
            Mine(task_id="ask", prompt="x", topic="{{ var.value.NOT_THERE }}", retries=2, retry_delay=0)
        run = airflow.run()
        assert (run.state, run.tries()) == ("failed", 1)
        assert "topic: the template fails: the Variable 'NOT_THERE'" in "".join(capfd.readouterr())
        assert chat.requests == []

    @pytest.mark.parametrize(("template", "keyword", "says"), MISSING)
    @pytest.mark.parametrize("field", ["prompt", "shard"])
    def test_a_batch(self, airflow, chat, tmp_path, template, keyword, says, field, capfd):
        if airflow.deferrable:
            pytest.skip("a batch does not defer")
        with airflow.dag(default_args={}):
            ChatCompletionBatchOperator(
                task_id="ask",
                input=[{"text": "x"}],
                output=str(tmp_path),
                retries=2,
                retry_delay=0,
                **{"prompt": "{{ row.text }}", field: template},
            )
        run = airflow.run()
        assert (run.state, run.tries()) == ("failed", 1)
        assert f"{field}: the template fails: {says}" in "".join(capfd.readouterr())
        assert chat.requests == []

    def test_a_template_that_looks_at_a_row_too(self, airflow, chat, tmp_path, capfd):
        if airflow.deferrable:
            pytest.skip("a batch does not defer")
        with airflow.dag(default_args={}):
            ChatCompletionBatchOperator(
                task_id="ask",
                input=[{"text": f"row {index}"} for index in range(10)],
                output=str(tmp_path),
                prompt="{{ row.text }} {{ var.value.NOT_THERE }}",
                retries=2,
                retry_delay=0,
            )
        run = airflow.run()
        assert (run.state, run.tries()) == ("failed", 1)
        assert "prompt: the template fails: the Variable 'NOT_THERE' does not exist" in "".join(capfd.readouterr())
        assert chat.requests == []


class Odd(Exception):
    """Not one that a template is known to raise."""


def odd():
    raise Odd("with a value in it")


class TestAnyError:
    @pytest.mark.parametrize(
        ("template", "says"),
        [
            ("{{ odd() }}", "Odd"),
            ("{{ 'a' | odd }}", "Odd"),
            ("{{ variable('NOT_THERE') }}", "AirflowRuntimeError: VARIABLE_NOT_FOUND"),
            ("{{ importing() }}", "ModuleNotFoundError"),
            ("{{ asserting() }}", "AssertionError"),
        ],
    )
    def test_of_a_macro_is_named_by_its_class_with_its_field(self, airflow, chat, template, says):
        macros = {
            "odd": odd,
            "variable": Variable.get,
            "importing": lambda: __import__("not_there_at_all"),
            "asserting": lambda: (_ for _ in ()).throw(AssertionError("with a value in it")),
        }
        with airflow.dag(user_defined_macros=macros, user_defined_filters={"odd": lambda text: odd()}):
            ask(prompt=template, retries=2, retry_delay=0)
        error = failed(airflow, chat, "template", "prompt", f"prompt: the template fails: {says}")
        assert "with a value in it" not in str(error)

    def test_of_what_maps_an_upstream_value_is_named_with_its_field(self, airflow, chat):
        with airflow.dag():

            @task
            def upstream():
                return 7

            ask(messages=upstream().map(lambda text: text))
        failed(airflow, chat, "template", "messages", "messages: the reference to an upstream task fails: ValueError")

    @pytest.mark.parametrize(
        ("signal", "state"),
        [(exceptions.AirflowSkipException, "skipped"), (exceptions.AirflowFailException, "failed")],
    )
    def test_a_macro_may_say_what_is_to_become_of_the_task(self, airflow, chat, signal, state):
        def say():
            raise signal("said by a macro")

        with airflow.dag(user_defined_macros={"say": say}):
            ask(prompt="{{ say() }}")
        assert airflow.run().states() == {"ask": state}
        assert chat.requests == []

    def test_one_that_may_pass_leaves_the_retries(self, airflow, chat):
        calls = []

        def fetch():
            calls.append(1)
            if len(calls) == 1:
                raise ConnectionResetError("with a value in it")
            return "there"

        with airflow.dag(user_defined_macros={"fetch": fetch}):
            ask(prompt="{{ fetch() }}", retries=1, retry_delay=0)
        run = airflow.run()
        assert (run.state, run.tries()) == ("success", 2)
        assert chat.requests[0].json["messages"] == [user("there")]


DAGS = """
from airflow.sdk import DAG, task
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator

with DAG("rendered_by_hand", schedule=None, params={"t": "there"}):
    ChatCompletionOperator(task_id="undefined", prompt="{{ params.nope }}")
    ChatCompletionOperator(task_id="variable", prompt="{{ var.value.NOT_THERE }}")
    ChatCompletionOperator.partial(task_id="mapped").expand(prompt=["{{ var.value.NOT_THERE }}", "{{ params.t }}"])
    ChatCompletionBatchOperator(task_id="batch", input="x.jsonl", output="out", prompt="{{ var.value.NOT_THERE }}")
    ChatCompletionBatchOperator(task_id="good_batch", input="x.jsonl", output="out", prompt="{{ row.text }}")

    @task.chat_completion
    def function(text):
        return text

    function("{{ var.value.NOT_THERE }}")
"""


@pytest.fixture(scope="module")
def rendered_by_hand(airflow_db, dags_folder):
    """The command that renders a task of DAGS."""
    file = dags_folder / "rendered_by_hand.py"
    file.write_text(DAGS, "utf-8")
    code, out = run("dags", "reserialize")
    assert code == 0, out
    yield lambda task_id, *more: ("tasks", "render", "rendered_by_hand", task_id, "2026-01-01", *more)
    file.unlink()


def run(*command):
    """The exit code of an Airflow command, and all that it prints."""
    done = subprocess.run([sys.executable, "-m", "airflow", *command], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


class TestShownByTheCommandLine:
    def test_a_template_that_fails_is_printed_and_the_command_exits_1(self, rendered_by_hand):
        code, out = run(*rendered_by_hand("variable"))
        assert code == 1
        assert "InvalidRequest: Define the Variable 'NOT_THERE'" in out

    def test_one_that_does_not_fail_is_printed_too(self, rendered_by_hand):
        code, out = run(*rendered_by_hand("mapped", "--map-index", "1"))
        assert code == 0
        assert "'content': 'there'" in out

    @pytest.mark.parametrize(
        ("task_id", "path", "keyword"),
        [
            (["undefined"], "prompt", "template"),
            (["mapped", "--map-index", "0"], "prompt", "variable"),
            (["batch"], "prompt", "variable"),
            (["function"], "op_args[0]", "variable"),
        ],
    )
    def test_every_kind_of_task_fails(self, rendered_by_hand, task_id, path, keyword):
        from airflow.cli.cli_parser import get_parser

        arguments = get_parser().parse_args(rendered_by_hand(*task_id))
        with pytest.raises(InvalidRequest) as caught:
            arguments.func(arguments)
        assert (caught.value.path, caught.value.keyword) == (path, keyword)

    def test_a_template_that_waits_for_rows_does_not_fail(self, rendered_by_hand, capsys):
        from airflow.cli.cli_parser import get_parser

        arguments = get_parser().parse_args(rendered_by_hand("good_batch"))
        arguments.func(arguments)
        assert "{{ row.text }}" in capsys.readouterr().out
