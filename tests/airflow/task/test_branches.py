"""Branches: what is offered to the model, and what is skipped for its choice. system/test_scheduler.py has the rest."""

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup, task, task_group

from airflow_chat_provider.decorators import chat_completion_branch
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBranchOperator
from airflow_chat_provider.task.branch import Downstream
from airflow_chat_provider.testing import replies
from tests.support.asking import sent

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # before Airflow 3.2
    from airflow.models.dagbag import DagBag  # type: ignore[no-redef]


def choose(**arguments):
    return ChatCompletionBranchOperator(task_id="ask", prompt="Which?", **arguments)


def leaf(name, **arguments):
    return EmptyOperator(task_id=name, **arguments)


def offered(chat):
    return sent(chat)["response_format"]["json_schema"]["schema"]["properties"]["branch"]["enum"]


def told(chat, name):
    chat.default = replies.ok_json({"branch": name})


def with_teardown(**arguments):
    """A teardown directly after the branch, and no other task of it there."""
    make, ask = leaf("make").as_setup(), choose(**arguments)
    make >> ask >> [leaf("a"), leaf("b")]
    ask >> leaf("clean").as_teardown(setups=make)


class TestMapped:
    """Over lists in the DAG: these tasks are expanded before the branch runs."""

    @pytest.fixture(params=["operator", "mapped operator", "function", "mapped function"])
    def asks(self, request):
        """The branch in each of its forms."""
        if request.param == "operator":
            return choose
        if request.param == "mapped operator":
            return lambda: ChatCompletionBranchOperator.partial(task_id="ask").expand(prompt=["Which?"] * 2)

        @chat_completion_branch()
        def ask(text="Which?"):
            return text

        return ask if request.param == "function" else lambda: ask.expand(text=["Which?"] * 2)

    def test_tasks_that_were_not_picked_are_skipped_whatever_form_the_branch_has(self, airflow, chat, asks):
        told(chat, "a")
        with airflow.dag():

            @task
            def follow(x): ...

            asks() >> [follow.override(task_id=name).expand(x=[1, 2]) for name in ("a", "b")]
        run = airflow.run()
        assert run.state == "success"
        assert (run.states()["a"], run.states()["b"]) == ("success", "skipped")

    def test_groups_that_were_not_picked_are_skipped(self, airflow, chat):
        told(chat, "a")
        with airflow.dag():

            @task_group
            def group(x):
                leaf("first") >> leaf("second")

            choose(branches=["a", "b"]) >> [group.override(group_id=name).expand(x=[1, 2]) for name in ("a", "b")]
        states = airflow.run().states()
        assert (states["a.first"], states["a.second"]) == ("success", "success")
        assert (states["b.first"], states["b.second"]) == ("skipped", "skipped")


class TestSetupAndTeardown:
    def test_a_teardown_is_not_offered_and_runs_whatever_is_picked(self, airflow, chat):
        told(chat, "a")
        with airflow.dag():
            with_teardown()
        states = airflow.run().states()
        assert offered(chat) == ["a", "b"]
        assert (states["a"], states["b"], states["clean"]) == ("success", "skipped", "success")

    def test_a_teardown_is_not_offered_as_a_tool(self, airflow, chat):
        chat.default = replies.tool_calls([("a", {}), ("b", {})])
        with airflow.dag():
            with_teardown(choose_by="tool")
        run = airflow.run()
        assert [tool["function"]["name"] for tool in sent(chat)["tools"]] == ["a", "b"]
        assert {run.states()[name] for name in ("a", "b", "clean")} == {"success"}
        assert (run.xcoms()["return_value"], run.xcoms()["arguments"]) == (["a", "b"], {"a": {}, "b": {}})

    def test_it_runs_where_nothing_is_picked(self, airflow, chat):
        chat.default = replies.error(422, "no")
        with airflow.dag():
            with_teardown(check_status=False)
        run = airflow.run()
        states = run.states()
        assert (states["a"], states["b"], states["clean"]) == ("skipped", "skipped", "success")
        assert (run.xcoms()["return_value"], run.xcoms()["arguments"]) == ([], {})

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("clean", "'clean' is a teardown, which cannot be picked: it runs whatever is picked; it can pick from: a"),
            ("make", "'make' is a setup, which cannot be picked: name a task that needs it"),
        ],
    )
    def test_one_that_is_named_as_a_branch_breaks_the_import(self, tmp_path, name, why):
        file = tmp_path / "dags.py"
        file.write_text(
            "from airflow.sdk import DAG\n"
            "from airflow.providers.standard.operators.empty import EmptyOperator\n"
            "from airflow_chat_provider.operators import ChatCompletionBranchOperator\n"
            "with DAG('torn', schedule=None):\n"
            f"    ask = ChatCompletionBranchOperator(task_id='ask', prompt='Hi', branches=['a', {name!r}])\n"
            "    ask >> [EmptyOperator(task_id=name) for name in ('a', 'make', 'clean')]\n"
            "    ask.dag.get_task('make').as_setup() >> ask.dag.get_task('clean').as_teardown()\n"
        )
        (error,) = DagBag(str(file)).import_errors.values()
        assert f"Task 'ask': Correct branches: {why}" in error

    def test_one_that_a_mapped_branch_names_fails_before_anything_is_sent(self, airflow, chat):
        with airflow.dag():
            ask = ChatCompletionBranchOperator.partial(task_id="ask", branches=["a", "clean"]).expand(prompt=["Hi"])
            ask >> [leaf("a"), leaf("clean").as_teardown()]
        assert airflow.run().state == "failed"
        assert isinstance(airflow.error(), InvalidRequest)
        assert "'clean' is a teardown" in airflow.error().message
        assert chat.requests == []

    def test_with_nothing_else_downstream_there_is_nothing_to_ask_for(self, airflow, chat):
        with airflow.dag():
            choose() >> leaf("clean").as_teardown()
        airflow.run()
        assert "there is no task downstream that can be picked" in airflow.error().message
        assert chat.requests == []

    def test_a_group_that_begins_with_a_setup_is_offered_by_its_name(self, airflow, chat):
        told(chat, "large")
        with airflow.dag():
            groups = []
            for name in ("large", "small"):
                with TaskGroup(name) as group:
                    begin = leaf("begin").as_setup()
                    begin >> leaf("work") >> leaf("end").as_teardown(setups=begin)
                groups.append(group)
            choose() >> [*groups, leaf("none")]
        states = airflow.run().states()
        assert offered(chat) == ["large", "none", "small"]
        assert {states[f"large.{name}"] for name in ("begin", "work", "end")} == {"success"}
        assert {states[f"small.{name}"] for name in ("begin", "work", "end")} == {"skipped"}


