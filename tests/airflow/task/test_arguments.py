"""Each argument is checked when the DAG is parsed; what is known only when the task runs, before anything is sent."""

import inspect
import math
from datetime import timedelta

import pytest
from airflow.sdk import DAG, BaseOperator, TaskGroup, task
from pydantic import BaseModel

from airflow_chat_provider.decorators import BranchArguments, chat_completion, chat_completion_branch
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import (
    ChatCompletionBatchOperator,
    ChatCompletionBranchOperator,
    ChatCompletionOperator,
)
from airflow_chat_provider.schema import check_rules
from airflow_chat_provider.task.arguments import BATCH_FIELDS, TEMPLATE_FIELDS
from tests.support.asking import ask
from tests.support.running import import_errors

pytestmark = pytest.mark.templates

OPERATORS = [ChatCompletionOperator, ChatCompletionBranchOperator, ChatCompletionBatchOperator]
SWITCHES = ["check_status", "push_messages", "deferrable", "dry_run"]
CHOICES = ["result_format", "on_incomplete", "on_uncertain"]


def upstream():
    return 1


class Verdict(BaseModel):
    good: bool


def own_arguments(operator):
    """The names in the signatures of our own classes: Airflow's arguments are Airflow's."""
    return {
        name
        for cls in operator.__mro__
        if cls.__module__.startswith("airflow_chat_provider")
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "retry_policy"
    }


def refused(make, *arguments, **more):
    """The error that breaks the import."""
    with pytest.raises(InvalidRequest) as caught:
        make(*arguments, **more)
    assert caught.value.args == (caught.value.message,)
    return caught.value


def batch(**arguments):
    return ChatCompletionBatchOperator(
        **{"task_id": "bulk", "input": "rows.jsonl", "output": "out", "prompt": "{{ row.text }}", **arguments}
    )


def branch(**arguments):
    return ChatCompletionBranchOperator(task_id="ask", prompt="x", **arguments)


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_table_has_a_line_for_each_argument(operator):
    assert own_arguments(operator) - operator._kinds.keys() == set()


def test_the_table_has_a_line_for_each_argument_of_the_decorators():
    airflows = {*inspect.signature(BaseOperator).parameters, "multiple_outputs", "retry_policy"}
    ours = BranchArguments.__annotations__.keys() - airflows
    assert ours - ChatCompletionBranchOperator._kinds.keys() == set()


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", ["false", "False", "", 0, 1, None, "no"])
def test_a_switch_is_true_or_false(name, value):
    error = refused(ask, prompt="x", **{name: value})
    assert error.path == name
    assert error.message.startswith(f"Task 'ask': {name} must be True or False, not {value!r}")


@pytest.mark.parametrize("name", ["timeout", "deadline", "max_attempts"])
@pytest.mark.parametrize("value", [-1, 0, "0", "-5", "", "soon", math.nan, math.inf, True, [30], timedelta(seconds=3)])
def test_a_limit_is_a_number_above_nothing(name, value):
    assert refused(ask, prompt="x", **{name: value}).path == name


