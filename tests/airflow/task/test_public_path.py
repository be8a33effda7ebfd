"""Operators go by the path that users import them from, wherever their code lies."""

import pickle
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.serialization import serialized_objects

from airflow_chat_provider import decorators, operators
from airflow_chat_provider.decorators import chat_completion, chat_completion_branch

NAME = "DagSerialization" if hasattr(serialized_objects, "DagSerialization") else "SerializedDAG"  # before Airflow 3.2
SERIALIZER: Any = getattr(serialized_objects, NAME)


def question():
    return "Hi"


@pytest.fixture
def dag():
    with DAG("public", schedule=None) as dag:
        operators.ChatCompletionOperator(task_id="plain", prompt="Hi")
        operators.ChatCompletionOperator.partial(task_id="mapped").expand(prompt=["Hi"])
        operators.ChatCompletionBatchOperator(task_id="batch", input=[], output="/tmp/out", prompt="Hi")
        operators.ChatCompletionBranchOperator(task_id="branch", prompt="Hi")
        chat_completion(question, task_id="decorated")()
        chat_completion_branch(question, task_id="decorated_branch")()
    return dag


@pytest.mark.parametrize(
    ("module", "task_ids"),
    [(operators, ["plain", "mapped", "batch", "branch"]), (decorators, ["decorated", "decorated_branch"])],
    ids=["operators", "decorators"],
)
def test_a_serialized_dag_names_the_public_path(dag, module, task_ids):
    tasks = {one["__var"]["task_id"]: one["__var"] for one in SERIALIZER.to_dict(dag)["dag"]["tasks"]}
    for task_id in task_ids:
        assert tasks[task_id]["_task_module"] == module.__name__
        assert getattr(module, tasks[task_id]["task_type"]).__name__ == tasks[task_id]["task_type"]


def test_a_logger_has_the_public_path_in_its_name(dag):
    names = {task_id: dag.get_task(task_id).log.name for task_id in ("plain", "batch", "branch")}
    assert all("airflow_chat_provider.operators.ChatCompletion" in name for name in names.values()), names


@pytest.mark.parametrize("name", operators.__all__)
def test_a_class_is_pickled_by_its_public_path(name):
    pickled = pickle.dumps(getattr(operators, name))
    assert b"airflow_chat_provider.operators" in pickled
    assert pickle.loads(pickled) is getattr(operators, name)