class TestFollowed:
    """Which tasks directly downstream run, by what is picked."""

    @pytest.fixture
    def ask(self):
        with DAG("followed", schedule=None):
            yield choose()

    def test_a_join_runs_with_each_of_its_branches(self, ask):
        a, b, join = leaf("a"), leaf("b"), leaf("join")
        ask >> [a, b, join]
        [a, b] >> join
        assert Downstream(ask).followed(["a"]) == {"a", "join"}
        assert Downstream(ask).followed(["join"]) == {"join"}
        assert Downstream(ask).followed([]) == set()

    def test_a_setup_runs_for_the_tasks_that_need_it(self, ask):
        first, second, a, b = leaf("first").as_setup(), leaf("second").as_setup(), leaf("a"), leaf("b")
        ask >> [first, second, a, b]
        first >> second >> a
        assert Downstream(ask).followed(["a"]) == {"first", "second", "a"}
        assert Downstream(ask).followed(["b"]) == {"b"}
        assert Downstream(ask).offered == ["a", "b"]

    def test_a_setup_brings_none_of_the_others_that_need_it(self, ask):
        of_both, a, b = leaf("of_both").as_setup(), leaf("a"), leaf("b")
        ask >> [of_both, a, b]
        of_both >> [a, b]
        assert Downstream(ask).followed(["a"]) == {"of_both", "a"}

    def test_a_setup_that_serves_no_choice_runs(self, ask):
        lone, a, b = leaf("lone").as_setup(), leaf("a"), leaf("b")
        ask >> [lone, a, b]
        lone >> leaf("always")
        assert Downstream(ask).followed(["a"]) == {"lone", "a"}

    def test_a_setup_that_begins_a_group_runs_with_the_group(self, ask):
        join = leaf("join")
        with TaskGroup("group") as group:
            leaf("begin").as_setup() >> leaf("work") >> join
        ask >> [group, leaf("a"), join]
        assert Downstream(ask).followed(["a"]) == {"a"}
        assert Downstream(ask).followed(["join"]) == {"join"}
        assert Downstream(ask).followed(["group.begin"]) == {"group.begin", "join"}

    def test_a_teardown_brings_nothing_that_comes_after_it(self, ask):
        a, b, clean = leaf("a"), leaf("b"), leaf("clean").as_teardown()
        ask >> [a, b, clean]
        clean >> b
        assert Downstream(ask).followed(["a"]) == {"a", "clean"}

    def test_a_group_without_a_task_of_its_own_cannot_be_picked(self, ask):
        with TaskGroup("empty"):
            pass
        with TaskGroup("clean") as clean:
            leaf("end").as_teardown()
        ask >> [clean, leaf("a")]
        assert Downstream(ask).possible == {"a"}


def test_a_dry_run_picks_nothing_and_returns_its_plan(airflow, chat):
    with airflow.dag():
        choose(dry_run=True) >> [leaf("a"), leaf("b")]
    run = airflow.run()
    assert (run.state, run.states()["a"], run.states()["b"]) == ("success", "skipped", "skipped")
    plan = run.xcoms()["return_value"]
    assert (plan["dry_run"], plan["model"]) == (True, "test-model")
    assert plan["request"]["response_format"]["type"] == "json_schema"
    assert chat.requests == []


def test_a_branch_leaves_what_it_says_and_no_journal(airflow, chat):
    told(chat, "a")
    with airflow.dag():
        with_teardown()
    left = {"body", "status", "usage", "configuration", "messages", "return_value", "arguments", "skipmixin_key"}
    assert set(airflow.run().xcoms()) == left