def test_a_limit_is_taken_as_the_connection_takes_it():
    ask(prompt="x", timeout="30", deadline=0.5, max_attempts="3")
    ask(prompt="x", timeout="{{ params.t }}", deadline=None, max_attempts="{{ params.n }}")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"output_retries": -1}, "a number of 0 or more"),
        ({"output_retries": "1"}, "a number of 0 or more"),
        ({"chat_conn_id": ""}, "it is empty"),
        ({"chat_conn_id": 5}, "must be text, not 5"),
        ({"chat_conn_id": None}, "must be text, not None"),
        ({"model": ""}, "it is empty"),
        ({"model": 5}, "must be text, not 5"),
        ({"prompt": ""}, "it is empty"),
        ({"system_prompt": ""}, "it is empty"),
        ({"messages": 5}, "a list of messages"),
        ({"messages": {"role": "user"}}, "a list of messages"),
        ({"configuration": {"modle": "m"}}, "Remove the key 'modle'"),
        ({"configuration": 5}, "must be a mapping"),
        ({"request_schema": 5}, "the name of a shipped schema"),
        ({"response_schema": 5}, "which is 5: it must be a JSON Schema"),
        ({"response_schema": ""}, "it is empty"),
        ({"response_schema": Verdict(good=True)}, "Give response_schema the class Verdict, not an instance of it"),
        ({"result_format": 5}, "must be one of 'raw'"),
        ({"on_incomplete": None}, "must be one of 'warn'"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named(arguments, says):
    (name,) = arguments
    error = refused(ask, **{"prompt": "x", **arguments})
    assert error.path == name
    assert says in error.message


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"input": "rows.txt"}, "'rows.txt' must be the path of a .jsonl or .csv file"),
        ({"input": ""}, "must be the path of a .jsonl or .csv file"),
        ({"input": 5}, "a list of rows, not 5"),
        ({"input": None}, "a list of rows, not None"),
        ({"input": {"text": "a"}}, "a list of rows, not a dict"),
        ({"output": ""}, "it is empty"),
        ({"output": 5}, "the path of a folder, not 5"),
        ({"output": "out.jsonl"}, "is the name of a file; name a folder"),
        ({"response_key": ""}, "it is empty"),
        ({"response_key": 5}, "must be text"),
        ({"response_key": "body"}, "Choose another response_key"),
        ({"id_key": ""}, "it is empty"),
        ({"id_key": None}, "must be text"),
        ({"keep_row": "false"}, "True or False, not 'false'"),
        ({"shard": "3/2"}, "'3/2'"),
        ({"shard": "9:3"}, "'9:3'"),
        ({"max_concurrency": 0}, "1 or more"),
        ({"max_concurrency": 1.5}, "1 or more"),
        ({"max_concurrency": None}, "must be a number"),
        ({"requests_per_minute": -1}, "over 0"),
        ({"tokens_per_minute": math.inf}, "over 0"),
        ({"max_failures": -1}, "a number of rows or a share"),
        ({"max_failures": "-5%"}, "a number of rows or a share"),
        ({"file_mode": 0o777}, "0o600"),
        ({"on_changed": "ignore"}, "'restart'"),
        ({"part_rows": 0}, "1 or more"),
        ({"part_rows": 2.5}, "1 or more"),
        ({"part_seconds": "soon"}, "over 0"),
        ({"timeout": -1}, "above 0"),
        ({"response_schema": 5}, "a Pydantic model"),
        ({"output_retries": "2"}, "0 or more"),
    ],
    ids=str,
)
def test_a_wrong_value_of_a_batch_is_named(arguments, says):
    (name,) = arguments
    error = refused(batch, **arguments)
    assert error.path == name
    assert error.message.startswith("Task 'bulk': ")
    assert says in error.message


def test_an_argument_that_holds_itself_or_a_number_without_end_is_refused():
    endless: dict[str, object] = {}
    endless["stop"] = endless
    assert "nested too deep" in refused(ask, prompt="x", request=endless).message
    assert refused(ask, prompt="x", timeout=-(10**5000)).message.endswith(", not an int")


