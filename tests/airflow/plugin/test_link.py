"""The link "Conversation" on a task instance: on our operators and what users make of them, and on nothing else."""

from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.sdk import DAG, BaseOperator, BaseOperatorLink
from airflow.serialization import serialized_objects

from airflow_chat_provider import operators
from airflow_chat_provider.decorators import chat_completion, chat_completion_branch
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.task import taskflow
from airflow_chat_provider.task.link import OPERATOR_NAMES, ConversationLink
from airflow_chat_provider.testing import replies

# The second name is that before Airflow 3.2.
NAME = "DagSerialization" if hasattr(serialized_objects, "DagSerialization") else "SerializedDAG"
SERIALIZATION: Any = getattr(serialized_objects, NAME)
KEY = "_link_ConversationLink"
CLASSES = [
    *(getattr(operators, name) for name in operators.__all__),
    taskflow.ChatCompletionDecoratedOperator,
    taskflow.ChatCompletionBranchDecoratedOperator,
]


class Mine(ChatCompletionOperator):
    pass


class Docs(BaseOperatorLink):
    name = "Docs"

    def get_link(self, operator, *, ti_key):
        return "https://example.com"


class Documented(Mine):
    operator_extra_links = (Docs(),)


class OwnConversation(BaseOperatorLink):
    name = "Conversation"

    def get_link(self, operator, *, ti_key):
        return "https://example.com/conversation"


class Replaced(ChatCompletionOperator):
    operator_extra_links = (OwnConversation(),)


class Computed(ChatCompletionOperator):
    @property
    def operator_extra_links(self):  # type: ignore[override]
        return [Docs()]


class Operator(BaseOperator):
    """Its name is a part of ours."""

    def __init__(self, text="", **kwargs):
        super().__init__(**kwargs)
        self.text = text

    def execute(self, context):
        pass


class ChatCompletionBatchOperator(Operator):
    """Somebody else's, by the same name."""


def question():
    return "Hi"


@pytest.fixture(scope="module")
def tasks():
    """As the API server has them."""
    with DAG("linked", schedule=None) as dag:
        ChatCompletionOperator(task_id="plain", prompt="Hi")
        operators.ChatCompletionBatchOperator(task_id="batch", input=[], output="/tmp/out", prompt="Hi")
        operators.ChatCompletionBranchOperator(task_id="branch", prompt="Hi")
        chat_completion(question, task_id="decorated")()
        chat_completion_branch(question, task_id="decorated_branch")()
        ChatCompletionOperator.partial(task_id="mapped").expand(prompt=["Hi"])
        chat_completion(lambda text: text, task_id="mapped_decorated").expand(text=["Hi"])  # type: ignore[attr-defined]
        Mine(task_id="mine", prompt="Hi")
        Mine.partial(task_id="mine_mapped").expand(prompt=["Hi"])
        Documented(task_id="documented", prompt="Hi")
        Replaced(task_id="replaced", prompt="Hi")
        Computed(task_id="computed", prompt="Hi")
        for foreign in (Operator, ChatCompletionBatchOperator):
            foreign(task_id=f"foreign_{foreign.__name__}")
            foreign.partial(task_id=f"foreign_mapped_{foreign.__name__}").expand(text=["Hi"])
    return {task.task_id: task for task in SERIALIZATION.from_dict(SERIALIZATION.to_dict(dag)).tasks}


def address(task, **where):
    given = {"dag_id": "linked", "task_id": task.task_id, "run_id": "a run", "try_number": 1, "map_index": -1}
    instance = SimpleNamespace(key=TaskInstanceKey(**(given | where)), region_id=UUID(int=0))
    return urlsplit(task.get_extra_links(instance, "Conversation"))


OURS = ["plain", "batch", "branch", "decorated", "decorated_branch", "mapped", "mapped_decorated"]


@pytest.mark.parametrize("task_id", OURS)
def test_each_of_our_operators_has_the_link_without_anything_in_the_database(tasks, task_id):
    assert list(tasks[task_id].extra_links) == ["Conversation"]
    link = address(tasks[task_id], map_index=3)
    assert link.path == "chat/conversation"
    wanted = {"dag_id": ["linked"], "run_id": ["a run"], "task_id": [task_id], "map_index": ["3"]}
    assert parse_qs(link.query) == wanted


def test_ids_are_encoded_whatever_is_in_them(tasks):
    ids = {"dag_id": "ä &=#", "run_id": "manual__2026-11-27T10:00:00.5+00:00/a%2F?"}
    link = address(tasks["plain"], **ids)
    assert not set(link.query) & set(" +:/#?")
    assert {name: values[0] for name, values in parse_qs(link.query).items()}.items() >= ids.items()


@pytest.mark.parametrize("name", ["Operator", "ChatCompletionBatchOperator"])
def test_no_other_operator_has_it_whatever_its_name_is(tasks, name):
    assert not tasks[f"foreign_{name}"].extra_links
    assert not tasks[f"foreign_mapped_{name}"].extra_links


@pytest.mark.parametrize(
    ("task_id", "names"),
    [
        ("mine", ["Conversation"]),
        ("mine_mapped", ["Conversation"]),
        ("documented", ["Conversation", "Docs"]),
        ("replaced", ["Conversation"]),
        ("computed", ["Docs"]),
    ],
)
def test_a_users_subclass_has_it_beside_its_own(tasks, task_id, names):
    assert list(tasks[task_id].extra_links) == names


def test_a_subclass_keeps_its_own_link_of_that_name():
    assert [type(link) for link in Replaced.operator_extra_links] == [OwnConversation]


def test_the_link_knows_all_our_operators_by_the_names_that_airflow_has_for_them():
    known = {(operator.__name__, operator.__module__) for operator in ConversationLink.operators}
    assert known == {(one.__name__, one.__module__) for one in CLASSES}
    assert set(OPERATOR_NAMES) == {getattr(one, "custom_operator_name", one.__name__) for one in CLASSES}


def test_a_worker_leaves_the_address_for_a_subclass_and_nothing_for_our_own(airflow, server, connect):
    connect(server.url)
    server.script(*[replies.ok("Hello")] * 2)
    with airflow.dag():
        ChatCompletionOperator(task_id="ours", model="m", prompt="Hi")
        Mine(task_id="mine", model="m", prompt="Hi")
    run = airflow.run()
    assert run.state == "success"
    assert not run.links("ours")
    link = urlsplit(run.links("mine")[KEY])
    assert link.path == "chat/conversation"
    assert parse_qs(link.query)["task_id"] == ["mine"]


def test_a_task_in_a_loop_is_named_by_its_region(tasks):
    where = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}
    instance = SimpleNamespace(**where, region_id=UUID(int=7), region_index=2)
    query = parse_qs(urlsplit(ConversationLink().get_link(None, ti_key=instance)).query)
    assert (query["region_id"], query["region_index"]) == ([str(UUID(int=7))], ["2"])
