"""DAGs in which a model picks, for a whole Airflow: the server answers each prompt with the prompt itself."""

import json

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task, task_group

from airflow_chat_provider.decorators import chat_completion_branch
from airflow_chat_provider.operators import ChatCompletionBranchOperator

MODEL = "echo"


def picks(name):
    """What the model answers to pick a task."""
    return json.dumps({"branch": name})


def choose(pick, **arguments):
    return ChatCompletionBranchOperator(task_id="choose", model=MODEL, prompt=picks(pick), **arguments)


@task
def some():
    return [1, 2]


@task
def prompts():
    return [picks("each.a"), picks("each.b")]


def leaf(name):
    @task(task_id=name)
    def run(x=None):
        return x

    return run


@task_group
def two(x):
    leaf("first")(x) >> leaf("second")()


def mapped_after(name, **arguments):
    with DAG(name, schedule=None):
        given = some()
        listed = two.override(group_id="listed")
        found = two.override(group_id="found")
        after = [
            leaf("a")(),
            leaf("b")(),
            leaf("over_list").expand(x=[1, 2]),
            leaf("over_xcom").expand(x=given),
            listed.expand(x=[1, 2]),
            found.expand(x=given),
        ]
        given >> choose("a", **arguments) >> after >> EmptyOperator(task_id="join", trigger_rule="none_failed")


mapped_after("branch_sync")
mapped_after("branch_deferred", deferrable=True)

for name, over in {
    "branch_in_group_over_list": [picks("each.a"), picks("each.b")],
    "branch_in_group_over_xcom": None,
}.items():
    with DAG(name, schedule=None):

        @task_group
        def each(x):
            choose = ChatCompletionBranchOperator(task_id="choose", model=MODEL, prompt=x)
            after = [leaf("a")(), leaf("b")()]
            choose >> after >> EmptyOperator(task_id="join", trigger_rule="none_failed_min_one_success")
            after[1] >> leaf("after_b")()

        each.expand(x=over or prompts())

with DAG("branch_mapped", schedule=None):

    @chat_completion_branch(task_id="choose", model=MODEL)
    def choose_each(x):
        return picks(x)

    choose_each.expand(x=["a", "each"]) >> [leaf("a")(), leaf("each").expand(x=[1, 2])]

with DAG("branch_torn", schedule=None):
    make = leaf("make")().as_setup()
    of_a, of_b = leaf("of_a")().as_setup(), leaf("of_b")().as_setup()
    a, b = leaf("a")(), leaf("b")()
    of_a >> a
    of_b >> b
    make >> (chosen := choose("a")) >> [a, b, of_a, of_b]
    [chosen, b] >> leaf("clean")().as_teardown(setups=make)
    b >> leaf("clean_b")().as_teardown(setups=of_b)