def test_what_a_batch_takes_passes():
    batch(part_rows="500", part_seconds="0.5", max_concurrency="8", max_failures=None, file_mode=None)
    batch(input=[{"text": "{#1}"}], shard="1000:", requests_per_minute="1.5", max_failures="{{ params.most }}")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"branches": "refund"}, "a list of task ids"),
        ({"branches": 5}, "a list of task ids"),
        ({"branches": []}, "it is empty"),
        ({"branches": {}}, "it is empty"),
        ({"branches": ["a", 5]}, "the ids of tasks"),
        ({"branches": {"a": {"descrption": "x"}}}, "Correct 'a' in branches: write a task id, with its description"),
        ({"branches": {"a": "{{ params.a }}"}}, "takes no template"),
        ({"choose_by": "chance"}, "'enum'"),
        ({"result_format": "text"}, "a branch sets it itself"),
        ({"response_schema": Verdict}, "a branch sets it itself"),
        ({"multiple_outputs": True}, "a branch sets it itself"),
        ({"dry_run": "false"}, "True or False"),
    ],
    ids=str,
)
def test_a_wrong_value_of_a_branch_is_named(arguments, says):
    (name,) = arguments
    error = refused(branch, **arguments)
    assert error.path == name
    assert says in error.message


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_template_where_none_is_taken_is_named(operator):
    templated = {"output" if name == "output_path" else name for name in (*TEMPLATE_FIELDS, *BATCH_FIELDS)}
    needed = {"input": "rows.jsonl", "output": "out"} if operator is ChatCompletionBatchOperator else {}
    for name in own_arguments(operator) - templated:
        if operator is ChatCompletionBranchOperator and name in ("result_format", "response_schema"):
            continue
        for from_upstream in (False, True):
            with DAG("templates", schedule=None):
                value = task(upstream)() if from_upstream else "{{ params.x }}"
                error = refused(operator, task_id="ask", prompt="x", **{**needed, name: value})
            assert error.path == name
            assert "takes no template" in error.message


def test_a_template_inside_a_schema_is_named_and_one_in_its_file_is_not(tmp_path):
    says = {"type": "object", "properties": {"a": {"const": "{{ params.a }}"}}}
    assert "takes no template" in refused(ask, prompt="x", response_schema=says).message
    (tmp_path / "schema.json").write_text('{"description": "like {{ this }}"}')
    ask(prompt="x", response_schema=str(tmp_path / "schema.json"))


def test_where_lines_may_be_statements_the_other_arguments_are_no_templates():
    with DAG("lines", schedule=None, jinja_environment_kwargs={"line_statement_prefix": "%%"}):
        ask(prompt="%% if x\nx\n%% endif", result_format="text")


class TestMapped:
    @pytest.mark.parametrize(
        "given",
        [
            {"dry_run": "false"},
            {"timeout": -1},
            {"result_format": "txt"},
            {"output_retries": "1"},
            {"chat_conn_id": ""},
        ],
    )
    def test_what_partial_is_given_is_checked(self, given):
        (name,) = given
        with DAG("mapped", schedule=None):
            error = refused(ChatCompletionOperator.partial, task_id="ask", **given)
        assert error.path == name
        assert error.message.startswith("Task 'ask': ")

    def test_what_default_args_say_counts(self):
        with DAG("mapped", schedule=None, default_args={"max_attempts": 0}):
            assert refused(ChatCompletionOperator.partial, task_id="ask").path == "max_attempts"

    @pytest.mark.parametrize("name", ["timeout", "dry_run", "result_format"])
    def test_each_literal_of_expand_is_checked(self, name):
        good = {"timeout": 5, "dry_run": False, "result_format": "text"}[name]
        with DAG("mapped", schedule=None):
            partial = ChatCompletionOperator.partial(task_id="ask", prompt="x")
            assert refused(partial.expand, **{name: [good, "wrong"]}).path == name
            partial.expand(**{name: [good]})

    def test_each_literal_of_expand_kwargs_is_checked(self):
        with DAG("mapped", schedule=None):
            partial = ChatCompletionOperator.partial(task_id="ask")
            error = refused(partial.expand_kwargs, [{"prompt": "x"}, {"prompt": "y", "check_status": "False"}])
            assert error.path == "check_status"
            partial.expand_kwargs([{"prompt": "x"}, {"prompt": "y", "check_status": False}])

    def test_each_literal_of_a_mapped_batch_or_branch_is_checked(self):
        with DAG("mapped", schedule=None):
            bulk = ChatCompletionBatchOperator.partial(task_id="bulk", prompt="x", output="out")
            assert refused(bulk.expand, input=["a.jsonl", "b.txt"]).path == "input"
            bulk.expand(input=["a.jsonl", "b.csv"])
            assert refused(ChatCompletionBranchOperator.partial, task_id="b", branches="a").path == "branches"

    def test_a_mapped_function_s_arguments_are_checked(self):
        @task.chat_completion(dry_run="false")
        def summarise(text):
            return text

        with DAG("mapped", schedule=None):
            for mapped in (summarise, summarise.partial(), summarise.override(task_id="summarise")):
                assert refused(mapped.expand, text=["a"]).path == "dry_run"
                assert refused(mapped.expand_kwargs, [{"text": "a"}]).path == "dry_run"
            assert refused(summarise.override(dry_run=False, timeout=0).expand, text=["a"]).path == "timeout"
            summarise.override(dry_run=False).expand(text=["a"])

    @pytest.mark.parametrize(
        ("values", "path"),
        [
            ([-1], "timeout"),
            (["0"], "deadline"),
            ([0], "max_attempts"),
            (["false"], "dry_run"),
            (["False"], "check_status"),
            ([""], "prompt"),
            ([""], "chat_conn_id"),
            (["2"], "output_retries"),
            (["txt"], "result_format"),
            (["{{ params.x }}"], "push_messages"),
        ],
    )
    def test_what_an_upstream_task_gives_is_refused_before_anything_is_sent(self, airflow, chat, values, path):
        with airflow.dag(default_args={"retries": 2}):

            @task
            def upstream():
                return values

            given = {} if path == "prompt" else {"prompt": "x"}
            ChatCompletionOperator.partial(task_id="ask", **given).expand(**{path: upstream()})
        run = airflow.run()
        assert run.state == "failed"
        error = airflow.error()
        assert isinstance(error, InvalidRequest)
        assert error.path == path
        assert error.message.startswith(path) or f" {path} " in error.message
        assert run.tries() == 1
        assert chat.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout": "{{ -1 }}"},
        {"deadline": "{{ params.deadline }}"},
        {"max_attempts": "{{ 0 }}"},
        {"prompt": "{{ params.empty }}"},
        {"system_prompt": "{{ params.empty }}"},
        {"chat_conn_id": "{{ params.empty }}"},
    ],
    ids=str,
)
def test_what_a_template_gives_is_refused_before_anything_is_sent(airflow, chat, arguments):
    (name,) = arguments
    with airflow.dag(params={"deadline": "soon", "empty": ""}):
        ask(**{"prompt": "x", **arguments})
    assert airflow.run().state == "failed"
    assert airflow.error().path == name
    assert chat.requests == []


class TestTheTaskIsNamed:
    """A DAG's file has many tasks, and an import error shows a line or two of it."""

    def test_with_its_groups(self):
        with DAG("groups", schedule=None), TaskGroup("outer"), TaskGroup("inner"):
            assert refused(ask, prompt="x", timeout=-1).message.startswith("Task 'outer.inner.ask': timeout must")
            partial = ChatCompletionOperator.partial
            assert refused(partial, task_id="each", timeout=-1).message.startswith("Task 'outer.inner.each': timeout")
            each = partial(task_id="each")
            assert refused(each.expand, timeout=[0]).message.startswith("Task 'outer.inner.each': timeout must")
            each.expand(timeout=[1])

    @pytest.mark.parametrize("decorator", [chat_completion, chat_completion_branch, task.chat_completion])
    def test_of_a_decorated_function(self, decorator):
        @decorator(timeout=0)
        def summarise(text):
            return text

        with DAG("decorated", schedule=None), TaskGroup("group"):
            assert refused(summarise, "x").message.startswith("Task 'group.summarise': timeout must")
            assert refused(summarise.expand, text=["x"]).message.startswith("Task 'group.summarise': timeout must")

    def test_for_every_kind_of_mistake(self):
        for wrong in (
            {"request": {"tempreture": 1}},
            {"request": {"max_tokens": 0}},
            {"request": "{"},
            {"prompt": "{#1}"},
            {"request_schema": "2024-01"},
            {"response_schema": {"type": "objct"}},
        ):
            assert refused(ask, **{"prompt": "x", **wrong}).message.startswith("Task 'ask': ")

    def test_in_what_airflow_says_of_the_file(self, tmp_path):
        (tmp_path / "wrong.py").write_text(
            "from airflow.sdk import DAG, TaskGroup\n"
            "from airflow_chat_provider.operators import ChatCompletionOperator\n"
            "with DAG('wrong', schedule=None), TaskGroup('group'):\n"
            "    ChatCompletionOperator(task_id='ask', prompt='x', dry_run='false')\n"
        )
        (told,) = import_errors(tmp_path / "wrong.py").values()
        assert "Task 'group.ask': dry_run must be True or False, not 'false'" in told

    def test_the_error_that_names_the_task_is_the_same_otherwise(self):
        error = refused(ask, prompt="x", request={"temperature": 3})
        assert (error.path, error.keyword) == ("$.temperature", "maximum")

    def test_when_it_runs_airflow_names_the_task(self, airflow, chat):
        with airflow.dag():
            ask(prompt="x", timeout="{{ -1 }}")
        airflow.run()
        assert airflow.error().message.startswith("timeout must")


class TestRules:
    """The rules hold on what is known."""

    BREAKS = (
        ({"max_tokens": 0, "temperature": "{{ params.t }}"}, "$.max_tokens"),
        ({"max_completion_tokens": -5}, "$.max_completion_tokens"),
    )
    # At another server than OpenAI's each of these is taken, or makes no difference.
    SOMEWHERE_TAKEN = (
        {"top_logprobs": 2},
        {"modalities": ["text", "audio"]},
        {"tool_choice": "auto"},
        {"parallel_tool_calls": False},
        {"max_tokens": 5, "max_completion_tokens": 5},
        {"tools": [{"type": "function", "function": {"name": "mail.send"}}]},
    )

    @pytest.mark.parametrize(("request_", "path"), BREAKS)
    def test_a_broken_one_breaks_the_import(self, request_, path):
        assert refused(ask, prompt="x", request=request_).path == path
        with DAG("mapped", schedule=None):
            assert refused(ChatCompletionOperator.partial, task_id="ask", request=request_).path == path
        assert refused(batch, request=request_).path == path

    @pytest.mark.parametrize("request_", SOMEWHERE_TAKEN)
    def test_what_some_server_takes_breaks_no_import_and_is_refused_where_openai_is_asked(self, request_):
        ask(prompt="x", request=request_)
        whole = {"model": "m", "messages": [{"role": "user", "content": "x"}], **request_}
        with pytest.raises(InvalidRequest):
            check_rules(whole, base_url="https://api.openai.com/v1")

    @pytest.mark.parametrize(
        "request_",
        [
            {"top_logprobs": 2, "logprobs": "{{ params.x }}"},
            {"top_logprobs": "{{ params.x }}"},
            {"modalities": "{{ params.x }}", "audio": {"voice": "alloy", "format": "mp3"}},
            {"tool_choice": {"type": "function", "function": {"name": "f"}}, "tools": "{{ params.x }}"},
        ],
    )
    def test_what_a_template_may_mend_passes(self, request_):
        ask(prompt="x", request=request_)

    def test_what_a_function_may_add_passes(self, airflow, chat):
        with airflow.dag():

            @chat_completion(request={"top_logprobs": 2})
            def ask():
                return {"logprobs": True, "messages": [{"role": "user", "content": "x"}]}

            ask()
        assert airflow.run().state == "success"

    def test_nothing_is_checked_of_a_schema_that_is_known_later(self):
        ask(prompt="x", request={"logprobs": "true", "top_logprobs": 2}, request_schema="{{ params.schema }}")
